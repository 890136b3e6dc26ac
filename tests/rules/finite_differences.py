"""Central differences, the oracle for what JAX does not differentiate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp


def weighted(fun):
    """The sum of all that `fun` returns with fixed random weights, a real number."""

    def loss(*args):
        rng = np.random.default_rng(7)
        leaves = jax.tree.leaves(fun(*args))
        return sum(jnp.sum(jnp.real(leaf * rng.uniform(0.5, 1.5, leaf.shape))) for leaf in leaves)

    return loss


def differences(loss, args, step):
    """The gradient of `loss` with respect to every argument, in JAX's convention for complex numbers."""

    def with_respect_to(i):
        x = args[i]

        def along(direction):
            move = step * direction.reshape(x.shape)
            changed = lambda by: loss(*args[:i], x + by, *args[i + 1 :])
            return (changed(move) - changed(-move)) / (2 * step)

        basis = jnp.eye(x.size, dtype=x.dtype)
        found = lax.map(along, basis)
        if jnp.iscomplexobj(x):
            found = found - 1j * lax.map(along, 1j * basis)
        return found.reshape(x.shape)

    return jax.jit(lambda: tuple(map(with_respect_to, range(len(args)))))()


def check(fun, *args, order=1, tolerance=1e-7, step=1e-5):
    """Compare `dp.grad`, eagerly and under `jit`, with differences of the weighted sum of what `fun` returns; with
    order 2 the gradient of the gradient's weighted sum too. The tolerance is relative to the largest element."""
    everything = tuple(range(len(args)))
    loss = weighted(fun)
    gradient = dp.grad(loss, everything)
    compiled = jax.jit(gradient)
    expected = differences(loss, args, step)
    assert_close(gradient(*args), expected, tolerance)
    assert_close(compiled(*args), expected, tolerance)
    if order == 2:
        total = weighted(gradient)
        assert_close(jax.jit(dp.grad(total, everything))(*args), differences(total, args, step), tolerance)


def assert_close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(float(jnp.max(jnp.abs(b))), 1e-3))


def jax_refuses(fun, *args):
    """Assert that `jax.grad` with respect to these arguments raises."""
    with pytest.raises((NotImplementedError, TypeError, ValueError)):
        jax.grad(weighted(fun), tuple(range(len(args))))(*args)
