"""Determinants of singular matrices, against the sum over permutations, a polynomial."""

from itertools import permutations

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp

RNG = np.random.default_rng(0)
ANY, ALONG, BESIDE = (jnp.asarray(RNG.normal(size=(4, 4)), np.float32) for _ in range(3))
ORDERS = np.array(list(permutations(range(4))))
SIGNS = np.round(np.linalg.det(np.eye(4)[ORDERS]))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def polynomial(a):
    factors = a[np.arange(4), ORDERS]
    return jnp.sum(factors[:, 0] * factors[:, 1] * factors[:, 2] * factors[:, 3] * SIGNS)


def matrices():
    """Make matrices of all ranks, and one that is nearly singular."""
    diagonals = [(1, 2, 3, 4), (1, 1, 1, 0), (1, 0, 2, 0), (1, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1e-12)]
    turned = jnp.asarray(ANY, float)
    return jnp.stack([turned @ jnp.diag(jnp.array(d, float)) @ turned.T for d in diagonals])


def derivatives(det):
    first = dp.grad(det)
    second = dp.grad(lambda a: jnp.sum(first(a) * ALONG))
    return lambda a: (first(a), second(a), jax.jvp(first, (a,), (ALONG.astype(a.dtype),))[1])


def test_determinants_of_every_rank():
    found, expected = (jax.lax.map(derivatives(det), matrices()) for det in (jnp.linalg.det, polynomial))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_batch_along_any_axis(axis):
    batch = jnp.moveaxis(matrices(), 0, axis)
    found = jax.jit(dp.grad(lambda batch: jnp.sum(jax.vmap(jnp.linalg.det, in_axes=axis)(batch))))(batch)
    expected = jax.jit(jax.vmap(dp.grad(polynomial)))(matrices())
    np.testing.assert_allclose(jnp.moveaxis(found, axis, 0), expected, atol=1e-6)


def test_a_batch_of_gradients_takes_one_branch():
    """The branch for singular matrices costs many times the other: it runs only where one of the batch is singular."""
    batched = jax.vmap(jax.vmap(dp.grad(jnp.linalg.det)))
    assert " cond[" in str(jax.make_jaxpr(batched)(matrices()[:, None]))
    expected = jax.vmap(dp.grad(polynomial))(matrices())
    np.testing.assert_allclose(jax.jit(batched)(matrices()[None])[0], expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(batched)(matrices()[None, :1])[0], expected[:1], atol=1e-6)


def test_symbolic_sizes():
    (b,) = jax.export.symbolic_shape("b")
    first = jax.jit(dp.grad(lambda a: jnp.sum(jnp.linalg.det(a))))
    exported = jax.export.export(first)(jax.ShapeDtypeStruct((b, 4, 4), float))
    np.testing.assert_allclose(exported.call(matrices()[:1]), first(matrices()[:1]), atol=1e-12)


def test_an_empty_matrix():
    assert dp.grad(jnp.linalg.det)(jnp.zeros((0, 0))).shape == (0, 0)


def test_a_complex_matrix_of_rank_three():
    a = matrices()[1] + 1j * matrices()[1] / 2
    found, expected = (jax.jit(dp.grad(lambda a, det=det: jnp.real(det(a))))(a) for det in (jnp.linalg.det, polynomial))
    np.testing.assert_allclose(found, expected, atol=1e-12)
