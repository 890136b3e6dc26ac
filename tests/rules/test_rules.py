"""Every rule against `jax.vjp`: first and second order, eagerly, under `jit`, and with the pullback under `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.rules.rows import ROWS, Row


def make_args(row: Row, dtype, seed=0):
    """The row's arguments at this dtype: (differentiable ones, function of these alone)."""
    rng = np.random.default_rng(seed)

    def make(spec):
        values = spec if isinstance(spec, np.ndarray) else rng.uniform(*row.domain, spec)
        if np.issubdtype(dtype, np.complexfloating):
            values = values + 1j * rng.uniform(0.1, 0.8, np.shape(values))
        return jnp.asarray(values, dtype)

    return tuple(make(spec) for spec in row.args)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)

    def draw(x):
        values = rng.standard_normal(x.shape)
        if jnp.iscomplexobj(x):
            values = values + 1j * rng.standard_normal(x.shape)
        return jnp.asarray(values, x.dtype)

    return jax.tree.map(draw, tree)


def assert_close(ours, theirs, tolerance, what):
    """Each leaf within `tolerance` of JAX's, relative to the largest element there."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs), what
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, what
        wide = np.complex128 if jnp.iscomplexobj(b) else np.float64
        a, b = np.asarray(a, wide), np.asarray(b, wide)
        assert np.isfinite(b).all(), f"{what}: JAX's own gradient is not finite"
        error = np.max(np.abs(a - b), initial=0)
        assert error <= tolerance * max(np.max(np.abs(b), initial=0), 1e-3), f"{what}: off by {error}"


def derivatives(vjp, fun, args, cotangents, direction, order):
    """What is compared: first order, the pullback under vmap, and two kinds of second order."""

    def pull(args, g):
        return vjp(fun, *args)[1](g)

    first = jax.tree.map(lambda g: g[0], cotangents)
    _, pullback = vjp(fun, *args)
    found = {"first order": pullback(first), "pullback under vmap": jax.vmap(pullback)(cotangents)}
    if order == 2:
        found["reverse over reverse"] = vjp(lambda *args: pull(args, first), *args)[1](direction)
        found["forward over reverse"] = jax.jvp(lambda *args: pull(args, first), args, direction)[1]
    return found


def check(row, dtype):
    args = make_args(row, dtype)
    result = jax.eval_shape(row.fun, *args)
    cotangents = random_like(jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), result), 1)
    direction = random_like(args, 2)

    @jax.jit  # ours and theirs in one program, which compiles faster than two
    def both(*inputs):
        return [derivatives(vjp, row.fun, *inputs, row.order) for vjp in (dp.vjp, jax.vjp)]

    ours, theirs = both(args, cotangents, direction)
    for what in theirs:
        assert_close(ours[what], theirs[what], row.tolerance, f"{row.name}, {what}, {np.dtype(dtype)}")
    return args, jax.tree.map(lambda g: g[0], cotangents), theirs["first order"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_float64(row):
    with jax.enable_x64(True):
        args, cotangent, gradients = check(row, np.float64)
        value, pullback = dp.vjp(row.fun, *args)
        assert_close(value, row.fun(*args), row.tolerance, f"{row.name}, value")
        assert_close(pullback(cotangent), gradients, row.tolerance, f"{row.name}, eagerly")


@pytest.mark.parametrize("row", [row for row in ROWS if row.complex_too], ids=lambda row: row.name)
def test_complex(row):
    with jax.enable_x64(True):
        check(row, np.complex128)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_float32(row):
    args = make_args(row, np.float32)
    cotangent = random_like(jax.eval_shape(row.fun, *args), 1)

    @jax.jit  # ours and theirs in one program, which compiles three times as fast as the operations one by one
    def both(args, cotangent):
        pulled = (vjp(row.fun, *args) for vjp in (dp.vjp, jax.vjp))
        return [(value, pullback(cotangent)) for value, pullback in pulled]

    (value, gradients), (expected, their_gradients) = both(args, cotangent)
    # Both round in float32; formulas that differ do so by a few units in the last place of the largest term.
    assert_close(value, expected, 1e-6, f"{row.name}, value")
    assert_close(gradients, their_gradients, max(3e-5, row.tolerance), row.name)


WIDENING = {
    "dot_general": lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32),
    "convolution": lambda x, y: lax.conv_general_dilated(
        x[None], y[None], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), preferred_element_type=jnp.float32
    ),
    "depthwise convolution": lambda x, y: lax.conv_general_dilated(
        x[None, None],
        y[None, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
        preferred_element_type=jnp.float32,
    ),
    "conversion": lambda x, y: x.astype(jnp.float32) @ y.astype(jnp.float32),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", WIDENING)
def test_narrow_floats_with_a_wider_result(name, dtype):
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.uniform(-1, 1, (4, 4)), dtype) for _ in range(2))
    value, pullback = dp.vjp(WIDENING[name], x, y)
    expected, their_pullback = jax.vjp(WIDENING[name], x, y)
    assert_close(value, expected, 0, name)
    cotangent = random_like(expected, 1)
    # Both sum in float32 and round the result to the narrow type once.
    assert_close(pullback(cotangent), their_pullback(cotangent), 2 * float(jnp.finfo(dtype).eps), name)


@pytest.mark.parametrize(("every", "least"), [(4, 20), pytest.param(1, 80, marks=pytest.mark.slow)])
def test_python_numbers(every, least):
    """They reach the rules as they are, without a shape. In every row that JAX takes them in, and in a sample."""
    real = lambda x: jnp.issubdtype(x.dtype, np.inexact)
    checked, wrong = 0, []
    with jax.enable_x64(True):
        for row in ROWS[::every]:
            total = lambda *args, row=row: sum(jnp.sum(jnp.real(x)) for x in jax.tree.leaves(row.fun(*args)) if real(x))
            numbers = [float(np.ravel(x)[0]) for x in make_args(row, np.float64)]
            everything = tuple(range(len(numbers)))
            try:
                expected = jax.grad(total, everything)(*numbers)
            except Exception:  # of many kinds: the row needs arrays
                continue
            found = dp.grad(total, everything)(*numbers)
            checked += 1
            if not np.allclose(found, expected, rtol=row.tolerance, atol=row.tolerance):
                wrong.append((row.name, found, expected))
    assert wrong == []
    assert checked > least
