"""An objective along lines: values, slopes and curvatures, and where one of these jumps."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.oracle import Counts, Oracle

NUM_POINTS = 129  # an odd number: the middle is the point through which a line goes
CANDIDATES = 2  # intervals per line and order that are looked at closely


class Lines(NamedTuple):
    """Samples along lines through points, t from -1 to 1.

    Attributes:
      middles: (k, n), the points.
      directions: (k, n).
      values, slopes, curvatures: (k, NUM_POINTS) each, derivatives with respect to t.
      jumps: (3, k, CANDIDATES), for each order (value, slope, curvature) how much it jumps within the last interval of
        a bisection.
      first: (3, k, CANDIDATES), how much it changed unexpectedly within the first one.
      places: (3, k, CANDIDATES), t of the jumps.
    """

    middles: np.ndarray
    directions: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray
    jumps: np.ndarray
    first: np.ndarray
    places: np.ndarray


def sample(oracle: Oracle, middles: jax.Array, directions: jax.Array) -> Lines:
    """Sample lines, and narrow down where the samples change by more than their derivatives explain.

    Each interval is halved, and the half goes on in which the change is the less explained. Of a smooth function what
    is unexplained falls to an eighth with each halving, once the intervals are shorter than its features; of a jump it
    stays.
    """
    found = _sample(oracle, middles, directions)
    return Lines(*(np.asarray(x, np.float64) for x in (middles, directions, *found)))


@jax.jit
def _sample(oracle, middles, directions):
    halvings = 30 if middles.dtype == jnp.float64 else 11  # to the rounding of t

    def derivatives(middle, direction, t):
        value = lambda t: oracle.value(middle + t * direction, Counts.none())[0]
        slope = lambda t: jax.jvp(value, (t,), (jnp.ones_like(t),))
        (v, s), (_, c) = jax.jvp(slope, (t,), (jnp.ones_like(t),))
        return jnp.stack([v, s, c])

    def unexplained(a, b, width):  # of two triples of derivatives, at the ends of an interval
        change = b - a
        mean = (a + b) / 2
        return jnp.stack([change[0] - width * mean[1], change[1] - width * mean[2], change[2]])

    def narrow(middle, direction, order, start, width):
        at = partial(derivatives, middle, direction)

        def halve(_, carry):
            low, width, ends = carry
            half = width / 2
            center = at(low + half)
            left, right = (jnp.abs(unexplained(*pair, half))[order] for pair in ((ends[0], center), (center, ends[1])))
            goes_left = left > right
            low = jnp.where(goes_left, low, low + half)
            return low, half, jnp.where(goes_left, jnp.stack([ends[0], center]), jnp.stack([center, ends[1]]))

        first = jnp.stack([at(start), at(start + width)])
        low, last, ends = jax.lax.fori_loop(0, halvings, halve, (start, width, first))
        return unexplained(*first, width)[order], unexplained(*ends, last)[order], low + last / 2

    def line(middle, direction):
        t = jnp.linspace(-1, 1, NUM_POINTS, dtype=middle.dtype)
        width = t[1] - t[0]
        found = jax.vmap(partial(derivatives, middle, direction))(t)
        finite = jnp.where(jnp.isfinite(found), found, 0)
        apart = jnp.abs(jax.vmap(unexplained, (0, 0, None))(finite[:-1], finite[1:], width))
        worst = jax.lax.top_k(apart.T, CANDIDATES)[1]
        orders = jnp.arange(3)[:, None] + jnp.zeros_like(worst)
        each = jax.vmap(jax.vmap(lambda order, i: narrow(middle, direction, order, t[i], width)))
        first, last, places = each(orders, worst)
        return (*found.T, last, first, places)

    values, slopes, curvatures, last, first, places = jax.vmap(line)(middles, directions)
    return values, slopes, curvatures, *(jnp.moveaxis(x, 1, 0) for x in (last, first, places))
