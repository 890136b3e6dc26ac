"""The gradient of every row of the table lowers for CPU, CUDA and TPU, and for symbolic sizes, where the row does.

A sample runs always, `pytest -m slow tests/rules/test_export.py` runs every row.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import diffprog as dp
from tests.rules.losses import differentiable, loss_of
from tests.rules.rows import ROWS

PLATFORMS = ("cpu", "cuda", "tpu")
SAMPLE = ROWS[::12]
SIZES_OF_MANY_PATHS = {  # whose rules ask sizes for more than their sum and product
    "concatenate",
    "convolution padded",
    "convolution depthwise",
    "cummax",
    "eigh",
    "pow",
    "reduce_prod over inner axes",
    "svd, complex",
    "window max",
}


def failure(fun, arguments, **options) -> Exception | None:
    """Export a function at these types: what goes wrong, if anything does."""
    try:
        export.export(jax.jit(fun), **options)(*arguments)
    except Exception as error:  # of many kinds
        return error
    return None


# ---------------------------------------------------------------- platforms


def lower(row):
    loss, args = loss_of(row, np.float32)
    gradient = dp.grad(loss, differentiable(args))
    if failure(gradient, args, platforms=PLATFORMS) is None:
        return
    for platform in PLATFORMS:
        if (reason := failure(gradient, args, platforms=[platform])) is not None:
            forward = failure(loss, args, platforms=[platform])
            assert forward is not None, f"{row.name} lowers for {platform}, its gradient does not: {reason}"


@pytest.mark.parametrize("row", SAMPLE, ids=lambda row: row.name)
def test_a_sample_lowers_for_each_platform(row):
    lower(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_lowers_for_each_platform(row):
    lower(row)


# ---------------------------------------------------------------- symbolic sizes


def resized(shape, old, new) -> tuple:
    return tuple(new if n == old else n for n in shape)


def call_at_two_sizes(row, size):
    """Export the gradient with a symbol in the place of a size; whether the row itself exports."""
    loss, args = loss_of(row, np.float32)
    gradient = dp.grad(loss, differentiable(args))
    (symbol,) = export.symbolic_shape("n")
    types = [jax.ShapeDtypeStruct(resized(x.shape, size, symbol), x.dtype) for x in args]
    if failure(loss, types) is not None:
        return False
    exported = export.export(jax.jit(gradient))(*types)
    for n in (size, size + 1):
        values = [jnp.asarray(np.resize(np.asarray(x), resized(x.shape, size, n))) for x in args]
        if failure(loss, values) is not None:
            continue  # as a reshape to a number of elements
        for x, y in zip(exported.call(*values), jax.jit(gradient)(*values), strict=True):
            scale = np.max(np.abs(np.nan_to_num(y)), initial=1e-3)
            np.testing.assert_allclose(x, y, 0, 1e-4 * scale, err_msg=f"{row.name} at {n} for {size}")
    return True


def sizes_of(row) -> list:
    _, args = loss_of(row, np.float32)
    return sorted({n for x in args for n in x.shape if n > 1})


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in SIZES_OF_MANY_PATHS], ids=lambda row: row.name)
def test_a_sample_exports_with_symbolic_sizes(row):
    assert any(call_at_two_sizes(row, size) for size in sizes_of(row))  # the first that the row exports with


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_exports_with_symbolic_sizes(row):
    if not any([call_at_two_sizes(row, size) for size in sizes_of(row)]):
        pytest.skip("the row itself does not export with a symbolic size")


PROGRAMS = {  # of x: (program, derivative)
    "concatenate": (lambda x: jnp.sum(jnp.concatenate([x, 2 * x]) ** 2), lambda x: 10 * x),
    "slices of both ends": (lambda x: jnp.sum(x[1:] * x[:-1]), lambda x: np.append(x[1:], 0) + np.append(0, x[:-1])),
    "every second element": (lambda x: jnp.sum(x[::2] ** 2), lambda x: 2 * x * (np.arange(len(x)) % 2 == 0)),
    "maximum": (lambda x: jnp.sum(jnp.maximum(x, x[::-1])), lambda x: np.where(x == x[::-1], 1, 2 * (x > x[::-1]))),
    "mean": (lambda x: jnp.mean(x**2), lambda x: 2 * x / len(x)),
    "loop": (lambda x: lax.scan(lambda c, v: (c + v**2, None), 0.0, x)[0], lambda x: 2 * x),
    "product": (jnp.prod, lambda x: np.prod(x) / x),
    "pooling": (
        lambda x: jnp.sum(lax.reduce_window(x, -np.inf, lax.max, (2,), (2,), "VALID")),
        lambda x: (np.arange(len(x)) % 2 == 1) & (np.arange(len(x)) < len(x) // 2 * 2),
    ),
}


def test_a_jacobian_for_any_size():
    exported = export.export(jax.jit(dp.jacrev(lambda pair: pair[0] * pair[1])))
    n = export.symbolic_shape("n")
    array = jax.ShapeDtypeStruct(n, np.float32)
    for size in (2, 5):
        x = np.arange(1, size + 1, dtype=np.float32)
        first, second = exported((array, array)).call((x, x + 1))
        np.testing.assert_array_equal(first, np.diag(x + 1))
        np.testing.assert_array_equal(second, np.diag(x))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gradient_for_any_size(name):
    program, derivative = PROGRAMS[name]
    exported = export.export(jax.jit(dp.grad(program)))(jax.ShapeDtypeStruct(export.symbolic_shape("n"), np.float32))
    for size in (3, 6):
        x = np.arange(1, size + 1, dtype=np.float32)
        np.testing.assert_allclose(exported.call(x), derivative(x), 1e-5, err_msg=f"{name}, {size}")
