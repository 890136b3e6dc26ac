"""eigh and svd at repeated values, in losses that do not depend on the choice of the vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from tests.rules.finite_differences import check, weighted
from tests.rules.test_factorizations import adjoint, both, float64, matrix  # noqa: F401  (a fixture)


def with_values(values, dtype, columns=None):
    """A Hermitian matrix with these eigenvalues, or a matrix of so many columns with these singular values."""
    left = jnp.linalg.qr(matrix(len(values), len(values), dtype=dtype))[0]
    if columns is None:
        a = (left * jnp.asarray(values)) @ adjoint(left)
        return (a + adjoint(a)) / 2
    right = jnp.linalg.qr(matrix(columns, len(values), dtype=dtype, seed=1))[0]
    return (left * jnp.asarray(values)) @ adjoint(right)


@both
def test_projections_on_the_vectors_of_repeated_eigenvalues(dtype):
    def projections(a):
        _, v = jnp.linalg.eigh(a)
        return [v[:, some] @ adjoint(v[:, some]) for some in (slice(0, 2), slice(2, 3), slice(3, 5))]

    a = with_values((0.0, 0, 1, 2, 2), dtype)
    theirs = jax.grad(weighted(projections))(a)
    assert not np.allclose(dp.grad(weighted(projections))(a), theirs, atol=1e-3)  # JAX divides rounding by rounding
    check(projections, a)


@both
def test_functions_of_repeated_eigenvalues_alone(dtype):
    """sum sin(w) has the gradient cos(A), transposed: `jax.grad`'s convention."""
    a = with_values((1.0, 1, 1, 2), dtype)
    w, v = jnp.linalg.eigh(a)
    ours = dp.grad(lambda a: jnp.sum(jnp.sin(jnp.linalg.eigh(a)[0])))(a)
    np.testing.assert_allclose(ours, ((v * jnp.cos(w)) @ adjoint(v)).T, atol=1e-13)


def test_repeated_eigenvalues_where_the_loss_weights_their_vectors():
    """The gradient of a square root's element at the identity is known, but not to eigh: NaN, and no wrong number."""

    def root(a):
        w, v = jnp.linalg.eigh(a)
        return (v * jnp.sqrt(w)) @ v.T

    assert np.isnan(dp.grad(lambda a: root(a)[0, 1])(jnp.eye(3))).any()
    assert np.isnan(dp.grad(lambda a: jnp.sum(root(a)))(jnp.eye(3))).any()
    np.testing.assert_allclose(dp.grad(lambda a: jnp.trace(root(a)))(jnp.eye(3)), jnp.eye(3) / 2, atol=1e-15)


@both
def test_second_derivatives_at_values_that_rounding_parts(dtype):
    """Those of the sum of sin(w) are known, but not to eigh: NaN, and not rounding divided by rounding."""
    a, along = with_values((1.0, 1, 1, 2), dtype), matrix(4, 4, dtype=dtype)
    for sum_of in (lambda a: jnp.sin(jnp.linalg.eigvalsh(a)), lambda a: jnp.linalg.svd(a, compute_uv=False) ** 4):
        slope = dp.grad(lambda a, sum_of=sum_of: jnp.sum(sum_of(a)))
        second = jax.jit(dp.grad(lambda a, slope=slope: jnp.real(jnp.sum(slope(a) * along))))
        assert np.isnan(second(a)).any()


@pytest.mark.parametrize(("dtype", "values"), [(float, (2.0, 2, 1, 1)), (complex, (3.0, 2, 0, 0))])
def test_projections_on_the_vectors_of_repeated_singular_values(dtype, values):
    def projections(a):
        u, _, vh = jnp.linalg.svd(a, full_matrices=False)
        return u[:, :2] @ adjoint(u[:, :2]), u[:, :2] @ vh[:2]

    check(projections, with_values(values, dtype, columns=5))
