"""Trace and density of a Hessian's spectrum, from products with random vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.draws import signs
from diffprog.optimize._curvature.lanczos import Krylov, begin, extend, ritz
from diffprog.optimize._search.oracle import Counts, Oracle


class Density(NamedTuple):
    """A spectrum as weighted points, whose moments are those of the eigenvalues.

    Attributes:
      values: (k,), ascending.
      weights: (k,), of sum 1: shares of the n eigenvalues.
      errors: (k,), standard errors of the cumulated weights over the random vectors; 0 where all eigenvalues are known.
    """

    values: np.ndarray
    weights: np.ndarray
    errors: np.ndarray

    def smooth(self, grid: np.ndarray, width: float | None = None) -> np.ndarray:
        """Draw each point as a normal density.

        Args:
          grid: eigenvalues at which the density is wanted.
          width: standard deviation; 1/50 of the spectrum's extent by default.

        Returns:
          The density at the grid, of integral 1 over the whole line.
        """
        extent = self.values[-1] - self.values[0]
        width = width or (extent / 50 or max(abs(self.values[0]), 1.0) / 50)
        distance = (np.asarray(grid, np.float64)[..., None] - self.values) / width
        return np.exp(-(distance**2) / 2) @ self.weights / (width * np.sqrt(2 * np.pi))


def trace(oracle: Oracle, point: jax.Array, krylov: Krylov, key: jax.Array, num_probes: int) -> tuple[float, float]:
    """Estimate the trace: exact on a basis Q that is known, by random signs on what is orthogonal to it.

    tr A = tr Q'AQ + E z'(I - QQ')A(I - QQ')z, the idea of Hutch++ with the Krylov space as the sketch. The basis does
    not depend on the random vectors, so the estimate is unbiased and its standard error is that of a mean.

    Args:
      oracle: the function's.
      point: (n,).
      krylov: the basis.
      key: random key.
      num_probes: random vectors, at least 2 unless the basis is the whole space.

    Returns:
      The trace and its standard error.

    References:
      Hutchinson 1990; Meyer, Musco, Musco & Woodruff 2021, "Hutch++: optimal stochastic trace estimation".
    """
    known = float(np.sum(np.asarray(krylov.diagonal, np.float64)[: int(krylov.num_steps)]))
    if int(krylov.num_steps) == krylov.basis.shape[1]:
        return known, 0.0
    if num_probes < 2:
        return np.nan, np.nan
    rest = np.asarray(_rest(oracle, point, krylov, jax.random.split(key, num_probes)), np.float64)
    return known + rest.mean(), rest.std(ddof=1) / num_probes**0.5


@jax.jit
def _rest(oracle, point, krylov, keys):
    _, _, product, counts = oracle.linearized(point, Counts.none())
    # The vector after the last step is orthogonal to the basis and may stay in it or not: here it is taken out.
    steps = jnp.arange(len(krylov.basis)) < krylov.num_steps
    basis = jnp.where(steps[:, None], krylov.basis, 0)

    def one(key):
        probe = signs(key, point.shape).astype(point.dtype)
        probe = probe - basis.T @ (basis @ probe)
        return jnp.vdot(probe, product(probe, counts)[0])

    return jax.lax.map(one, keys)


def density(
    oracle: Oracle, point: jax.Array, krylov: Krylov, key: jax.Array, num_probes: int, num_steps: int
) -> Density | None:
    """Estimate the density of eigenvalues by stochastic Lanczos quadrature.

    Args:
      oracle: the function's.
      point: (n,).
      krylov: a basis; if it is that of the whole space, the density is exact.
      key: random key.
      num_probes: random vectors; 0 for no density unless it is exact.
      num_steps: steps of Lanczos from each.

    Returns:
      The density, or None.

    References:
      Ubaru, Chen & Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature".
      Ghorbani, Krishnan & Xiao 2019, "An investigation into neural net optimization via Hessian eigenvalue density".
    """
    if int(krylov.num_steps) == krylov.basis.shape[1]:
        values = ritz(krylov).values
        return Density(values, np.full(len(values), 1 / len(values)), np.zeros(len(values)))
    if num_probes == 0:
        return None
    found = []
    for k in jax.random.split(key, num_probes):
        start = jax.random.normal(k, point.shape, point.dtype)
        probe = begin(start, num_steps)
        found.append(ritz(extend(oracle, point, probe, len(probe.diagonal), k)))
    values = np.concatenate([x.values for x in found])
    order = np.argsort(values, kind="stable")
    rows = np.zeros((num_probes, len(values)))  # each probe's own weights, at all the values
    first = 0
    for row, x in zip(rows, found, strict=True):
        row[first : first + len(x.values)] = x.weights
        first += len(x.values)
    cumulated = np.cumsum(rows[:, order], axis=1)
    spread = cumulated.std(axis=0, ddof=1) if num_probes > 1 else np.full(len(values), np.nan)
    return Density(values[order], rows[:, order].mean(axis=0), spread / num_probes**0.5)
