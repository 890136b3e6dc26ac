"""The report of an evaluation: text, JSON and a page."""
