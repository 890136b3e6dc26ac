"""Corners of functions: our derivatives and JAX's against mpmath and differences; see `python -m tests.corners -h`."""
