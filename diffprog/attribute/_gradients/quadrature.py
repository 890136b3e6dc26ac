"""Rules of quadrature on [0, 1], correctly weighted."""

import numpy as np

from diffprog._util.numbers import check_count


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make nodes and weights that are exact for polynomials of degree 2 steps - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def midpoint(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the middles of equal intervals, of equal weight."""
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


def trapezoid(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make equidistant points from 0 to 1, of which the two ends have half the weight of the others."""
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


QUADRATURES = {"gauss_legendre": gauss_legendre, "midpoint": midpoint, "trapezoid": trapezoid}


def nodes_and_weights(quadrature: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the points and weights of a rule.

    Args:
      quadrature: a name of `QUADRATURES`.
      steps: number of points.

    Returns:
      Nodes in [0, 1], and weights whose sum is 1.

    Raises:
      ValueError: there is no such rule, or too few points for it.
    """
    if quadrature not in QUADRATURES:
        raise ValueError(f"quadrature must be one of {', '.join(map(repr, QUADRATURES))}; found {quadrature!r}")
    return QUADRATURES[quadrature](check_count(steps, "steps", 2 if quadrature == "trapezoid" else 1))
