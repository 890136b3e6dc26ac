"""Factorizations that JAX does not differentiate in reverse mode, and degenerate spectra."""
