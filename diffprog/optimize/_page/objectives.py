"""Functions of two numbers that a page draws: some that everybody knows, and the caller's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.oracle import Counts, Oracle
from diffprog.optimize.problems.functions import DISTILL, HIMMELBLAU, RASTRIGIN, ROSENBROCK

NUM_STARTS = 11  # along each side of the view, from which minima are searched
NEWTON_STEPS = 40


class Objective(NamedTuple):
    """A function of two numbers and what to draw of it.

    Attributes:
      name: a word.
      title: what a reader sees.
      formula: as text.
      function: of an array (2,).
      start: where to begin.
      view: ((x low, x high), (y low, y high)).
      settings: step size and momentum with which the page opens; None for those with the best rate at the minimum.
    """

    name: str
    title: str
    formula: str
    function: Callable[[Any], Any]
    start: tuple[float, float]
    view: tuple[tuple[float, float], tuple[float, float]]
    settings: tuple[float, float] | None = None


def quadratic(v: jax.Array) -> jax.Array:
    """Compute a quadratic of eigenvalues 1 and 50, turned so that its long axis points along (4, 3)."""
    along, across = (4 * v[0] + 3 * v[1]) / 5, (4 * v[1] - 3 * v[0]) / 5
    return (along**2 + 50 * across**2) / 2


def two_wells(v: jax.Array) -> jax.Array:
    """Compute two wells with a saddle between them at 0, minima -1/4 at (0, 1) and (0, -1)."""
    return v[0] ** 2 / 2 + v[1] ** 4 / 4 - v[1] ** 2 / 2


BUILT_IN = (
    Objective(
        "quadratic", "Quadratic, κ = 50", "(u² + 50 v²) / 2,  5u = 4x + 3y,  5v = 4y - 3x", quadratic,
        (-1.1, 1.2), ((-1.6, 1.6), (-1.6, 1.6)), (0.02, 0.6),
    ),
    Objective(
        "valley", "Distill's bent valley", "(1 - x)² + 20 (3y - x²)²", DISTILL.function,
        (-1.21, 0.853), ((-2.0, 2.0), (-0.2667, 1.0667)), (0.003, 0.74),
    ),
    Objective(
        "rosenbrock", "Rosenbrock", "(1 - x)² + 100 (y - x²)²", ROSENBROCK.function,
        (-1.2, 1.0), ((-2.0, 2.0), (-1.0, 3.0)), (0.001, 0.9),
    ),
    Objective(
        "himmelblau", "Himmelblau: four minima", "(x² + y - 11)² + (x + y² - 7)²", HIMMELBLAU.function,
        (0.0, 0.0), ((-5.0, 5.0), (-5.0, 5.0)), (0.01, 0.5),
    ),
    Objective(
        "two_wells", "Two wells and a saddle", "x²/2 + y⁴/4 - y²/2", two_wells,
        (1.3, 0.02), ((-1.6, 1.6), (-1.6, 1.6)), (0.2, 0.5),
    ),
    Objective(
        "rastrigin", "Rastrigin: many minima", "20 + Σ (v² - 10 cos 2πv)", RASTRIGIN.function,
        (3.3, -2.3), ((-5.12, 5.12), (-5.12, 5.12)), (0.002, 0.8),
    ),
)  # fmt: skip


class Stationary(NamedTuple):
    """A minimum, and the quadratic that the function is next to it.

    Attributes:
      point: (2,).
      value: of the function.
      hessian: (2, 2).
      eigenvalues: (2,), the smaller first.
      eigenvectors: (2, 2), a column each.
    """

    point: np.ndarray
    value: float
    hessian: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


def find_minima(oracle: Oracle, view: Any, extra: np.ndarray) -> list[Stationary]:
    """Find the minima of a function in a window, by Newton steps from a grid of starts.

    Args:
      oracle: answers questions about the function.
      view: ((x low, x high), (y low, y high)).
      extra: further starts, (k, 2).

    Returns:
      Points with a positive definite Hessian and a gradient of 0 up to rounding, the lowest first.
    """
    (left, right), (bottom, top) = view
    dtype = oracle.lower.dtype
    sides = np.linspace(left, right, NUM_STARTS), np.linspace(bottom, top, NUM_STARTS)
    starts = np.concatenate([np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2), np.reshape(extra, (-1, 2))])
    size = np.array([right - left, top - bottom])
    ends, values, gradients, hessians = (
        np.asarray(x, np.float64) for x in _newton(oracle, jnp.asarray(starts, dtype), jnp.asarray(size / 10, dtype))
    )
    resolution = float(np.sqrt(np.finfo(dtype).eps))
    found: list[Stationary] = []
    for index in np.argsort(values):
        end, hessian = ends[index], hessians[index]
        if not (np.isfinite(values[index]) and np.all(np.isfinite(hessian))):
            continue
        eigenvalues, eigenvectors = np.linalg.eigh(hessian)
        step = np.abs(gradients[index]) @ np.abs(np.linalg.pinv(hessian))
        is_inside = left <= end[0] <= right and bottom <= end[1] <= top
        is_new = all(np.any(np.abs(end - other.point) > 1e-3 * size) for other in found)
        is_minimum = eigenvalues[0] > 2 * float(np.finfo(dtype).eps) * eigenvalues[1]
        if is_inside and is_new and is_minimum and np.all(step <= 10 * resolution * size):
            found.append(Stationary(end, float(values[index]), hessian, eigenvalues, eigenvectors))
    return found


@jax.jit
def _newton(oracle, starts, limit):
    """Go down from each start, along Newton's direction with all curvatures made positive."""

    def step(point, _):
        value, gradient, hessian, _ = oracle.with_hessian(point, Counts.none())
        curvatures, vectors = jnp.linalg.eigh(hessian)
        curvatures = jnp.maximum(jnp.abs(curvatures), jnp.finfo(point.dtype).eps * jnp.max(jnp.abs(curvatures)))
        curvatures = jnp.where(curvatures > 0, curvatures, 1)
        move = jnp.clip(-vectors @ ((vectors.T @ gradient) / curvatures), -limit, limit)
        lengths = jnp.asarray([1.0, 0.5, 0.1, 0.01, 1e-4], point.dtype)
        trials = point + lengths[:, None] * move
        values = jax.vmap(lambda trial: oracle.value(trial, Counts.none())[0])(trials)
        values = jnp.where(jnp.isfinite(values), values, jnp.inf)
        best = jnp.argmin(values)
        # Near the minimum values are equal up to rounding: the whole step is the more exact.
        whole = values[0] <= value + 10 * jnp.finfo(point.dtype).eps * jnp.abs(value)
        better = jnp.where(whole, trials[0], jnp.where(values[best] < value, trials[best], point))
        return better, None

    def search(start):
        end, _ = jax.lax.scan(step, start, None, NEWTON_STEPS)
        value, gradient, hessian, _ = oracle.with_hessian(end, Counts.none())
        return end, value, gradient, hessian

    return jax.vmap(search)(starts)
