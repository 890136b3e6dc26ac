"""Derivatives that JAX refuses in reverse mode, against equal programs that it takes, or finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def values(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def test_window_of_any_function():
    def product(x):
        return lax.reduce_window(x, 1.0, lax.mul, (2, 3), (1, 2), "VALID")

    def by_slices(x):
        parts = [x[i : i + 3, j : j + 3 : 2] for i in range(2) for j in range(3)]
        return jnp.prod(jnp.stack(parts), 0)

    x = values(4, 5)
    np.testing.assert_allclose(product(x), by_slices(x), rtol=1e-14)
    weights = values(3, 2, seed=1)
    ours = dp.grad(lambda x: jnp.sum(product(x) * weights))(x)
    np.testing.assert_allclose(ours, jax.grad(lambda x: jnp.sum(by_slices(x) * weights))(x), rtol=1e-13)


def test_dilated_max_pooling():
    def pooled(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID", window_dilation=(2,))

    x = values(6)
    ours = dp.grad(lambda x: jnp.sum(pooled(x) ** 2))(x)
    np.testing.assert_allclose(ours, jax.grad(lambda x: jnp.sum(jnp.maximum(x[:-2], x[2:]) ** 2))(x), rtol=1e-14)


def test_clamp_by_scalars():
    def whole(low, x, high):
        return jnp.sum(lax.clamp(low, x, high) ** 2)

    x = jnp.asarray([-2.0, -0.5, 0.5, 3.0])
    ours = dp.grad(whole, (0, 1, 2))(-1.0, x, 1.0)
    np.testing.assert_allclose(ours[0], 2 * -1.0)  # one element is at the lower bound
    np.testing.assert_allclose(ours[1], [0, -1.0, 1.0, 0])
    np.testing.assert_allclose(ours[2], 2 * 1.0)


def test_zeta_in_its_second_argument():
    ours = dp.grad(lambda q: lax.zeta(3.0, q))(1.7)
    step = 1e-5
    difference = (lax.zeta(3.0, 1.7 + step) - lax.zeta(3.0, 1.7 - step)) / (2 * step)
    np.testing.assert_allclose(ours, difference, rtol=1e-8)


def test_what_has_no_rule_says_so():
    with pytest.raises(NotImplementedError, match="unique"):
        dp.grad(lambda u: jnp.sum(jnp.ones(3).at[jnp.array([0, 0])].multiply(u)))(values(2))
    with pytest.raises(NotImplementedError, match="betainc"):
        dp.grad(lambda a: lax.betainc(a, 2.0, 0.3))(1.5)
    with pytest.raises(NotImplementedError, match="initial values"):
        dp.grad(lambda s: lax.reduce(jnp.ones(3), s, lambda a, b: a * b, (0,)))(1.0)
