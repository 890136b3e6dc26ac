"""Rough minima from many starts at once: a damped Newton method that falls from saddles, or gradient descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.optimize._search.oracle import Counts, Oracle

MAX_DENSE = 64  # parameters up to which whole Hessians are made
LEGS = (1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32)  # steps between the points of a path that are kept: 96 in all


class Settled(NamedTuple):
    """Where k starts have led.

    Attributes:
      points: (k, n), the ends.
      values: (k,).
      gradients: (k,), norms at the ends.
      paths: (len(LEGS) + 1, k, n), from the starts to the ends.
      is_falling: (k,), whether the last step was as long as is allowed: the function falls for ever.
    """

    points: jax.Array
    values: jax.Array
    gradients: jax.Array
    paths: jax.Array
    is_falling: jax.Array


class _State(NamedTuple):
    point: jax.Array
    value: jax.Array
    gradient: jax.Array
    damping: jax.Array
    is_capped: jax.Array


@jax.jit
def settle(oracle: Oracle, starts: jax.Array, reach: jax.Array) -> Settled:
    """Go down from each start.

    With at most `MAX_DENSE` parameters a step solves (|H| + damping) step = -gradient, where |H| has the absolute
    eigenvalues of the Hessian (Dauphin et al. 2014); with more, it goes down the gradient. It is taken if the value
    falls; the damping adapts. In units of `reach`, no step is longer than 1.

    Args:
      oracle: the function's.
      starts: (k, n).
      reach: (n,), how far each parameter may sensibly move.

    Returns:
      The ends.
    """
    size = starts.shape[1]
    ask = lambda point: oracle.value_and_gradient(point, Counts.none())[:2]

    def begin(point):
        value, gradient = ask(point)
        return _State(point, value, gradient, jnp.array(-1.0, point.dtype), jnp.array(False))

    def direction(state):
        scaled = state.gradient * reach  # in units of reach, where all parameters are alike
        if size <= MAX_DENSE:
            hessian = oracle.with_hessian(state.point, Counts.none())[2] * reach * reach[:, None]
            values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0))
            steepness = jnp.max(jnp.abs(values))
        else:
            values, vectors, steepness = jnp.zeros_like(scaled), None, jnp.zeros((), scaled.dtype)
        first = jnp.maximum(1e-3 * steepness, 1e-3 * jnp.linalg.norm(scaled))
        damping = jnp.where(state.damping < 0, first, state.damping)
        if vectors is None:
            step = -scaled / damping
        else:
            step = -vectors @ ((vectors.T @ scaled) / (jnp.abs(values) + damping))
        length = jnp.linalg.norm(step)
        cap = jnp.minimum(1, 1 / jnp.maximum(length, 1e-30))
        return step * cap * reach, damping, length > 1

    def step(_, state):
        move, damping, is_capped = direction(state)
        point = state.point + move
        value, gradient = ask(point)
        is_lower = (value < state.value) & jnp.all(jnp.isfinite(gradient))
        damping = jnp.where(is_lower, damping / 3, damping * 4)
        taken = _State(point, value, gradient, damping, is_capped)
        return jax.tree.map(lambda a, b: jnp.where(is_lower, a, b), taken, state._replace(damping=damping))

    def leg(states, num_steps):
        states = jax.lax.fori_loop(0, num_steps, jax.vmap(step, (None, 0)), states)
        return states, states.point

    states, path = jax.lax.scan(leg, jax.vmap(begin)(starts), jnp.array(LEGS))
    norms = jnp.linalg.norm(states.gradient, axis=1)
    return Settled(states.point, states.value, norms, jnp.concatenate([starts[None], path]), states.is_capped)


@jax.jit
def stationary_point(oracle: Oracle, start: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Look for a point where the gradient vanishes, of whatever kind, by plain Newton steps.

    Args:
      oracle: the function's.
      start: (n,), with n at most `MAX_DENSE`.

    Returns:
      The point, the gradient there (n,) and the Hessian (n, n); NaN where the steps lead nowhere.
    """

    def step(_, point):
        _, gradient, hessian, _ = oracle.with_hessian(point, Counts.none())
        return point - jnp.linalg.solve(hessian, gradient)

    point = jax.lax.fori_loop(0, 12, step, start)
    _, gradient, hessian, _ = oracle.with_hessian(point, Counts.none())
    return point, gradient, hessian
