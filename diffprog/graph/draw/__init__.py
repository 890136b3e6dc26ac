"""Drawings of a recording: text, SVG, Graphviz, and a page to walk through it."""

from diffprog.graph.draw.graphviz import dot
from diffprog.graph.draw.terminal import text
from diffprog.graph.draw.vector import svg
from diffprog.graph.draw.webpage import embedded, html

__all__ = ["dot", "embedded", "html", "svg", "text"]
