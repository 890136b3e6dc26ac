"""Linear algebra that JAX differentiates: factorizations, triangular and implicit solves."""
