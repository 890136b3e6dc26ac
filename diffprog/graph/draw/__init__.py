"""Drawings of a recording."""

from diffprog.graph.draw.vector import svg
from diffprog.graph.draw.webpage import html

__all__ = ["html", "svg"]
