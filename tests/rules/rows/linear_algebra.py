"""Rows of linear algebra."""

from tests.rules.rows.row import Row

LINEAR_ALGEBRA: list[Row] = []
