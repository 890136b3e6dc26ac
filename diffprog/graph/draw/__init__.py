"""Drawings of a recording."""

from diffprog.graph.draw.vector import svg

__all__ = ["svg"]
