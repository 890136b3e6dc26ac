"""Numerical kernels that rules and networks share."""
