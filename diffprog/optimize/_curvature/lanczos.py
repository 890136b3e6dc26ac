"""Lanczos on a Hessian that is never made: eigenvalues at both ends, with vectors and error bounds.

The basis is orthogonalized in full, twice per step: without that, eigenvalues that have converged come again and again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.oracle import Counts, Oracle

BLOCK_SIZE = 10  # steps per call of compiled code, after which convergence is looked at


class Krylov(NamedTuple):
    """An orthonormal basis in which the Hessian is tridiagonal.

    Attributes:
      basis: (m + 1, n); rows from `num_steps` on, but for the next one, are zero.
      diagonal: (m,).
      beside: (m,), the elements beside the diagonal; the last of `num_steps` belongs to the next vector.
      num_steps: products with the Hessian so far.
    """

    basis: jax.Array
    diagonal: jax.Array
    beside: jax.Array
    num_steps: jax.Array


class Ritz(NamedTuple):
    """Approximate eigenvalues, ascending, in float64.

    Attributes:
      values: (k,).
      coordinates: (k, k), the vectors as columns in the Krylov basis.
      errors: (k,): each value is within this of a true eigenvalue, rounding aside.
    """

    values: np.ndarray
    coordinates: np.ndarray
    errors: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Shares of the start vector in the eigenvectors: Gauss's quadrature of the spectrum."""
        return self.coordinates[0] ** 2


def begin(start: jax.Array, max_steps: int) -> Krylov:
    """Begin with a vector (n,), which need not be of length 1."""
    size = start.size
    basis = jnp.zeros((min(max_steps, size) + 1, size), start.dtype).at[0].set(start / jnp.linalg.norm(start))
    zeros = jnp.zeros(len(basis) - 1, start.dtype)
    return Krylov(basis, zeros, zeros, jnp.int32(0))


@jax.jit
def extend(oracle: Oracle, point: jax.Array, krylov: Krylov, end: jax.Array, key: jax.Array) -> Krylov:
    """Take steps until there are `end`, a whole number of at most m."""
    _, _, product, counts = oracle.linearized(point, Counts.none())
    epsilon = jnp.finfo(point.dtype).eps

    def apart(vector, basis):  # classical Gram-Schmidt, twice: enough (Giraud et al. 2005)
        vector = vector - basis.T @ (basis @ vector)
        return vector - basis.T @ (basis @ vector)

    def step(index, krylov):
        basis, diagonal, beside, _ = krylov
        image = product(basis[index], counts)[0]
        diagonal = diagonal.at[index].set(jnp.vdot(basis[index], image))
        vector = apart(image, basis)
        length = jnp.linalg.norm(vector)
        # An invariant subspace: go on in any other direction, as for eigenvalues that are equal.
        scale = jnp.maximum(jnp.max(jnp.abs(diagonal)), jnp.max(jnp.abs(beside)))
        ended = ~(length > 10 * epsilon * scale)
        other = apart(jax.random.normal(jax.random.fold_in(key, index), vector.shape, vector.dtype), basis)
        vector = jnp.where(ended, other / jnp.linalg.norm(other), vector / jnp.where(ended, 1, length))
        vector = jnp.where(index + 1 < vector.size, vector, 0)  # nothing is left
        return Krylov(
            basis.at[index + 1].set(vector), diagonal, beside.at[index].set(jnp.where(ended, 0, length)), index + 1
        )

    return jax.lax.fori_loop(krylov.num_steps, end, step, krylov)


def ritz(krylov: Krylov) -> Ritz:
    """Solve the tridiagonal problem."""
    size = int(krylov.num_steps)
    diagonal, beside = (np.asarray(x, np.float64)[:size] for x in (krylov.diagonal, krylov.beside))
    values, coordinates = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    left = 0.0 if size == krylov.basis.shape[1] else beside[-1]
    return Ritz(values, coordinates, np.abs(left * coordinates[-1]))


def lanczos(
    oracle: Oracle,
    point: jax.Array,
    start: jax.Array,
    key: jax.Array,
    *,
    num_largest: int = 1,
    num_smallest: int = 0,
    tolerance: float = 1e-4,
    max_steps: int = 100,
) -> tuple[Krylov, Ritz]:
    """Find the largest and the smallest eigenvalues of the Hessian at a point.

    Args:
      oracle: the function's.
      point: (n,).
      start: (n,), the first vector, not zero.
      key: random key, of the vectors to go on with where the Krylov space ends.
      num_largest: eigenvalues wanted at the upper end.
      num_smallest: eigenvalues wanted at the lower end.
      tolerance: errors to reach, over the largest absolute eigenvalue.
      max_steps: products to spend at most.

    Returns:
      The basis and all Ritz values; whether the wanted ones have converged is in their errors.
    """
    krylov = begin(start, max_steps)
    limit = len(krylov.diagonal)
    while True:
        end = min(int(krylov.num_steps) + BLOCK_SIZE, limit)
        krylov = extend(oracle, point, krylov, end, key)
        found = ritz(krylov)
        wanted = np.concatenate([found.errors[len(found.errors) - num_largest :], found.errors[:num_smallest]])
        enough = (
            end >= num_largest + num_smallest and np.max(wanted, initial=0) <= tolerance * np.abs(found.values).max()
        )
        if end == limit or enough or not np.all(np.isfinite(found.values)):
            return krylov, found


@jax.jit
def vectors(krylov: Krylov, coordinates: jax.Array) -> jax.Array:
    """Return eigenvectors as rows (k, n) for columns (m, k) of coordinates."""
    rows = coordinates.T.astype(krylov.basis.dtype) @ krylov.basis[: len(coordinates)]
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
