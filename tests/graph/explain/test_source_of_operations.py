"""What an operation's text has to say: types of numbers, rounding, modes, precision; and what has no text at all.

Each text gives the gradient of `jax.grad`, in its dtype, with and without x64: all programs in one compiled call.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

X = np.array([0.3, 1.2, -0.7, 2.0], np.float32)
TWO, INDEX = (2, 2), np.array([0, 9, -9, 0])


@jax.custom_vjp
def tripled(x):
    return x * 2


tripled.defvjp(lambda x: (x * 2, (x,)), lambda residuals, g: (g * residuals[0] * 3,))


def with_references(x):
    ref = jax.new_ref(jnp.arange(4, dtype=x.dtype))

    @jax.jit
    def change():
        ref[1] = ref[1] * 5

    change()
    return jnp.sum(x * ref[...])


NUMBERS = {
    "float32 beside a number": lambda x: jnp.sum(x) * 3,
    "two numbers": lambda x: jnp.sum(x * jnp.where(x[0] > 0, 2.0, 3.0) * lax.full_like(1.0, 3.0)),
    "half precision": lambda x: jnp.sum(x.astype(jnp.bfloat16) * jnp.bfloat16(0.1)).astype(jnp.float32),
    "sum of half precision": lambda x: jnp.sum(x.astype(jnp.float16) * 1.5).astype(jnp.float32),
    "float8": lambda x: jnp.sum((x.astype(jnp.float8_e4m3fn) * jnp.float8_e4m3fn(2)).astype(jnp.float32)),
    "float64 on the way": lambda x: jnp.sum(x.astype(float) * np.float64(0.1) + x * jnp.arange(4.0)),
    "large unsigned": lambda x: jnp.sum(x * ((lax.bitcast_convert_type(x, jnp.uint32) ^ jnp.uint32(2**32 - 1)) >> 31)),
    "int4": lambda x: jnp.sum(x * (jnp.arange(4).astype(jnp.int4) + jnp.int4(1)).astype(x.dtype)),
    "sum of truth values": lambda x: jnp.sum(x) * jnp.sum(x > 0) + jnp.sum(x * jnp.cumsum(x > 0)),
    "sum of int32": lambda x: jnp.sum(x * lax.reduce_sum(jnp.arange(4, dtype=np.int32) * (x > 0), (0,))),
    "infinity and NaN": lambda x: jnp.sum(jnp.where(jnp.isnan(jnp.where(x > 0, jnp.nan, x)), x, jnp.fmin(x, np.inf))),
    "complex": lambda x: jnp.sum(jnp.abs(x * (1 - 2j) + complex(-0.0, 1)) ** 2),
    "complex infinity": lambda x: jnp.sum(jnp.where(x > 0, jnp.abs(jnp.where(x > 0, x + 1j * x, jnp.inf + 0j)), 0.0)),
    "zero to a power": lambda x: jnp.sum(x * jnp.where(x > 5, jnp.float32(0.0) ** -1.0, 1.0)),
    "powers": lambda x: jnp.sum(jnp.abs(x) ** 2.5 + jnp.abs(x) ** -1 + 2.0**x + jnp.abs(x) ** jnp.arange(4)),
    "power of a negative number": lambda x: jnp.sum((-2.0) ** x[1:2].astype(int) * x),
    "clipped": lambda x: jnp.sum(jnp.clip(x, -0.5, 0.5) * jnp.maximum(x, 0) * jnp.minimum(x, 1.0)),
    "array with infinities": lambda x: jnp.sum(jnp.where(x > np.array([np.inf, 0, -np.inf, np.nan]), x, x**2)),
    "array of complex numbers": lambda x: jnp.sum(jnp.abs(x * np.array([1j, 2 - 1j, 0, complex(-0.0, -1)]))),
    "array of large unsigned": lambda x: jnp.sum(x * (jnp.array([2**32 - 1, 1, 2, 3], jnp.uint32) >> np.uint32(3))),
    "equal elements": lambda x: jnp.sum(x * np.full((100, 4), 0.1, np.float32)),
    "empty array": lambda x: jnp.sum(jnp.concatenate([x * x, jnp.zeros((0,), x.dtype) * x[:0]])),
}  # fmt: skip
WHOLE_NUMBERS = {
    "index by //": lambda x: jnp.sum(x[jnp.arange(4) // 2] ** 2),
    "lax.div": lambda x: jnp.sum(x * lax.div(jnp.array([-3, 3, 5, -5]), 2).astype(x.dtype)),
    "// and % of negative ones": lambda x: jnp.sum(x * (jnp.arange(-3, 5, 2) // 3) * (jnp.arange(-3, 5, 2) % 3)),
    "remainders": lambda x: jnp.sum(x % 0.7 + x // 0.3 + jnp.fmod(x, 0.4) * lax.rem(jnp.arange(-2, 2), 2)),
    "shifts": lambda x: jnp.sum(x * ((jnp.arange(4) << 2) >> 1) * lax.population_count(jnp.arange(4))),
    "product of matrices": lambda x: jnp.sum(x) * (jnp.ones(4, jnp.int8) @ (jnp.arange(4, dtype=jnp.int8) * (x > 0))),
}
PLACES = {
    "slice before the start": lambda x: jnp.sum(lax.dynamic_slice(x, (jnp.argmin(x) - 7,), (2,)) ** 2),
    "update before the start": lambda x: jnp.sum(lax.dynamic_update_slice(x, x[:2] ** 2, (jnp.argmin(x) - 7,)) ** 2),
    "slice at uint8": lambda x: jnp.sum(
        lax.dynamic_slice(x.reshape(TWO), (jnp.argmin(x).astype(jnp.uint8), jnp.uint8(0)), (1, 2)) ** 2
    ),
    "slices under vmap": lambda x: jnp.sum(
        jax.vmap(lambda i: lax.dynamic_update_slice(x, x[:2] * 2, (i,)))(jnp.array([5, -9, 1])) ** 2
    ),
    "gather that clips": lambda x: jnp.sum(x.at[INDEX].get(mode="clip") ** 2),
    "gather that fills": lambda x: jnp.sum(x * x.at[INDEX].get(mode="fill", fill_value=7)),
    "gather that fills with its default": lambda x: jnp.sum(x * (jnp.arange(4).at[INDEX].get(mode="fill") > 5)),
    "scatter-add that drops": lambda x: jnp.sum(jnp.zeros(3).at[jnp.array([0, 7, 1, 2])].add(x) ** 2),
    "segment_sum that drops": lambda x: jnp.sum(jnp.sin(jax.ops.segment_sum(x, jnp.array([0, 1, 1, 5]), 2))),
    "scatter that drops": lambda x: jnp.sum(jnp.zeros(4, x.dtype).at[INDEX].set(x, mode="drop") ** 2),
    "scatter-mul": lambda x: jnp.sum(jnp.ones(4, x.dtype).at[jnp.array([0, 3, 1, 0])].multiply(x) ** 2),
    "scatter-min": lambda x: jnp.sum(jnp.ones(4, x.dtype).at[jnp.array([0, 9, 1, 0])].min(x) ** 2),
    "scatter-apply": lambda x: jnp.sum(x.at[jnp.array([0, 1])].apply(jnp.sin)),
    "one place of each row": lambda x: jnp.sum(jnp.take_along_axis(x.reshape(TWO), jnp.array([[1], [0]]), 1) ** 2),
}
PARAMETERS = {
    "precision": lambda x: jnp.sum(jnp.dot(x.reshape(TWO), x.reshape(TWO), precision="highest") ** 2),
    "two precisions": lambda x: jnp.sum(jnp.dot(x.reshape(TWO), x.reshape(TWO), precision=("high", "highest")) ** 2),
    "algorithm": lambda x: jnp.sum(jnp.dot(x.reshape(TWO), x.reshape(TWO), precision="F32_F32_F32") ** 2),
    "wider result": lambda x: jnp.dot(
        x.astype(jnp.bfloat16), x.astype(jnp.bfloat16), preferred_element_type=np.float32
    ),
    "convolution": lambda x: jnp.sum(
        lax.conv_general_dilated(
            jnp.outer(x, x).reshape(1, 4, 2, 2),
            x.reshape(4, 1, 1, 1),
            (1, 1),
            [(1, 0), (0, 2)],
            rhs_dilation=(1, 2),
            feature_group_count=4,
        )
        ** 2
    ),
    "sort by two": lambda x: jnp.sum(lax.sort((x, x**2), num_keys=2)[1] * jnp.arange(4) + jnp.sort(x, descending=True)),
    "rounding": lambda x: jnp.sum(jnp.round(x) * x + lax.round(x) * x + jnp.round(x, 1) * x),
    "triangular solve": lambda x: jnp.sum(
        lax.linalg.triangular_solve(jnp.outer(x, x), x[None], lower=True, transpose_a=True, unit_diagonal=True)
    ),
}
CONTROL = {
    "switch to single elements": lambda x: lax.switch(
        jnp.int32(2), [lambda v: v[0], lambda v: v[1] ** 2, lambda v: v[2] ** 3], x
    ),
    "branch of a number": lambda x: lax.cond(x[0] > 1, lambda: jnp.sum(x), lambda: jnp.float32(2.0)) * x[1],
    "branches of numbers": lambda x: (
        jnp.sum(x) * lax.switch(jnp.argmax(x), [lambda: 1.0, lambda: jnp.inf, lambda: 3.0])
    ),
    "cond": lambda x: lax.cond(x[0] > 0, lambda: jnp.sum(x**2), lambda: jnp.sum(x)),
    "scan from numbers": lambda x: lax.scan(lambda c, r: ((c[0] + 1, c[1] * r + c[0]), c[0]), (0, np.float32(1)), x)[0][
        1
    ],
    "scan of nothing": lambda x: jnp.sum(lax.scan(lambda c, _: (c, x * 2), (), None, length=3)[1]),
    "while of whole numbers": lambda x: jnp.sum(x) * lax.fori_loop(0, x[3].astype(int), lambda i, c: c * 2, 1),
    "platforms": lambda x: jnp.sum(lax.platform_dependent(x, cpu=lambda v: v * 2, default=lambda v: v * 3)),
}
WITHOUT_TEXT = {
    "custom_vjp": lambda x: jnp.sum(tripled(x)),
    "mutable arrays": with_references,
    "linear solve": lambda x: jnp.sum(jax.scipy.linalg.solve(jnp.outer(x, x) + jnp.eye(4, dtype=x.dtype), x)),
    "random numbers": lambda x: jnp.sum(x * jax.random.normal(jax.random.key(3), (4,), x.dtype)),
    "choice of a key": lambda x: jnp.sum(
        x * jax.random.uniform(jnp.where(x[0] > 0, *jax.random.split(jax.random.key(3))), (4,), x.dtype)
    ),
    "fft": lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2),
    "pooling": lambda x: jnp.sum(lax.reduce_window(jnp.outer(x, x), -np.inf, lax.max, TWO, (1, 1), "SAME") ** 2),
    "shard_map": lambda x: jnp.sum(
        jax.shard_map(
            lambda v: lax.psum(v**2, "i"),
            mesh=jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,)),
            in_specs=jax.P("i"),
            out_specs=jax.P(),
        )(x)
    ),
    "interp": lambda x: jnp.sum(jnp.interp(x, jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 3.0]))),
    "histogram": lambda x: jnp.sum(jnp.histogram(jnp.arange(4.0), bins=2, weights=x)[0] ** 2),
    "expm": lambda x: jnp.sum(jax.scipy.linalg.expm(jnp.outer(x, x) * 0.1)),
}
BEYOND_JAX = {"scatter-mul", "scatter-apply", "while of whole numbers"}  # which JAX does not differentiate
PROGRAMS = NUMBERS | WHOLE_NUMBERS | PLACES | PARAMETERS | CONTROL | WITHOUT_TEXT


@pytest.mark.parametrize("x64", [False, True], ids=["32 bits", "x64"])
def test_the_text_says_it_all(x64):
    with jax.enable_x64(x64):
        x = jnp.asarray(X)
        texts = {name: dp.backward_source(loss)(x).function() for name, loss in PROGRAMS.items()}

        @jax.jit
        def both(x):
            return {name: (texts[name](x)[0], _oracle(name)(loss)(x)) for name, loss in PROGRAMS.items()}

        results = both(x)
    for name, (ours, theirs) in results.items():
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_allclose(ours, theirs, 2e-4, 1e-5, err_msg=name)


def _oracle(name):
    return dp.grad if name in BEYOND_JAX else jax.grad


def test_it_runs_operation_by_operation_too():
    for name in ("scan from numbers", "complex infinity", "platforms", "random numbers"):
        np.testing.assert_allclose(
            dp.backward_source(PROGRAMS[name])(X).function()(X), [dp.grad(PROGRAMS[name])(X)], 1e-5
        )


def test_what_has_no_text_is_named():
    source = dp.backward_source(PROGRAMS["fft"])(X)
    (name, *_) = source.named
    assert f"`.function()` supplies {', '.join(source.named)}." in source
    assert f" = {name}(" in source


def test_an_unknown_parameter_is_not_lost():
    """A parameter of which no text says anything takes the operation's text away."""
    product = lambda x: jnp.sum(lax.dot_general(x, x, (((0,), (0,)), ((), ())), precision=("high", "highest")))
    source = dp.backward_source(product)(X)
    assert "dot_general" in source.named and "@" not in source


