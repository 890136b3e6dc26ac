"""Linear algebra: small operations on matrices (`matrices`), and what the rules make of them.

Solves and triangular factorizations (`solves`), other factorizations (`factorizations`), eigenvalues and singular
values (`spectra`) with the gradients of their symmetric functions (`spectral_sums`), and whole functions of JAX whose
formulas have no right derivative (`determinants`, `equations`, `tridiagonal`).
"""

from diffprog._rules.linear_algebra import (  # noqa: F401
    determinants,
    equations,
    factorizations,
    solves,
    spectra,
    tridiagonal,
)
