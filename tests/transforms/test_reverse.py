"""`vjp`, `grad`, `value_and_grad`, `jacrev`, `hessian`, `hvp` against JAX's: results, structures, dtypes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

import diffprog as dp

X = jnp.asarray([0.3, -1.2, 2.0], jnp.float32)
W = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3)), jnp.float32)


def scalar(x, w=W):
    return jnp.sum(jnp.tanh(w @ x) ** 2)


def assert_same(ours, theirs, tolerance=1e-5):
    """Same structure, shapes, dtypes, and values up to a relative tolerance: float32 sums in another order."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.shape(a) == np.shape(b)
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))
        if np.asarray(b).dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(jnp.max(jnp.abs(b), initial=0)))


def test_value_and_grad():
    assert_same(dp.value_and_grad(scalar)(X), jax.value_and_grad(scalar)(X))


def test_python_number():
    ours, theirs = dp.grad(lambda x: x**3)(2.0), jax.grad(lambda x: x**3)(2.0)
    assert_same(ours, theirs)
    assert ours.weak_type == theirs.weak_type


def test_numpy_input():
    assert_same(dp.grad(scalar)(np.asarray(X)), jax.grad(scalar)(np.asarray(X)))


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (1,), (1, 0), [0]])
def test_argnums(argnums):
    assert_same(dp.grad(scalar, argnums)(X, W), jax.grad(scalar, argnums)(X, W))


def test_keyword_arguments_pass():
    assert_same(dp.grad(scalar)(X, w=2 * W), jax.grad(scalar)(X, w=2 * W))


def test_has_aux():
    def fun(x):
        y = jnp.sin(x)
        return jnp.sum(y), {"y": y, "n": jnp.arange(2), "x": x}

    assert_same(dp.grad(fun, has_aux=True)(X), jax.grad(fun, has_aux=True)(X))
    assert_same(dp.value_and_grad(fun, has_aux=True)(X), jax.value_and_grad(fun, has_aux=True)(X))


def test_pytrees_in_and_out():
    def fun(tree):
        return {"a": tree["x"] * tree["y"][0], "b": (jnp.sum(tree["y"][1]), tree["x"])}

    tree = {"x": X, "y": (X * 2, W), "unused": jnp.float32(1)}
    ours, theirs = dp.vjp(fun, tree), jax.vjp(fun, tree)
    assert_same(ours[0], theirs[0])
    cotangent = jax.tree.map(jnp.ones_like, theirs[0])
    assert_same(ours[1](cotangent), theirs[1](cotangent))


def test_integer_inputs_have_float0_cotangents():
    def fun(x, n):
        return x[n] * 2, n + 1

    n = jnp.arange(2)
    cotangent = (jnp.ones(2, X.dtype), np.zeros(2, jax.dtypes.float0))
    assert_same(dp.vjp(fun, X, n)[1](cotangent), jax.vjp(fun, X, n)[1](cotangent))


def test_allow_int():
    fun = lambda n: jnp.float32(2.0) * n
    assert_same(dp.grad(fun, allow_int=True)(3), jax.grad(fun, allow_int=True)(3))


def test_unused_and_constant():
    assert_same(
        dp.grad(lambda x, y: jnp.sum(y) + 1.0, (0, 1))(X, W), jax.grad(lambda x, y: jnp.sum(y) + 1.0, (0, 1))(X, W)
    )
    assert_same(dp.value_and_grad(lambda x: 3.0)(X), jax.value_and_grad(lambda x: 3.0)(X))
    assert_same(dp.grad(lambda x: x)(2.0), jax.grad(lambda x: x)(2.0))


def test_complex_to_real():
    z = jnp.asarray([1 + 2j, -0.5 + 1j])
    fun = lambda z: jnp.sum(jnp.abs(z * z + 1) ** 2)
    assert_same(dp.grad(fun)(z), jax.grad(fun)(z))