def test_numbers_stay_plain_where_they_may():
    source = dp.backward_source(lambda x: jnp.sum(jnp.where(x > 0, x * 2.0, 0.0) + jnp.maximum(x, 1.0)))(X)
    assert "x * 2.0" in source or "* 2.0" in source
    assert "jnp.float32(" not in source


def test_names_that_python_and_the_text_use():
    arrays = {name: jnp.asarray(X) for name in ("lambda", "0", "²", "jnp", "a b", "complex")}
    loss = lambda **xs: jnp.sum(
        jnp.real(xs["lambda"] * xs["0"] * xs["²"] * xs["jnp"] * xs["a b"] * xs["complex"] * 1j * -1j)
    )
    found = dp.backward_source(loss)(**arrays).function()(*(arrays[name] for name in sorted(arrays)))
    for gradient in found:
        np.testing.assert_allclose(gradient, X**5, 1e-4)


def test_numpy_arrays_and_numbers_as_arguments():
    loss = lambda x, y, scale: jnp.sum(x @ y * 2) * scale + jnp.reshape(scale, (1,))[0]
    arguments = (np.arange(4.0), np.arange(4, dtype=np.float32), 1.5)
    found = dp.backward_source(loss)(*arguments).function()(*arguments)
    expected = jax.grad(loss, (0, 1, 2))(*arguments)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, 1e-6)


def test_a_function_without_gradients():
    assert dp.backward_source(lambda n: jnp.sum(n * 1.0))(jnp.arange(3)).function()(jnp.arange(3)) == ()
