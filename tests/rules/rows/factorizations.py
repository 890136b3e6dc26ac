"""Rows of factorizations."""

from tests.rules.rows.row import Row

FACTORIZATIONS: list[Row] = []