def test_holomorphic():
    fun = lambda z: jnp.sin(z) * z**2
    z = jnp.complex64(0.3 + 0.7j)
    assert_same(dp.grad(fun, holomorphic=True)(z), jax.grad(fun, holomorphic=True)(z))


@pytest.mark.parametrize("argnums", [0, (0, 1)])
def test_jacrev(argnums):
    fun = lambda x, w: {"a": w @ x, "b": (jnp.sin(x), jnp.sum(w * w))}
    assert_same(dp.jacrev(fun, argnums)(X, W), jax.jacrev(fun, argnums)(X, W))


def test_jacrev_has_aux():
    fun = lambda x: (jnp.sin(x) * x[0], jnp.sum(x))
    assert_same(dp.jacrev(fun, has_aux=True)(X), jax.jacrev(fun, has_aux=True)(X))


def test_hessian():
    assert_same(dp.hessian(scalar)(X), jax.hessian(scalar)(X))
    assert_same(dp.hessian(scalar, (0, 1))(X, W), jax.hessian(scalar, (0, 1))(X, W))


def test_hessian_of_pytrees():
    fun = lambda tree: jnp.sum(tree["a"] ** 3 * tree["b"])
    tree = {"a": X, "b": jnp.float32(2)}
    assert_same(dp.hessian(fun)(tree), jax.hessian(fun)(tree))


def test_hvp_is_the_hessian_times_a_vector():
    v = jnp.asarray([1.0, -2.0, 0.5], X.dtype)
    assert_same(dp.hvp(scalar, (X,), (v,)), (jax.hessian(scalar)(X) @ v,))


def test_vjp_has_aux_and_two_uses():
    value, pullback, aux = dp.vjp(lambda x: (jnp.sin(x), x[0]), X, has_aux=True)
    assert_same((value, aux), (jnp.sin(X), X[0]))
    assert_same(pullback(X), (jnp.cos(X) * X,))
    assert_same(pullback(2 * X), (jnp.cos(X) * 2 * X,))


def test_names_and_docstrings():
    assert dp.grad(scalar).__name__ == "grad(scalar)"
    assert "scalar" in dp.grad(scalar).__doc__


# ---------------------------------------------------------------- pullbacks are pytrees


def test_pullback_leaves_a_jit():
    value, pullback = jax.jit(lambda x: dp.vjp(lambda x: jnp.sin(x) * x[0], x))(X)
    expected = jax.vjp(lambda x: jnp.sin(x) * x[0], X)
    assert_same(value, expected[0])
    assert_same(pullback(X), expected[1](X))
    assert_same(jax.jit(lambda p, g: p(g))(pullback, X), expected[1](X))


def test_pullback_through_vmap():
    rows = jnp.stack([X, 2 * X])
    pullbacks = jax.vmap(lambda x: dp.vjp(jnp.tanh, x)[1])(rows)
    assert_same(jax.vmap(lambda p, g: p(g))(pullbacks, rows), (rows * (1 - jnp.tanh(rows) ** 2),))


def test_pullback_leaves_are_residuals():
    _, pullback = dp.vjp(lambda x: jnp.tanh(x) * 3.0, X)
    leaves = jax.tree.leaves(pullback)
    assert [leaf.shape for leaf in leaves if leaf.shape] == [X.shape]
    doubled = jax.tree.map(lambda leaf: leaf, pullback)
    assert_same(doubled(X), pullback(X))


# ---------------------------------------------------------------- what is kept, what is shared


def test_reading_row_by_row_makes_one_dense_array():
    n = 50
    pullback = lambda x: dp.vjp(lambda x: sum(jnp.sin(x[i]) for i in range(n)), x)[1](jnp.float32(1))[0]
    equations = jax.make_jaxpr(pullback)(jnp.ones(n, jnp.float32)).eqns
    makers = ("pad", "broadcast_in_dim", "scatter-add", "add_any", "add")
    dense = [eqn for eqn in equations if eqn.primitive.name in makers and eqn.outvars[0].aval.shape == (n,)]
    assert len(dense) <= 1
    x = jnp.arange(50, dtype=jnp.float32)
    assert_same(pullback(x), jnp.cos(x))


