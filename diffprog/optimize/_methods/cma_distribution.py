"""The normal distribution that CMA-ES draws from, and how a ranked population moves it.

The formulas are those of Hansen's tutorial (arXiv:1604.00772), with negative weights. Where the author's own program
has since chosen another constant (the decay of the path of sigma, and when the path of C pauses), it is that one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

CONDITION_PART = 0.2  # of 1 / eps: the condition of C beyond which its eigenvectors are rounding errors


class Distribution(NamedTuple):
    """N(mean, sigma^2 C), with C = B diag(D^2) B' as of the last decomposition."""

    mean: jax.Array  # (n,)
    sigma: jax.Array
    sigma_path: jax.Array  # (n,), of steps made isotropic
    path: jax.Array  # (n,), of steps
    covariance: jax.Array  # (n, n), C
    axes: jax.Array  # (n, n), B: eigenvectors in columns
    lengths: jax.Array  # (n,), D
    generation: jax.Array  # int32
    decomposed: jax.Array  # int32, the generation at which B and D were made

    @classmethod
    def around(cls, mean: jax.Array, scale: jax.Array) -> "Distribution":
        """Make one with standard deviations (n,) along the coordinates."""
        zeros, none = jnp.zeros_like(mean), jnp.zeros((), jnp.int32)
        sigma = jnp.exp(jnp.mean(jnp.log(scale)))
        lengths = scale / sigma
        axes = jnp.eye(len(mean), dtype=mean.dtype)
        return cls(mean, sigma, zeros, zeros, jnp.diag(lengths**2), axes, lengths, none, none)

    def draw(self, key: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
        """Draw steps (number, n), and their squared lengths in the metric of C; sigma is not in them."""
        normal = jax.random.normal(key, (number, len(self.mean)), self.mean.dtype)
        return (normal * self.lengths) @ self.axes.T, jnp.sum(normal**2, axis=1)

    def deviations(self) -> jax.Array:
        """Compute the standard deviations (n,) along the coordinates."""
        return self.sigma * jnp.sqrt(jnp.diagonal(self.covariance))


def first_scale(sigma: float | None, point: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Compute the first standard deviations (n,): as told, or a quarter of the box, of the parameter, or of 1."""
    if sigma is not None:
        return jnp.full_like(point, sigma)
    width = upper - lower
    return jnp.where(jnp.isfinite(width) & (width > 0), width / 4, jnp.maximum(jnp.abs(point), 1) / 4)


class Rates(NamedTuple):
    """What depends on dimension and population alone: weights by rank, and learning rates."""

    weights: jax.Array  # (size,), best rank first; the positive ones sum to 1; 0 beyond the population
    effective: jax.Array  # the positive weights' effective number
    rank_one: jax.Array  # c_1
    rank_mu: jax.Array  # c_mu
    path: jax.Array  # c_c
    sigma: jax.Array  # c_sigma
    damping: jax.Array  # d_sigma

    @classmethod
    def of(cls, dimension: int, population: jax.Array, size: int, dtype) -> "Rates":
        """Compute them for a population of at most `size`."""
        n, number = dimension, population.astype(dtype)
        rank = jnp.arange(1, size + 1, dtype=dtype)
        raw = jnp.where(rank <= number, jnp.log((number + 1) / 2) - jnp.log(rank), 0)
        good, bad = jnp.maximum(raw, 0), jnp.minimum(raw, 0)
        good, bad = good / jnp.sum(good), bad / -jnp.sum(bad)
        effective, effective_bad = 1 / jnp.sum(good**2), 1 / jnp.sum(bad**2)
        rank_one = jnp.minimum(1, number / 6) * 2 / ((n + 1.3) ** 2 + effective)
        rank_mu = 2 * (effective + 1 / effective - 1.75) / ((n + 2) ** 2 + effective)
        rank_mu = jnp.minimum(1 - rank_one, rank_mu)
        no_decay = 1 + rank_one / rank_mu
        stays_definite = (1 - rank_one - rank_mu) / (n * rank_mu)
        trusted = 1 + 2 * effective_bad / (effective + 2)
        weights = good + bad * jnp.minimum(no_decay, jnp.minimum(stays_definite, trusted))
        sigma = (effective + 2) / (n + effective + 3)
        damping = 1 + 2 * jnp.maximum(0, jnp.sqrt((effective - 1) / (n + 1)) - 1) + sigma
        path = (4 + effective / n) / (n + 4 + 2 * effective / n)
        return cls(weights, effective, rank_one, rank_mu, path, sigma, damping)


def moved(old: Distribution, rates: Rates, steps: jax.Array, squares: jax.Array) -> Distribution:
    """Move a distribution to what a population says.

    Args:
      old: what it was drawn from.
      rates: of this population.
      steps: (size, n), as drawn, the best first.
      squares: (size,), their squared lengths in the metric of C.

    Returns:
      The next generation's distribution.
    """
    n, generation = len(old.mean), old.generation + 1
    step = jnp.maximum(rates.weights, 0) @ steps
    isotropic = ((step @ old.axes) / old.lengths) @ old.axes.T
    sigma_path = _walk(old.sigma_path, rates.sigma, rates.effective, isotropic)
    squared = jnp.sum(sigma_path**2) / (1 - (1 - rates.sigma) ** (2 * generation))
    goes_on = (squared / n < 2 + 4 / (n + 1)).astype(step.dtype)
    path = _walk(old.path, rates.path, rates.effective, goes_on * step)

    metric = jnp.where(rates.weights < 0, n / jnp.maximum(squares, jnp.finfo(step.dtype).tiny), 1)
    lost = (1 - goes_on) * rates.path * (2 - rates.path)
    kept = 1 + rates.rank_one * (lost - 1) - rates.rank_mu * jnp.sum(rates.weights)
    outer = (steps * (rates.weights * metric)[:, None]).T @ steps
    covariance = kept * old.covariance + rates.rank_one * jnp.outer(path, path) + rates.rank_mu * outer
    covariance = (covariance + covariance.T) / 2

    expected = n**0.5 * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # length of a standard normal vector
    growth = rates.sigma / rates.damping * (jnp.linalg.norm(sigma_path) / expected - 1)
    new = Distribution(
        old.mean + old.sigma * step,
        old.sigma * jnp.exp(jnp.minimum(1, growth)),
        sigma_path,
        path,
        covariance,
        old.axes,
        old.lengths,
        generation,
        old.decomposed,
    )
    is_due = generation - old.decomposed >= 1 / (10 * n * (rates.rank_one + rates.rank_mu))
    return jax.lax.cond(is_due, _decomposed, lambda same: same, new)


def is_ill_conditioned(distribution: Distribution) -> jax.Array:
    """Whether the axes differ by more than the type can tell."""
    lengths = distribution.lengths
    limit = CONDITION_PART / jnp.finfo(lengths.dtype).eps
    return ~(jnp.max(lengths) ** 2 < limit * jnp.min(lengths) ** 2)


def _walk(path, rate, effective, step):
    return (1 - rate) * path + jnp.sqrt(rate * (2 - rate) * effective) * step


def _decomposed(distribution):
    squares, axes = jnp.linalg.eigh(distribution.covariance)
    lengths = jnp.sqrt(jnp.maximum(squares, 0))
    return distribution._replace(axes=axes, lengths=lengths, decomposed=distribution.generation)
