"""Rows of references."""

from tests.rules.rows.row import Row

REFERENCES: list[Row] = []
