"""Primitives with a derivative of their own: hijax, linear calls."""
