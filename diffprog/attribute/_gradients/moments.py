"""Means and variances over samples, one sample at a time (Welford 1962; Pebay 2008): no squares are subtracted."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffprog.attribute._core.question import Question, in_blocks
from diffprog.attribute._core.sweep import zeros


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """What is kept of the samples so far, of one example or of all.

    Attributes:
      number: of samples.
      mean: pytree.
      second: sums of squared deviations from the mean.
      fourth: sums of their fourth powers; None if they are not asked for.
      third: of their third powers, which the fourth needs.
    """

    number: jax.Array
    mean: Any
    second: Any
    third: Any = None
    fourth: Any = None

    def add(self, sample: Any) -> "Moments":
        """Take in one sample."""
        count = self.number + 1
        add = _add_to_two if self.fourth is None else _add_to_four
        leaves, tree = jax.tree.flatten(self.mean)
        parts = [jax.tree.leaves(part) for part in (self.second, self.third, self.fourth) if part is not None]
        rows = zip(jax.tree.leaves(sample), leaves, *parts, strict=True)
        new = [add(count, x.astype(mean.dtype), mean, *rest) for x, mean, *rest in rows]
        return Moments(count, *(jax.tree.unflatten(tree, list(part)) for part in zip(*new, strict=True)))

    def estimates(self, question: Question) -> tuple[Any, Any, Any]:
        """Estimate mean, variance without bias, and the standard error of the mean, of all examples of a question.

        With sums of fourth powers the error is that of the variance.
        """
        # In blocks: the bits of a row must not depend on how many others there are.
        return in_blocks(_estimates, self, question.count, question.block)

    def _variance(self) -> Any:
        return jax.tree.map(lambda second: second / self._per_example(second, 1), self.second)

    def _error_of_mean(self) -> Any:
        return jax.tree.map(lambda v: jnp.sqrt(v / self._per_example(v, 0)), self._variance())

    def _error_of_variance(self) -> Any:
        def error(second, fourth):
            count = self._per_example(second, 0)
            excess = fourth / count - (count - 3) / (count - 1) * (second / count) ** 2
            return jnp.sqrt(jnp.maximum(excess, 0) / count)

        return jax.tree.map(error, self.second, self.fourth)

    def _per_example(self, leaf, less):
        count = self.number.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
        return jnp.maximum(count - less, 1)


@jax.jit
def _estimates(moments):
    error = moments._error_of_mean() if moments.fourth is None else moments._error_of_variance()
    return moments.mean, moments._variance(), error


def _add_to_two(count, x, mean, second):
    difference = x - mean
    new = mean + difference / count.astype(mean.dtype)
    return new, second + difference * (x - new)


def _add_to_four(count, x, mean, second, third, fourth):
    n = count.astype(mean.dtype)
    difference = x - mean
    step = difference / n
    term = difference * step * (n - 1)
    fourth = fourth + term * step**2 * (n**2 - 3 * n + 3) + 6 * step**2 * second - 4 * step * third
    third = third + term * step * (n - 2) - 3 * step * second
    return mean + step, second + term, third, fourth


def no_samples(question: Question, to_four: bool = False) -> Moments:
    """Start for gradients of every example."""
    count = jnp.zeros(question.count, jnp.int32)
    rest = (zeros(question), zeros(question)) if to_four else (None, None)
    return Moments(count, zeros(question), zeros(question), *rest)
