"""Loops that a counter bounds keep all their states where these fit, and have the same gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

X = jnp.array([0.3, 0.9])


def loop(condition, start=0, step=1):
    """Make a function that runs a loop over (counter, state, change)."""

    def run(x):
        body = lambda c: (c[0] + step, 0.9 * jnp.cos(c[1]), 0.9 * jnp.cos(c[1]) - c[1])
        return jnp.sum(lax.while_loop(condition, body, (start, x, jnp.ones_like(x)))[1] ** 2)

    return run


def num_states(function, *args) -> int:
    """Count the states that the gradient stores, without the slot for work."""
    eqns = jax.make_jaxpr(dp.grad(function))(*args).eqns
    (forward,) = [eqn for eqn in eqns if eqn.primitive.name == "checkpointed_while"]
    return max(v.aval.shape[0] for v in forward.outvars if v.aval.ndim == 2) - 1


small = lambda c: jnp.max(jnp.abs(c[2])) < 1e-9
BOUNDED = {
    "less": (loop(lambda c: (c[0] < 30) & ~small(c)), 32),
    "less, the limit first": (loop(lambda c: (30 > c[0]) & ~small(c)), 32),
    "at most": (loop(lambda c: c[0] <= 8), 16),
    "exactly as many": (loop(lambda c: c[0] < 8), 8),
    "few": (loop(lambda c: c[0] < 1), 4),
    "none": (loop(lambda c: c[0] < -3), 4),
    "not done": (loop(lambda c: ~((c[0] >= 5) | small(c))), 8),
    "nested": (loop(lambda c: ~(small(c) | ~((c[0] < 20) & ~small(c)))), 32),
    "by three": (loop(lambda c: c[0] < 40, 1, 3), 16),
    "down": (loop(lambda c: c[0] > 0, 13, -2), 8),
    "the smaller of two": (loop(lambda c: (c[0] < 60) & (c[0] < 7)), 8),
}
UNBOUNDED = {
    "no counter": loop(lambda c: jnp.max(jnp.abs(c[2])) > 1e-3),
    "either": loop(lambda c: (c[0] < 5) | (jnp.max(jnp.abs(c[2])) > 1e-3)),
    "other than": loop(lambda c: c[0] != 30),
    "away from the limit": loop(lambda c: (c[0] < 30) & ~small(c), 29, -1),
    "too many": loop(lambda c: (c[0] < 65) & ~small(c)),
    "a counter of floats": loop(lambda c: c[0] < 30.0, 0.0, 1.0),
}


def unrolled(function, x):
    """Compute the gradient by JAX, of the iterations one by one."""
    with jax.disable_jit():
        return jax.grad(function)(x)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bounded_loop_keeps_as_many_states_as_it_can_have(name):
    function, states = BOUNDED[name]
    assert num_states(function, X) == states
    np.testing.assert_allclose(jax.jit(dp.grad(function))(X), unrolled(function, X), rtol=1e-5)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_loop_that_no_counter_bounds_keeps_the_usual_number(name):
    assert num_states(UNBOUNDED[name], X) == 64
    np.testing.assert_allclose(jax.jit(dp.grad(UNBOUNDED[name]))(X), unrolled(UNBOUNDED[name], X), rtol=1e-5)


def test_a_limit_that_is_not_known_is_no_bound():
    bounded_by = lambda x, n: loop(lambda c: c[0] < n)(x)
    assert num_states(bounded_by, X, 5) == 64
    assert num_states(lambda x: bounded_by(x, 5), X) == 8


def test_a_start_that_is_not_known_is_no_bound():
    assert num_states(lambda x, n: loop(lambda c: c[0] < 30, n)(x), X, 5) == 64


def test_a_limit_that_moves_is_no_bound():
    def run(x):
        body = lambda c: (c[0] + 1, c[1] + (c[0] < 60), 0.9 * jnp.cos(c[2]))
        return jnp.sum(lax.while_loop(lambda c: c[0] < c[1], body, (0, 5, x))[2] ** 2)

    assert num_states(run, X) == 64
    np.testing.assert_allclose(jax.jit(dp.grad(run))(X), unrolled(run, X), rtol=1e-5)


def test_fewer_checkpoints_than_iterations_are_kept_to():
    with dp.while_loop_memory(checkpoints=4):
        assert num_states(BOUNDED["less"][0], X) == 4
        np.testing.assert_allclose(dp.grad(BOUNDED["less"][0])(X), unrolled(BOUNDED["less"][0], X), rtol=1e-5)


def test_second_derivatives_and_batches_of_a_bounded_loop():
    function, _ = BOUNDED["less"]
    batch = jnp.stack([X, 3 * X, X - 2])
    by_step = jnp.stack([unrolled(function, x) for x in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(dp.grad(function)))(batch), by_step, rtol=1e-5)
    np.testing.assert_allclose(dp.grad(lambda xs: jnp.sum(jax.vmap(function)(xs)))(batch), by_step, rtol=1e-5)
    exact = jax.hessian(lambda x: jnp.sum(lax.fori_loop(0, 30, lambda i, x: 0.9 * jnp.cos(x), x) ** 2))(X)
    steps = loop(lambda c: c[0] < 30)
    for second in (dp.hessian(steps), jax.jit(dp.jacrev(dp.grad(steps)))):
        np.testing.assert_allclose(second(X), exact, atol=1e-5)
