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


def moment(power, of):
    """Make the trace of a power of the Hermitian part, or of A A^H: what the sum of powers of the values is."""

    def trace(a):
        h = (a + adjoint(a)) / 2 if of == "eigenvalues" else a @ adjoint(a)
        product = h
        for _ in range(power - 1):
            product = product @ h
        return jnp.real(jnp.sum(jnp.trace(product, axis1=-2, axis2=-1)))

    return trace


def of_eigenvalues(power):
    return lambda a: jnp.sum(jnp.linalg.eigvalsh(a) ** power)


def of_singular_values(power):
    return lambda a: jnp.sum(jnp.linalg.svd(a, compute_uv=False) ** power)


PAIRS = {
    "eigenvalues": [(of_eigenvalues(k), moment(k, "eigenvalues")) for k in (2, 3)],
    "singular values": [(of_singular_values(2 * k), moment(k, "singular values")) for k in (1, 2)],
}


def second(fun, a, along):
    slope = dp.grad(fun)
    return dp.grad(lambda a: jnp.sum(jnp.real(slope(a) * along)))(a)


def matrices_of(dtype):
    """The identity, 0, and matrices with two equal values, which rounding parts."""
    return jnp.stack([with_values(values, dtype) for values in ((1.0, 1, 1, 2), (0.0, 0, 0, 0), (3.0, 1, 0, 0))])


@pytest.mark.parametrize("of", PAIRS)
@both
def test_second_derivatives_at_equal_values(dtype, of):
    batch = jnp.concatenate([matrices_of(dtype), jnp.eye(4, dtype=dtype)[None]])
    along = matrix(*batch.shape, dtype=dtype, seed=2)
    ours, theirs = ([pair[k] for pair in PAIRS[of]] for k in (0, 1))
    of_all = lambda funs: [jax.lax.map(lambda pair, fun=fun: second(fun, *pair), (batch, along)) for fun in funs]
    found, at_once, expected = jax.jit(
        lambda: (of_all(ours), [second(fun, batch, along) for fun in ours], of_all(theirs))
    )()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(at_once, expected, atol=1e-12)


def test_second_derivatives_of_a_mapped_gradient():
    """Four matrices of size four, along any axis: a gradient of gradients under `jax.vmap`."""
    batch = jnp.concatenate([matrices_of(float), jnp.eye(4)[None]])
    along = matrix(*batch.shape, seed=2)

    def of_all(fun, axis):
        moved, ways = (jnp.moveaxis(x, 0, axis) for x in (batch, along))
        slopes = lambda batch: jax.vmap(dp.grad(fun), axis, axis)(batch)
        return jnp.moveaxis(dp.grad(lambda batch: jnp.sum(slopes(batch) * ways))(moved), axis, 0)

    def all_of(pairs):
        return [[of_all(fun, axis) for axis in range(3)] for fun in pairs]

    pairs = [pairs[1] for pairs in PAIRS.values()]
    found, expected = jax.jit(lambda: [all_of([pair[k] for pair in pairs]) for k in (0, 1)])()
    np.testing.assert_allclose(found, expected, atol=1e-12)


@both
def test_second_derivatives_of_matrices_that_are_not_square(dtype):
    for shape in ((4, 2), (2, 4)):
        matrices = [jnp.zeros(shape, dtype), jnp.ones(shape, dtype), jnp.eye(*shape, dtype=dtype)]
        along, pairs = matrix(*shape, dtype=dtype), PAIRS["singular values"]
        found, expected = jax.jit(
            lambda matrices=matrices, along=along, pairs=pairs: [
                [second(pair[k], a, along) for a in matrices for pair in pairs] for k in (0, 1)
            ]
        )()
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_what_is_not_known_at_equal_values():
    """NaN, and no wrong number: third derivatives, and two functions whose gradients are asked about together."""
    (fun, _), a, along = PAIRS["eigenvalues"][1], jnp.eye(3), matrix(3, 3)
    both_of = lambda a: jax.vmap(lambda c: dp.grad(lambda a: c * fun(a))(a))(jnp.array([1.0, 2]))
    ways = jnp.stack([along, along.T @ along])
    third = dp.grad(lambda a: jnp.sum(second(fun, a, along) * along))
    together = dp.grad(lambda a: jnp.sum(both_of(a) * ways))
    assert all(np.isnan(x).any() for x in jax.jit(lambda a: (third(a), together(a)))(a))
    difference = lambda w, v: jnp.sum(((v * (w - 1)) @ v.T) * along)  # A - I: the vectors' cotangent is 0
    assert np.isnan(dp.grad(lambda a: difference(*jnp.linalg.eigh(a)))(a)).any()
    apart = jnp.diag(jnp.array([1.0, 2, 4]))
    third, expected = (
        lambda a, fun=fun: dp.grad(lambda a: jnp.sum(second(fun, a, along) * along))(a)
        for fun in PAIRS["eigenvalues"][1]
    )
    np.testing.assert_allclose(*jax.jit(lambda a: (third(a), expected(a)))(apart), atol=1e-12)


def test_general_eigenvalues_that_are_equal():
    """`eig` divides by their differences: NaN, and not 0 where a loss turns none of the vectors."""
    square = lambda a: jnp.real(jnp.sum(jnp.linalg.eigvals(a) ** 2))
    np.testing.assert_allclose(dp.grad(square)(jnp.eye(3)), 2 * jnp.eye(3), atol=1e-12)
    assert np.isnan(second(square, jnp.eye(3), matrix(3, 3))).any()


@pytest.mark.parametrize(("dtype", "values"), [(float, (2.0, 2, 1, 1)), (complex, (3.0, 2, 0, 0))])
def test_projections_on_the_vectors_of_repeated_singular_values(dtype, values):
    def projections(a):
        u, _, vh = jnp.linalg.svd(a, full_matrices=False)
        return u[:, :2] @ adjoint(u[:, :2]), u[:, :2] @ vh[:2]

    check(projections, with_values(values, dtype, columns=5))
