"""Rows of effects."""

from tests.rules.rows.row import Row

EFFECTS: list[Row] = []
