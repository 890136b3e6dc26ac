"""How much the gradients of single examples differ, against their mean: the gradient noise scale."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._transforms.closures import lift
from diffprog._util.promotion import callers_promotion
from diffprog.optimize import _engine as engines
from diffprog.optimize._search.flat import Unflatten


class Noise(NamedTuple):
    """The gradient's noise over single examples.

    Attributes:
      num_examples: N.
      trace: of the covariance of the examples' gradients, divisor N.
      squared_norm: |mean gradient|^2.
      is_mean: whether the objective's gradient is the mean of the examples' gradients; else the scale means nothing.
    """

    num_examples: int
    trace: float
    squared_norm: float
    is_mean: bool

    @property
    def scale(self) -> float:
        """The batch beyond which larger ones stop helping (McCandlish et al. 2018), tr(Sigma) / |G|^2."""
        return self.trace / self.squared_norm if self.squared_norm > 0 else np.inf


def measure(
    objective: Callable[[Any, Any], Any],
    data: Any,
    point: jax.Array,
    unflatten: Unflatten,
    gradient: jax.Array,
    engine: str,
    batch_size: int,
) -> Noise:
    """Measure the noise of `objective(parameters, batch)` over batches of one example.

    Args:
      objective: the mean loss of a batch.
      data: pytree of arrays with the examples along the first axis.
      point: (n,).
      unflatten: from vectors to parameters.
      gradient: of all examples together, (n,).
      engine: whose gradients.
      batch_size: examples whose gradients are held at the same time.

    Returns:
      The noise.
    """
    rows = jax.tree.map(lambda x: jnp.asarray(x)[:, None], data)

    def loss(vector, row):
        return objective(unflatten(vector), row)

    with callers_promotion():
        program = lift(loss, point, jax.tree.map(lambda x: x[0], rows))
    count = len(jax.tree.leaves(rows)[0])
    total, squares = _deviations(program, point, rows, gradient, engine, min(batch_size, count))
    shift = np.asarray(total, np.float64) / count
    spread = max(float(squares) / count - float(shift @ shift), 0.0)
    squared = float(np.sum(np.asarray(gradient, np.float64) ** 2))
    # Sums of many terms in another order, each rounded.
    tolerance = 100 * float(jnp.finfo(point.dtype).eps) * (spread + squared) ** 0.5
    return Noise(count, spread, squared, bool(np.linalg.norm(shift) <= tolerance))


@partial(jax.jit, static_argnames=("engine", "batch_size"))
def _deviations(program, point, rows, mean, engine, batch_size):
    """Sum the differences of the examples' gradients from their mean, and the squares of these."""

    def gradient(row):
        with callers_promotion():
            return engines.value_and_grad(engine)(lambda x: program(x, row))(point)[1]

    def add(sums, rows):
        apart = jax.vmap(gradient)(rows) - mean
        return (sums[0] + jnp.sum(apart, axis=0), sums[1] + jnp.sum(apart**2)), None

    count = len(jax.tree.leaves(rows)[0])
    whole = count - count % batch_size
    blocks = jax.tree.map(lambda x: x[:whole].reshape(-1, batch_size, *x.shape[1:]), rows)
    sums, _ = jax.lax.scan(add, (jnp.zeros_like(point), jnp.zeros((), point.dtype)), blocks)
    if whole < count:
        sums, _ = add(sums, jax.tree.map(lambda x: x[whole:], rows))
    return sums
