"""The regularized incomplete gamma and beta functions, written out, and slopes of elementwise functions.

JAX has these as primitives without a derivative in their parameters. As series and continued fractions they have
tangents, and an elementwise function of few arguments needs no reverse mode: each of its slopes is one forward pass,
also through a loop whose length depends on the values.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

_MAX_STEPS = 10_000  # a few hundred are needed for parameters of ten thousand


@cache
def slope(function: Callable, i: int) -> Callable:
    """Differentiate a function in argument i; it is elementwise in arguments of one shape and dtype.

    The derivative can be differentiated again, in either mode and any number of times, and is compiled once.
    """

    @jax.jit
    def along(*xs):
        of_one = lambda x: function(*xs[:i], x, *xs[i + 1 :])
        return jax.jvp(of_one, xs[i : i + 1], (lax.full_like(xs[i], 1),))[1]

    derivative = jax.custom_jvp(along)

    def tangent(xs, tangents):
        known = _densities.get(function)
        inner = lambda k: slope(known, i) if known and k == len(xs) - 1 else slope(along, k)
        moved = [t * inner(k)(*xs) for k, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        return derivative(*xs), sum(moved)

    derivative.defjvp(tangent, symbolic_zeros=True)
    return derivative


# ---------------------------------------------------------------- densities


@jax.jit
def gamma_density(a, x):
    """Compute x^(a-1) exp(-x) / Gamma(a), the derivative of P(a, x) in x."""
    x = jnp.minimum(x, jnp.finfo(x.dtype).max)
    inside = x > 0
    interior = jnp.exp((a - 1) * jnp.log(jnp.where(inside, x, 1)) - x - lax.lgamma(a))
    return jnp.where(inside, interior, lax.pow(jnp.where(inside, 1, x), a - 1) * jnp.exp(-x - lax.lgamma(a)))


@jax.jit
def beta_density(a, b, x):
    """Compute x^(a-1) (1-x)^(b-1) / B(a, b), the derivative of I_x(a, b) in x."""
    inside = (x > 0) & (x < 1)
    safe, end = jnp.where(inside, x, 0.5), jnp.where(inside, 1, x)
    log_beta = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
    interior = jnp.exp((b - 1) * jnp.log1p(-safe) + (a - 1) * jnp.log(safe) - log_beta)
    return jnp.where(inside, interior, lax.pow(end, a - 1) * lax.pow(1 - end, b - 1) * jnp.exp(-log_beta))


# ---------------------------------------------------------------- incomplete gamma


def lower_gamma(a, x):
    """Compute P(a, x) for a > 0, x >= 0: its power series up to a + 1, the continued fraction of 1 - P beyond."""
    inside, series = x > 0, x <= a + 1
    x = jnp.where(inside, x, 1)
    density = jnp.exp(a * jnp.log(x) - x - lax.lgamma(a))
    below = density * _gamma_series(jnp.where(series, a, 1), jnp.where(series, x, 1))
    above = density * _gamma_fraction(jnp.where(series, 1, a), jnp.where(series, 3, x))
    return jnp.where(inside, jnp.where(series, below, 1 - above), 0)


def _gamma_series(a, x):
    """Sum the series of x^n / (a (a + 1) ... (a + n))."""

    def step(state):
        n, term, total = state
        term = term * x / (a + n)
        return n + 1, term, total + term

    rounding = np.finfo(x.dtype).eps / 64  # the tangents' terms are smaller by then too
    unfinished = lambda state: (state[0] < _MAX_STEPS) & jnp.any(state[1] > rounding * state[2])
    return lax.while_loop(unfinished, step, (jnp.ones((), x.dtype), 1 / a, 1 / a))[2]


def _gamma_fraction(a, x):
    """Compute 1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / (x + 5 - a - ...)))."""
    a, x = _beside_fractional(a), _twice(x)

    def factors(n):
        yield -n * (n - a), x + 2 * n + 1 - a

    return _fraction(factors, jnp.full_like(x, np.inf), 1 / (x + 1 - a))[0]


def _fraction(factors, c, first):
    """Compute a continued fraction by Lentz's method: `factors(n)` yields its n-th numerators and denominators."""
    rounding = 4 * np.finfo(first.dtype).eps

    def unfinished(state):
        n, *_, change = state
        return (n < _MAX_STEPS) & jnp.any(jnp.abs(change - 1) > rounding)

    def step(state):
        n, c, d, value, _ = state
        change = 1.0
        for numerator, denominator in factors(n):
            d = 1 / (denominator + numerator * d)
            c = denominator + numerator / c
            change = change * c * d
        return n + 1, c, d, value * change, change

    return lax.while_loop(unfinished, step, (jnp.ones((), first.dtype), c, first, first, jnp.zeros_like(first)))[3]


def _twice(x):
    return jnp.stack([x, x])


def _beside_fractional(a):
    """Put a number near by that is no integer beside `a`: at an integer a fraction ends, but its tangent does not.

    The steps that the second takes are enough for both.
    """
    return jnp.stack([a, jnp.floor(a) + 0.37])


# ---------------------------------------------------------------- incomplete beta


def incomplete_beta(a, b, x):
    """Compute I_x(a, b) for a, b > 0 and 0 <= x <= 1: the continued fraction of one of its tails (DLMF 8.17.22)."""
    inside, end = (x > 0) & (x < 1), x
    x = jnp.where(inside, x, 0.5)
    swapped = x > (a + 1) / (a + b + 2)
    a, b = jnp.where(swapped, b, a), jnp.where(swapped, a, b)
    x, rest = jnp.where(swapped, 1 - x, x), jnp.where(swapped, x, 1 - x)
    log_beta = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
    tail = jnp.exp(a * jnp.log(x) + b * jnp.log(rest) - log_beta) / a * _beta_fraction(a, b, x)
    return jnp.where(inside, jnp.where(swapped, 1 - tail, tail), lax.stop_gradient(end))


def _beta_fraction(a, b, x):
    """Compute 1 / (1 + d_1 / (1 + d_2 / (1 + ...)))."""
    a, b, x = _twice(a), _beside_fractional(b), _twice(x)

    def factors(n):
        yield n * (b - n) * x / ((a + 2 * n - 1) * (a + 2 * n)), 1
        yield -(a + n) * (a + b + n) * x / ((a + 2 * n) * (a + 2 * n + 1)), 1

    return _fraction(factors, jnp.ones_like(x), 1 / (1 - (a + b) * x / (a + 1)))[0]


# ---------------------------------------------------------------- samples of the gamma distribution


@jax.custom_jvp
@jax.jit
def gamma_sample_slope(a, x):
    """Compute how a sample x of Gamma(a, 1) moves with a: r = -(dP/da) / p, where p = dP/dx is its density."""
    return lax.random_gamma_grad(a, x)


@gamma_sample_slope.defjvp
def _gamma_sample_slope_tangent(primals, tangents):
    """From dp/da = p (log x - digamma(a)) and dp/dx = p ((a - 1) / x - 1)."""
    (a, x), (da, dx) = primals, tangents
    r = gamma_sample_slope(a, x)
    centered = jnp.log(x) - lax.digamma(a)
    density = jnp.exp((a - 1) * jnp.log(x) - x - lax.lgamma(a))
    along_a = -slope(slope(lower_gamma, 0), 0)(a, x) / density - r * centered
    along_x = -centered - r * ((a - 1) / x - 1)
    return r, along_a * da + along_x * dx


_densities = {lower_gamma: gamma_density, incomplete_beta: beta_density}
"""Derivatives in the last argument that are right at the ends too."""