def test_a_jitted_function_is_staged_once():
    traced = []

    @jax.jit
    def layer(x):
        traced.append(1)
        for _ in range(4):
            x = jnp.sin(x) * 2
        return x

    def fun(x):
        for _ in range(12):
            x = layer(x)
        return jnp.sum(x)

    backward = jax.make_jaxpr(dp.grad(fun))(X)
    assert len(traced) == 1
    calls = [
        eqn.params["jaxpr"] for eqn in backward.eqns if eqn.primitive.name == "jit" and eqn.params["name"] == "layer"
    ]
    assert len(calls) == 24
    assert len({id(jaxpr) for jaxpr in calls}) == 2  # one forward and one backward program


def test_a_small_jitted_function_is_written_out():
    small = jax.jit(lambda x, y: (x * y, 3 * x))
    backward = jax.make_jaxpr(dp.grad(lambda x: sum(map(jnp.sum, small(x, x)))))(X)
    assert "jit" not in {eqn.primitive.name for eqn in backward.eqns}


def test_multiplying_by_a_constant_keeps_one_array():
    _, pullback = dp.vjp(lambda x: jnp.multiply(x, W), W)
    arrays = [leaf for leaf in jax.tree.leaves(pullback) if np.shape(leaf) == W.shape]
    assert len(arrays) == 1
    np.testing.assert_array_equal(arrays[0], W)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda g: g(3)(1.0), TypeError, "callable"),
        (lambda g: g(lambda x: x)(X), TypeError, "scalar"),
        (lambda g: g(lambda x: (x, x))(1.0), TypeError, "scalar"),
        (lambda g: g(lambda x: jnp.sum(x) > 0)(X), TypeError, "real"),
        (lambda g: g(lambda x: x * 1j)(1.0), TypeError, "holomorphic"),
        (lambda g: g(lambda x: x.sum())(jnp.arange(3)), TypeError, "allow_int"),
        (lambda g: g(lambda x: x)("a"), TypeError, "array|type"),
        (lambda g: g(lambda x: x, holomorphic=True)(1.0), TypeError, "complex"),
        (lambda g: g(lambda x: x, argnums=2)(1.0), TypeError, "position"),
        (lambda g: g(lambda x: x, argnums="a")(1.0), TypeError, "argnums|integer"),
        (lambda g: g(lambda x: x, has_aux=True)(1.0), TypeError, "pair|aux"),
    ],
)
def test_errors_of_grad(call, error, words):
    with pytest.raises(error, match=words):
        call(dp.grad)
    with pytest.raises((error, ValueError)):  # JAX refuses it too
        call(jax.grad)


def test_pullback_refuses_other_structures_shapes_and_dtypes():
    _, pullback = dp.vjp(lambda x: (x, x), X)
    with pytest.raises(ValueError, match="structure"):
        pullback(X)
    with pytest.raises(ValueError, match="float32"):
        pullback((X[:2], X))
    with pytest.raises(ValueError, match="float32"):
        pullback((X, X.astype(jnp.float16)))


def test_hvp_refuses_bare_arrays():
    with pytest.raises(TypeError, match="tuples"):
        dp.hvp(scalar, X, X)


def test_a_result_that_is_no_array():
    with pytest.raises(TypeError, match="must return arrays"):
        dp.vjp(lambda x: "text", X)


def test_a_leaked_value_is_refused():
    leaked = []
    dp.grad(lambda x: leaked.append(x) or jnp.sum(x))(X)
    with pytest.raises(jax.errors.UnexpectedTracerError):
        jnp.sin(leaked[0])


def test_a_primitive_without_a_rule_names_itself_and_the_users_line():
    opaque = Primitive("opaque")
    opaque.def_impl(lambda x: x)
    opaque.def_abstract_eval(lambda x: x)
    with pytest.raises(NotImplementedError, match=r"'opaque'.*test_reverse\.py:\d+"):
        dp.grad(lambda x: opaque.bind(x))(1.0)
