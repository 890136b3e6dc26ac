"""Derivatives that JAX refuses in reverse mode, against equal programs that it takes, or finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src import dtypes

import diffprog as dp
from tests.rules.finite_differences import check, jax_refuses


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


def test_scatter_mul_with_repeated_indices():
    """The product over the updates of a place; a zero among them leaves the others a gradient of zero, itself not."""
    places = np.array([1, 3, 1, 1, 9])  # the last one is outside
    x, updates = values(4), values(5, seed=1).at[2].set(0.0)
    multiplied = lambda x, updates: x.at[places].multiply(updates)
    jax_refuses(multiplied, x, updates)
    check(multiplied, x, updates, order=2)
    check(lambda u: values(4, 2).at[places].multiply(u) ** 2, values(5, 2, seed=1))


@pytest.mark.parametrize("unique", [False, True])
def test_scatter_apply(unique):
    """f of the elements at the places, or f of f of them where a place comes twice."""
    places = np.array([1, 3]) if unique else np.array([1, 3, 1])
    applied = lambda x: x.at[places].apply(lambda v: jnp.sin(v) * v, unique_indices=unique) ** 2
    jax_refuses(applied, values(4))
    check(applied, values(4), order=2)


@pytest.mark.parametrize(("primal", "tangent"), [("float16", "float32"), ("float32", "float16")])
def test_extended_dtypes(primal, tangent):
    """A number type whose tangents are of another type: JAX differentiates it, under `jit`."""
    extended = dtypes.primal_tangent_dtype(np.dtype(primal), np.dtype(tangent))

    def there_and_back(x):
        y = lax.convert_element_type(lax.convert_element_type(x, primal), extended)
        return jnp.sum(lax.convert_element_type(lax.convert_element_type(y, np.dtype(primal)), "float32") ** 2)

    x = values(3).astype("float32")
    np.testing.assert_array_equal(jax.jit(dp.grad(there_and_back))(x), jax.jit(jax.grad(there_and_back))(x))


def test_what_has_no_rule_says_so():
    with pytest.raises(NotImplementedError, match="order m"):
        dp.grad(lambda m: lax.polygamma(m, 2.0))(1.5)
    with pytest.raises(NotImplementedError, match="initial values"):
        dp.grad(lambda s: lax.reduce(jnp.ones(3), s, lambda a, b: a * b, (0,)))(1.0)
