"""A function of two numbers on a grid, with derivatives, so that a page can interpolate it between the points.

Between the points the page takes polynomials of degree 5 in each number that have the function's derivatives up to the
second in each at the corners: then curvatures are continuous, and exact at the points.
"""

import base64
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.oracle import Counts, Oracle

ROWS_AT_ONCE = 4  # of the grid, in one compiled call: what is in memory stays small


class Grid(NamedTuple):
    """A function at the points of a grid.

    Attributes:
      view: ((x low, x high), (y low, y high)).
      derivatives: (3, 3, size, size), by the order along x and along y, rows of points along y.
      error: largest error of the interpolation in the middles of the cells, as a part of the range of values.
    """

    view: Any
    derivatives: np.ndarray
    error: float

    def data(self) -> dict[str, Any]:
        """Write it for the page."""
        encoded = base64.b64encode(np.ascontiguousarray(self.derivatives, "<f8").tobytes()).decode("ascii")
        return {
            "size": self.derivatives.shape[-1],
            "view": self.view,
            "error": self.error,
            "derivatives": encoded,
        }


def measure_grid(oracle: Oracle, view: Any, size: int) -> Grid:
    """Compute a function and its derivatives on a grid.

    Args:
      oracle: answers questions about the function.
      view: ((x low, x high), (y low, y high)).
      size: points along each side.
    """
    xs, ys = (np.linspace(low, high, size) for low, high in view)
    derivatives = _measured(oracle, xs, ys, _derivatives)
    # A kink has no second derivative: there the surface is only as smooth as its values and slopes.
    derivatives[~np.isfinite(derivatives) & np.isfinite(derivatives[0, 0])] = 0
    true = _measured(oracle, (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2, _values)
    with np.errstate(invalid="ignore"):  # infinite values are no cells of the map
        differences = np.abs(_in_middles(derivatives, xs[1] - xs[0], ys[1] - ys[0]) - true)
    differences = differences[np.isfinite(differences)]
    values = derivatives[0, 0][np.isfinite(derivatives[0, 0])]
    spread = float(np.ptp(values)) if values.size else 0.0
    error = float(differences.max()) / spread if differences.size and spread > 0 else 0.0
    return Grid(view, derivatives, error)


def _measured(oracle, xs, ys, measure) -> np.ndarray:
    points = np.stack(np.meshgrid(xs, ys), axis=-1)
    blocks = [points[i : i + ROWS_AT_ONCE].reshape(-1, 2) for i in range(0, len(ys), ROWS_AT_ONCE)]
    parts = [np.asarray(measure(oracle, jnp.asarray(x, oracle.lower.dtype)), np.float64) for x in blocks]
    whole = np.concatenate(parts)
    return np.moveaxis(whole, 0, -1).reshape(*whole.shape[1:], len(ys), len(xs))


@jax.jit
def _values(oracle, points):
    return jax.vmap(lambda point: oracle.value(point, Counts.none())[0])(points)


@jax.jit
def _derivatives(oracle, points):
    """Compute all derivatives up to the second along each number: forward over our own reverse."""
    along_x, along_y = jnp.eye(2, dtype=points.dtype)

    def value_and_gradient(point):
        value, gradient, _ = oracle.value_and_gradient(point, Counts.none())
        return value, gradient

    def along(function, direction):
        return lambda point: jax.jvp(function, (point,), (direction,))[1]

    of_x = along(value_and_gradient, along_x)
    of_y = along(value_and_gradient, along_y)
    of_xy = along(of_x, along_y)
    of_xyy = along(of_xy, along_y)

    def at(point):
        value, (x, y) = value_and_gradient(point)
        (_, (xx, xy)), (_, (_, yy)), (_, (xxy, xyy)), (_, (xxyy, _)) = (f(point) for f in (of_x, of_y, of_xy, of_xyy))
        return jnp.stack([jnp.stack([value, y, yy]), jnp.stack([x, xy, xyy]), jnp.stack([xx, xxy, xxyy])])

    return jax.vmap(at)(points)


def _in_middles(derivatives: np.ndarray, width: float, height: float) -> np.ndarray:
    """Interpolate in the middle of each cell."""

    def halves(parts, step):
        value, slope, curvature = parts
        low, high = (slice(None), slice(None, -1)), (slice(None), slice(1, None))
        return (
            (value[low] + value[high]) / 2
            + step * (slope[low] - slope[high]) * 5 / 32
            + step**2 * (curvature[low] + curvature[high]) / 64
        )

    of_y = [halves(derivatives[:, order], width).T for order in range(3)]
    return halves(of_y, height).T
