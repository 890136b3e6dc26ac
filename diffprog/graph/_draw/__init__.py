"""Drawings of a recording: text, SVG, Graphviz, and a page to walk through it."""

from diffprog.graph._draw.graphviz import dot
from diffprog.graph._draw.terminal import text
from diffprog.graph._draw.vector import svg
from diffprog.graph._draw.webpage import embedded, html

__all__ = ["dot", "embedded", "html", "svg", "text"]
