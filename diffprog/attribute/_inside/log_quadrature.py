"""Gauss's rule for the weight -ln z on [0, 1], the density of the product of two uniform numbers."""

from functools import cache

import numpy as np

from diffprog._util.numbers import check_count


def log_nodes_and_weights(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the points and weights with which polynomials of degree 2 steps - 1 are integrated exactly.

    Args:
      steps: number of points.

    Returns:
      Nodes in (0, 1), and weights whose sum is 1.

    References:
      Gautschi, "Orthogonal polynomials: computation and approximation", 2004: the modified Chebyshev algorithm, with
      moments of shifted Legendre polynomials; Golub & Welsch, "Calculation of Gauss quadrature rules", 1969.
    """
    return _rule(check_count(steps, "steps"))


@cache
def _rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    # Recurrence of the monic shifted Legendre polynomials.
    k = np.arange(2 * n)
    b = np.where(k > 0, 0.25 / (4.0 - 1.0 / np.maximum(k, 1) ** 2.0), 1.0)
    # Moments: of P*_k it is (-1)^k / (k (k + 1)), of P*_0 it is 1; monic ones are smaller by binomial(2 k, k).
    moments = np.ones(2 * n)
    scale = 1.0
    for i in range(1, 2 * n):
        scale *= i / (2.0 * (2 * i - 1))  # 1 / binomial(2 i, i)
        moments[i] = (-1) ** i * scale / (i * (i + 1.0))
    alpha, beta = np.zeros(n), np.zeros(n)
    before, now = np.zeros(2 * n), moments.copy()
    alpha[0], beta[0] = 0.5 + moments[1] / moments[0], moments[0]
    for i in range(1, n):
        after = np.zeros(2 * n)
        for j in range(i, 2 * n - i):
            after[j] = now[j + 1] - (alpha[i - 1] - 0.5) * now[j] - beta[i - 1] * before[j] + b[j] * now[j - 1]
        alpha[i] = 0.5 + after[i + 1] / after[i] - now[i] / now[i - 1]
        beta[i] = after[i] / now[i - 1]
        before, now = now, after
    off = np.sqrt(beta[1:])
    nodes, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))
    return nodes, beta[0] * vectors[0] ** 2
