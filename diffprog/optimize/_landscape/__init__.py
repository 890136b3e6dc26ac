"""Slices of an objective through a point: values on a grid, the path that led there, pictures and a page."""
