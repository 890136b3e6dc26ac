"""Mutable arrays (refs)."""
