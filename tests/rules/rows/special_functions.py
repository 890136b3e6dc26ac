"""Rows of special functions."""

from tests.rules.rows.row import Row

SPECIAL_FUNCTIONS: list[Row] = []
