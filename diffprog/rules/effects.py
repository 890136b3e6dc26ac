"""Callbacks, prints, checks and logs."""
