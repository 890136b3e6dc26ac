"""Matrix factorizations that JAX refuses to differentiate, against central differences.

Real and complex matrices; what a factorization leaves to choice (signs, phases) is taken out of the results first.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.lax.linalg import geqp3, geqrf  # no public name gives the first, `qr(mode="raw")` the second

import diffprog as dp
from tests.rules.finite_differences import check, differences, jax_refuses, weighted

linalg = lax.linalg


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def matrix(*shape, dtype=float, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return jnp.asarray(values if dtype is float else values + 1j * rng.standard_normal(shape))


def adjoint(x):
    return jnp.conj(jnp.swapaxes(x, -1, -2))


both = pytest.mark.parametrize("dtype", [float, complex])


@both
def test_householder_product(dtype):
    """Of any vectors and factors: the product need not be unitary."""
    a, taus = matrix(5, 4, dtype=dtype), matrix(3, dtype=dtype, seed=1)
    jax_refuses(linalg.householder_product, a, taus)
    check(linalg.householder_product, a, taus, order=2 if dtype is float else 1)


@pytest.mark.parametrize(("dtype", "left"), [(float, True), (complex, False)])
def test_ormqr(dtype, left):
    a, taus, c = matrix(4, 2, dtype=dtype), matrix(2, dtype=dtype, seed=1), matrix(4, 4, dtype=dtype, seed=2)
    product = lambda *args: linalg.ormqr(*args, left=left, transpose=left)
    jax_refuses(product, a, taus, c)
    check(product, a, taus, c)


@pytest.mark.parametrize(("dtype", "shape"), [(float, (4, 3)), (float, (3, 3)), (complex, (3, 3)), (complex, (3, 4))])
def test_qr_as_reflections(dtype, shape):
    def factorize(a):
        pivoted = geqp3(a, jnp.zeros(shape[1], np.int32))
        return geqrf(a), pivoted[0], pivoted[2]

    a = matrix(*shape, dtype=dtype)
    jax_refuses(geqrf, a)
    jax_refuses(lambda a: geqp3(a, jnp.zeros(shape[1], np.int32))[0], a)
    check(factorize, a)


@both
def test_pivoted_qr_of_wide_matrices_and_of_batches(dtype):
    """JAX forgets to move the later columns of a wide matrix, and refuses batches."""
    batch = matrix(2, 3, 5, dtype=dtype)
    factorize = lambda a: linalg.qr(a, pivoting=True)[:2]
    assert not np.array_equal(linalg.qr(batch[0], pivoting=True)[2], np.arange(5))
    check(factorize, batch[0])
    jax_refuses(factorize, batch)
    ours = dp.grad(weighted(jax.vmap(factorize)))(batch)
    np.testing.assert_allclose(ours, differences(weighted(factorize), (batch,), 1e-5)[0], atol=1e-8)


@both
def test_hessenberg(dtype):
    a = matrix(4, 4, dtype=dtype)
    jax_refuses(linalg.hessenberg, a)
    check(linalg.hessenberg, a, order=2 if dtype is float else 1)


@pytest.mark.parametrize(("dtype", "lower"), [(float, True), (complex, False)])
def test_tridiagonal(dtype, lower):
    """One triangle is read, the other one is passed through."""
    a = matrix(4, 4, dtype=dtype)
    jax_refuses(lambda a: linalg.tridiagonal(a, lower=lower), a)
    check(lambda a: linalg.tridiagonal(a, lower=lower), a)


def with_complex_pairs():
    """A matrix with eigenvalues 3, 1 +- 2i and -1 +- i."""
    blocks = jax.scipy.linalg.block_diag(
        jnp.full((1, 1), 3.0), jnp.array([[1.0, 2], [-2, 1]]), jnp.array([[-1.0, 1], [-1, -1]])
    )
    basis = matrix(5, 5, seed=3)
    return jnp.linalg.solve(basis, blocks @ basis)


@pytest.mark.parametrize("a", [matrix(4, 4, dtype=complex), None], ids=["complex", "real"])
def test_schur(a):
    """Signs and phases of the vectors are a choice: the absolute values do not depend on it."""
    a = with_complex_pairs() if a is None else jnp.asarray(a, complex)

    def form(a):
        t, z = jax.scipy.linalg.schur(a)
        return jnp.abs(t) ** 2, jnp.abs(z) ** 2, jnp.diagonal(t), z @ t @ t @ adjoint(z)

    jax_refuses(form, a)
    check(form, a, tolerance=1e-6, step=1e-6)  # its differences are less precise than those of other functions


def test_schur_of_a_complex_matrix_in_a_loss_that_depends_on_the_phases():
    phases = dp.grad(lambda a: jnp.sum(jnp.real(jax.scipy.linalg.schur(a)[1])))
    assert np.isnan(phases(matrix(4, 4, dtype=complex))).all()


def test_the_trace_of_the_square_root_of_a_matrix():
    """d trace(X) = trace(X^-1 dA) / 2 for X^2 = A."""
    a = matrix(3, 3) + 4 * jnp.eye(3)
    root = lambda a: jax.scipy.linalg.sqrtm(a.astype(complex))
    jax_refuses(root, a)
    ours = dp.grad(lambda a: jnp.trace(root(a)).real)(a)
    np.testing.assert_allclose(ours, jnp.linalg.inv(root(a)).T.real / 2, atol=1e-12)


@pytest.mark.parametrize(("dtype", "shape"), [(float, (5, 2)), (complex, (3, 5))])
def test_svd_with_null_space(dtype, shape):
    """The vectors of the null space, in all that does not depend on the choice among them: their projection."""
    a = matrix(*shape, dtype=dtype)

    def parts(a):
        u, s, vh = jnp.linalg.svd(a)
        null = u[:, 2:] if shape[0] > shape[1] else adjoint(vh)[:, 3:]
        return null @ adjoint(null), s, jnp.abs(u[:, :2]) ** 2, u[:, :2] @ vh[:2]

    jax_refuses(parts, a)
    check(parts, a)


def test_svd_in_a_loss_that_depends_on_the_vectors_chosen_for_the_null_space():
    assert np.isnan(dp.grad(lambda a: jnp.sum(jnp.linalg.svd(a)[0]))(matrix(5, 2))).all()


@both
def test_eigenvectors_of_general_matrices_without_the_flag(dtype):
    a = matrix(4, 4, dtype=dtype)

    def parts(a):
        w, v = jnp.linalg.eig(a)
        return w, jnp.abs(v) ** 2, v @ (w[:, None] ** 2 * jnp.linalg.inv(v))

    jax_refuses(parts, a)
    check(parts, a)
    assert np.isnan(dp.grad(lambda a: jnp.sum(jnp.real(jnp.linalg.eig(a)[1])))(a.astype(complex))).all()


def test_cholesky_update():
    r, w = jnp.triu(matrix(2, 2)) + 3 * jnp.eye(2), matrix(2, seed=1)
    update = lambda r, w: linalg.cholesky_update(jnp.triu(r), w)
    jax_refuses(update, r, w)
    check(update, r, w, order=2)


def test_symmetric_product():
    a, c = matrix(3, 2), matrix(3, 3, seed=1)
    product = lambda a, c: linalg.symmetric_product(a, c + c.T, alpha=2.0, beta=3.0)
    jax_refuses(product, a, c)
    check(product, a, c)


def test_cholesky_of_one_triangle():
    """Without symmetrization the lower triangle alone is read, and the gradient is that of the lower triangle."""
    a = matrix(3, 3)
    a = jnp.tril(a @ a.T + 3 * jnp.eye(3))
    check(lambda a: linalg.cholesky(a, symmetrize_input=False), a)
