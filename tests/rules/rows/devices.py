"""Rows of devices."""

from tests.rules.rows.row import Row

DEVICES: list[Row] = []
