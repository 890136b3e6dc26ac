"""Rows of the array operations."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from tests.rules.rows.row import Row


def _u(name, domain=(-2.0, 2.0), complex_too=True, **more):
    return Row(name, getattr(lax, name), ((3, 4),), domain, complex_too, **more)


def _b(name, domain=(0.3, 2.0), complex_too=False, **more):
    return Row(name, getattr(lax, name), ((3, 4), (3, 4)), domain, complex_too, **more)


SINCE_0_11 = jax.__version_info__ >= (0, 11)  # JAX 0.10 takes sign of complex numbers and nextafter for constant
INSIDE = (-0.9, 0.9)
POSITIVE = (0.3, 3.0)

ELEMENTWISE = [
    _u("neg"),
    _u("exp"),
    _u("exp2"),
    _u("expm1"),
    _u("sin"),
    _u("cos"),
    _u("tan", INSIDE),
    _u("tanh"),
    _u("logistic"),
    _u("sinh"),
    _u("cosh"),
    _u("asinh"),
    _u("square"),
    _u("conj"),
    _u("log", POSITIVE),
    _u("log1p", POSITIVE),
    _u("sqrt", POSITIVE),
    _u("rsqrt", POSITIVE),
    _u("cbrt", POSITIVE, False),
    _u("asin", INSIDE),
    _u("acos", INSIDE),
    _u("atan", INSIDE),
    _u("atanh", INSIDE),
    _u("acosh", (1.2, 3.0)),
    _u("abs"),
    _u("sign", complex_too=SINCE_0_11),
    _u("floor", complex_too=False),
    _u("ceil", complex_too=False),
    _u("round", complex_too=False),
    _b("add", complex_too=True),
    _b("sub", complex_too=True),
    _b("mul", complex_too=True),
    _b("div", complex_too=True),
    _b("pow", complex_too=True),
    _b("max"),
    _b("min"),
    _b("atan2"),
    _b("rem", (0.4, 5.0)),
    Row("complex", lambda x, y: jnp.abs(lax.complex(x, y)), ((3,), (3,))),
    Row("real and imag", lambda x: jnp.real(x * x) + 3 * jnp.imag(x * x), ((4,),), complex_too=True),
    Row("real numbers as complex", lambda x: lax.real(lax.conj(x) * (1 + 2j)), ((4,),)),
    *[
        Row(f"integer_pow {n}", lambda x, n=n: lax.integer_pow(x, n), ((4,),), POSITIVE, True)
        for n in (-3, -1, 0, 1, 2, 3, 5)
    ],
    Row("pow with an integer exponent", lambda x: lax.pow(x, np.array([0, 1, 2, -2], np.int32)), ((4,),)),
    Row("pow of zero", lambda x, y: lax.pow(x, y), (np.array([0.0, 2.0]), np.array([2.0, 0.0])), order=1),
    Row("mul by a scalar", lambda x, y: x * y, ((3, 4), ()), complex_too=True),
    Row("max with a scalar", lambda x, y: jnp.maximum(x, y), ((3, 4), ())),
    Row("mul with out_dtype", lambda x, y: lax.mul(x, y), ((3,), (3,))),
    Row("ties of max", lax.max, (np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))),
    Row("ties of min", lax.min, (np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))),
    Row("relu", jax.nn.relu, (np.array([-1.0, 0.0, 2.0]),)),
    Row("relu6", jax.nn.relu6, (np.array([-1.0, 0.0, 2.0, 6.0, 7.0]),)),
    Row("clamp", lax.clamp, ((3, 4), (3, 4), (3, 4)), (-1.0, 1.0)),
    Row(
        "clamp by arrays",
        lambda x: lax.clamp(jnp.full(4, -1, x.dtype), x, jnp.ones(4, x.dtype)),
        (np.array([-2.0, -1.0, 0.5, 1.0]),),
    ),
    Row(
        "select_n of two", lambda x, y: lax.select(np.array([True, False, True]), x, y), ((3,), (3,)), complex_too=True
    ),
    Row("select_n of three", lambda x, y, z: lax.select_n(np.array([0, 2, 1], np.int32), x, y, z), ((3,), (3,), (3,))),
    Row("where", lambda x, y: jnp.where(x > 0, x * y, y), ((3, 4), (4,))),
    Row(
        "convert to a narrower float",
        lambda x: lax.convert_element_type(x, np.float32) * 2,
        ((4,),),
        tolerance=1e-6,
        why="the result is float32",
    ),
    Row(
        "convert to complex",
        lambda x: jnp.abs(lax.convert_element_type(x, jnp.result_type(x, np.complex64)) * (1 + 2j)),
        ((4,),),
    ),
    Row("reduce_precision", lambda x: lax.reduce_precision(x, 8, 10) * x, ((4,),)),
    Row("stop_gradient", lambda x: lax.stop_gradient(x) * x, ((4,),), complex_too=True),
    Row("comparisons", lambda x, y: jnp.where((x < y) & (x != 0) | (y >= 1), x, y), ((5,), (5,))),
    *([Row("nextafter", lambda x: lax.nextafter(x, x + 1) ** 2, ((4,),), order=1)] if SINCE_0_11 else []),
    Row("is_finite", lambda x: jnp.where(lax.is_finite(x), x * x, x), ((4,),)),
    Row("log2", jnp.log2, ((4,),), POSITIVE, True),
    Row("polynomial", jnp.polyval, ((4,), (3,)), complex_too=True),
    Row("hypot", jnp.hypot, ((4,), (4,))),
    Row("logaddexp", jnp.logaddexp, ((4,), (4,))),
    Row("sinc", jnp.sinc, ((4,),), POSITIVE),
    Row("gelu", jax.nn.gelu, ((4,),)),
    Row("softmax", jax.nn.softmax, ((3, 4),)),
    Row("log_softmax", jax.nn.log_softmax, ((3, 4),)),
]

SPECIAL = [
    _u("erf", complex_too=False),
    _u("erfc", complex_too=False),
    _u("erf_inv", INSIDE, False),
    _u("lgamma", POSITIVE, False),
    _u("digamma", POSITIVE, False),
    _u("bessel_i0e", complex_too=False),
    _u("bessel_i1e", complex_too=False),
    Row("polygamma", lambda x: lax.polygamma(jnp.full_like(x, 2.0), x), ((4,),), POSITIVE),
    Row("igamma", lambda x: lax.igamma(jnp.full_like(x, 1.5), x), ((4,),), POSITIVE),
    Row("igamma in a", lambda a, x: lax.igamma(a, x), ((4,), (4,)), POSITIVE, order=1),
    Row("igammac", lambda a, x: lax.igammac(a, x), ((4,), (4,)), POSITIVE, order=1),
    Row("betainc", lambda x: lax.betainc(jnp.full_like(x, 1.5), jnp.full_like(x, 2.5), x), ((4,),), (0.1, 0.9)),
]

REDUCTIONS = [
    Row("reduce_sum", lambda x: jnp.sum(x, (0, 2)) ** 2, ((2, 3, 4),), complex_too=True),
    Row("reduce_sum of all", lambda x: jnp.sum(x) ** 2, ((2, 3),)),
    Row("reduce_max", lambda x: jnp.max(x, 1) ** 2, ((3, 4),)),
    Row("reduce_min", lambda x: jnp.min(x, (0, 1)) ** 2, ((3, 4),)),
    Row("reduce_max with ties", lambda x: jnp.max(x), (np.array([1.0, 3.0, 3.0, 2.0]),)),
    Row("reduce_prod", lambda x: jnp.prod(x, 1), ((3, 5),), complex_too=True),
    Row("reduce_prod over inner axes", lambda x: jnp.prod(x, (0, 2)), ((2, 3, 3),)),
    Row("reduce_prod with a zero", lambda x: jnp.prod(x), (np.array([1.5, 0.0, 2.0]),)),
    Row("reduce_prod with two zeros", lambda x: jnp.prod(x), (np.array([0.0, 3.0, 0.0]),)),
    Row("argmax", lambda x: x[jnp.argmax(x)] * x, ((5,),)),
    Row("reduce", lambda x: lax.reduce(x, np.array(1.0, x.dtype), lambda a, b: a * b, (1,)), ((3, 5),)),
    Row(
        "reduce of pairs",
        lambda x, y: lax.reduce(
            (x, y),
            (np.array(0.0, x.dtype), np.array(1.0, x.dtype)),
            lambda a, b: (a[0] + b[0] * b[1], a[1] * b[1]),
            (0,),
        )[1],
        ((4, 2), (4, 2)),
    ),
    Row("mean and variance", lambda x: jnp.var(x, 0) + jnp.mean(x), ((4, 3),)),
    Row("logsumexp", lambda x: jax.nn.logsumexp(x, 1), ((3, 4),)),
    Row("norm", lambda x: jnp.linalg.norm(x), ((5,),)),
    *[
        Row(f"cumsum reverse={r}", lambda x, r=r: lax.cumsum(x, 1, r) ** 2, ((3, 5),), complex_too=True)
        for r in (False, True)
    ],
    *[
        Row(f"cumprod reverse={r}", lambda x, r=r: lax.cumprod(x, 1, r), ((3, 5),), complex_too=True)
        for r in (False, True)
    ],
    Row("cumprod with a zero", lambda x: lax.cumprod(x), (np.array([1.5, 0.0, 2.0, 3.0]),)),
    Row("cummax", lambda x: lax.cummax(x, 1) ** 2, ((3, 5),)),
    Row("cummin", lambda x: lax.cummin(x, 0, True) ** 2, ((3, 5),)),
    Row("cummax with ties", lambda x: lax.cummax(x), (np.array([1.0, 1.0, 0.0, 2.0]),)),
    Row("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 1), ((3, 5),)),
    Row("cumlogsumexp reverse", lambda x: lax.cumlogsumexp(x, 0, True), ((3, 5),)),
]

SHAPES = [
    Row("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (0, 2)), ((2, 1),), complex_too=True),
    Row("broadcast a scalar", lambda x: jnp.broadcast_to(x, (2, 3)) ** 2, ((),)),
    Row("reshape", lambda x: x.reshape(6, 2) ** 2, ((3, 4),)),
    Row(
        "reshape of the transpose",
        lambda x: lax.reshape(x, (6, 2), (1, 0)) ** 2 * np.arange(12.0).reshape(6, 2),
        ((3, 4),),
    ),
    Row("squeeze and expand", lambda x: lax.expand_dims(lax.squeeze(x, (1,)), (0,)) ** 2, ((3, 1, 2),)),
    Row("transpose", lambda x: lax.transpose(x, (2, 0, 1)) ** 2, ((2, 3, 4),)),
    Row("rev", lambda x: lax.rev(x, (0, 2)) ** 2 * x, ((2, 3, 4),)),
    Row("concatenate", lambda x, y: lax.concatenate([x, y, x], 1) ** 2, ((2, 3), (2, 1))),
    Row("concatenate with a constant", lambda x: jnp.concatenate([x, np.ones(2), x]) ** 2, ((3,),)),
    Row("stack", lambda x, y: jnp.stack([x, y, x], 1) ** 2, ((3,), (3,))),
    Row("split", lambda x: jnp.split(x, [1, 3])[1] ** 2, ((5,),)),
    Row("split, all parts", lambda x: [p ** (i + 1) for i, p in enumerate(jnp.split(x, 3))], ((6,),)),
    Row("unstack", lambda x: [p * i for i, p in enumerate(jnp.unstack(x, axis=1))], ((2, 3),)),
    Row("tile", lambda x: jnp.tile(x, (2, 3)) ** 2, ((2, 2),)),
    Row("lax.tile", lambda x: lax.tile(x, (2, 3)) ** 2, ((2, 2),)),
    Row("pad", lambda x, v: lax.pad(x, v, [(1, 2, 1), (0, 1, 0)]) ** 2, ((2, 3), ())),
    Row("pad, negative", lambda x, v: lax.pad(x, v, [(-1, 2, 2), (1, -2, 0)]) ** 2, ((4, 5), ())),
    Row("repeat", lambda x: jnp.repeat(x, 3, axis=1) ** 2, ((2, 2),)),
    Row("roll", lambda x: jnp.roll(x, 2) * x, ((5,),)),
    Row("optimization_barrier", lambda x, y: lax.optimization_barrier((x * y, y))[0], ((3,), (3,))),
    Row("copy", lambda x: jnp.copy(x) * x, ((3,),)),
    Row("device_put", lambda x: jax.device_put(x) * x, ((3,),)),
    Row("checkpoint_name", lambda x: checkpoint_name(x * x, "square"), ((3,),)),
]

_SCATTER_ROWS = lax.ScatterDimensionNumbers((1,), (0,), (0,))
_REPEATED = np.array([[1], [3], [1]], np.int32)
_UNIQUE = np.array([[1], [3], [0]], np.int32)

INDEXING = [
    Row("slice", lambda x: lax.slice(x, (1, 0), (3, 2)) ** 2, ((4, 3),), complex_too=True),
    Row("slice with strides", lambda x: lax.slice(x, (1, 0), (6, 3), (2, 2)) ** 2, ((7, 3),)),
    # -7 counts from the end, which leaves -3, and is clamped to 0.
    Row("dynamic_slice before the start", lambda x: lax.dynamic_slice(x, (np.int32(-7),), (2,)) ** 2, ((4,),)),
    Row(
        "dynamic_update_slice before the start",
        lambda x, u: lax.dynamic_update_slice(x, u, (np.int32(-7),)) ** 2,
        ((4,), (2,)),
    ),
    Row("dynamic_slice", lambda x: lax.dynamic_slice(x, (np.int32(1), np.int32(2)), (2, 2)) ** 2, ((4, 3),)),
    Row(
        "dynamic_update_slice",
        lambda x, u: lax.dynamic_update_slice(x, u, (np.int32(1), np.int32(2))) ** 2,
        ((4, 3), (2, 2)),
    ),
    Row("overlapping slices", lambda x: sum(x[i : i + 3] ** (i + 1) for i in range(4)), ((7,),)),
    Row("rows one by one", lambda x: sum(x[i] * x[(i + 1) % 4] for i in range(4)), ((4, 3),)),
    Row("gather", lambda x: x[np.array([2, 0, 2])] ** 2, ((4, 3),), complex_too=True),
    Row("gather in two dimensions", lambda x: x[np.array([2, 0, 2]), np.array([1, 1, 0])] ** 2, ((4, 3),)),
    Row("gather outside", lambda x: x.at[np.array([2, 9, -1])].get(mode="fill", fill_value=1.0) ** 2, ((4,),)),
    Row("gather clipped", lambda x: x.at[np.array([2, 9])].get(mode="clip") ** 2, ((4,),)),
    Row("take_along_axis", lambda x: jnp.take_along_axis(x, np.array([[1, 0], [2, 2]]), 1) ** 2, ((2, 3),)),
    Row("embedding", lambda w: jnp.take(w, np.array([[1, 2], [1, 0]]), axis=0) ** 2, ((4, 3),)),
    Row("scatter-add", lambda x, u: x.at[np.array([1, 3, 1])].add(u) ** 2, ((4, 2), (3, 2)), complex_too=True),
    Row("scatter-sub", lambda x, u: lax.scatter_sub(x, _REPEATED, u, _SCATTER_ROWS) ** 2, ((4, 2), (3, 2))),
    Row("scatter-mul", lambda x, u: x.at[np.array([1, 3, 0])].multiply(u, unique_indices=True) ** 2, ((4, 2), (3, 2))),
    Row(
        "scatter-mul in its operand", lambda x: x.at[np.array([1, 3, 1])].multiply(np.full((3, 2), 2.0)) ** 2, ((4, 2),)
    ),
    Row("scatter", lambda x, u: x.at[np.array([1, 3, 0])].set(u, unique_indices=True) ** 2, ((4, 2), (3, 2))),
    Row("scatter with repeats", lambda x, u: x.at[np.array([1, 3, 1])].set(u) ** 2, ((4, 2), (3, 2))),
    Row("scatter outside", lambda x, u: x.at[np.array([1, 9])].set(u) ** 2, ((4,), (2,))),
    Row("scatter a window", lambda x, u: x.at[1:3, 1].set(u) ** 2, ((4, 2), (2,))),
    Row("scatter-max", lambda x, u: x.at[np.array([1, 3, 1])].max(u) ** 2, ((4, 2), (3, 2))),
    Row("scatter-min", lambda x, u: x.at[np.array([1, 3, 1])].min(u) ** 2, ((4, 2), (3, 2))),
    Row(
        "scatter-max with ties",
        lambda x, u: x.at[np.array([0, 0, 1])].max(u),
        (np.array([1.0, 2.0, 0.0]), np.array([1.0, 1.0, 2.0])),
        order=1,
    ),
    Row("sort", lambda x: jnp.sort(x, 0) ** 2 * jnp.arange(5)[:, None], ((5, 3),)),
    Row("sort by keys", lambda k, v: lax.sort((k, v), num_keys=1)[1] ** 2 * jnp.arange(5.0), ((5,), (5,))),
    Row("sort, all results", lambda k, v: [x * jnp.arange(5.0) for x in lax.sort((k, v), dimension=0)], ((5,), (5,))),
    Row("top_k", lambda x: lax.top_k(x, 2)[0] ** 2, ((3, 5),)),
    Row("top_k of rows", lambda x: lax.top_k(x.T, 3)[0] ** 2, ((3, 5),)),
    Row("approx_max_k", lambda x: lax.approx_max_k(x, 2)[0] ** 2, ((3, 6),)),
    Row("median", jnp.median, ((5,),)),
]


def _dot(numbers, **how):
    return lambda x, y: lax.dot_general(x, y, numbers, **how)


CONTRACTIONS = [
    Row("matmul", jnp.matmul, ((3, 4), (4, 2)), complex_too=True),
    Row("batched matmul", jnp.matmul, ((2, 3, 4), (2, 4, 2))),
    Row("dot_general, batched", _dot((((3, 1), (0, 2)), ((0,), (1,)))), ((2, 3, 4, 5), (5, 2, 3))),
    Row("dot_general, batch in the middle", _dot((((0,), (2,)), ((2, 1), (1, 0)))), ((5, 3, 2), (3, 2, 5, 4))),
    Row("outer", jnp.outer, ((3,), (2,))),
    Row("inner", jnp.vdot, ((3,), (3,)), complex_too=True),
    Row("einsum", lambda x, y: jnp.einsum("bij,kjb->bki", x, y), ((2, 3, 4), (5, 4, 2))),
]


def _conv(x_shape, k_shape, strides, padding, numbers=("NHWC", "HWIO", "NHWC"), order=2, name="", **how):
    def fun(x, k):
        return lax.conv_general_dilated(x, k, strides, padding, dimension_numbers=numbers, **how)

    return Row(f"convolution {name}", fun, (x_shape, k_shape), order=order)


CONVOLUTIONS = [
    _conv((2, 5, 6, 3), (3, 2, 3, 4), (1, 1), "SAME", name="plain"),
    _conv((2, 7, 6, 3), (3, 3, 3, 4), (2, 3), "VALID", name="strided"),
    _conv((2, 7, 8, 3), (3, 2, 3, 4), (2, 1), [(2, 1), (0, 3)], name="padded"),
    _conv((1, 9, 8, 2), (3, 2, 2, 3), (1, 2), "SAME", rhs_dilation=(2, 3), name="dilated"),
    _conv((1, 5, 4, 2), (3, 2, 2, 3), (1, 2), [(1, 2), (2, 1)], lhs_dilation=(2, 3), name="transposed"),
    _conv((2, 6, 5, 4), (3, 3, 2, 6), (1, 1), "SAME", feature_group_count=2, name="grouped"),
    _conv((2, 6, 5, 4), (3, 2, 1, 8), (2, 1), "SAME", feature_group_count=4, name="depthwise, two filters a channel"),
    _conv((2, 6, 5, 4), (3, 3, 1, 4), (1, 1), "SAME", feature_group_count=4, name="depthwise"),
    _conv((2, 7, 8, 4), (5, 3, 1, 4), (2, 2), "SAME", feature_group_count=4, name="depthwise, strided"),
    _conv(
        (2, 4, 7, 8),
        (4, 1, 3, 3),
        (2, 1),
        [(1, 0), (2, 2)],
        ("NCHW", "OIHW", "NCHW"),
        feature_group_count=4,
        name="depthwise, channels first",
    ),
    _conv((4, 6, 5, 3), (3, 3, 3, 6), (1, 2), "SAME", batch_group_count=2, name="batch-grouped"),
    _conv((2, 3, 7, 6), (4, 3, 3, 3), (2, 1), "SAME", ("NCHW", "OIHW", "NCHW"), name="channels first"),
    _conv((2, 8, 3), (3, 3, 2), (1,), "SAME", ("NWC", "WIO", "NWC"), name="in one dimension"),
    _conv((1, 3, 4, 3, 2), (2, 2, 2, 2, 3), (1, 1, 1), "VALID", ("NDHWC", "DHWIO", "NDHWC"), name="in three"),
    _conv((2, 6, 6, 2), (2, 2, 2, 3), (1, 1), [(-1, 0), (0, -2)], name="with negative padding"),
]


def _window(name, operation, start, window, strides, padding, shape=(2, 7, 6, 2), order=2, **dilations):
    def fun(x):
        return lax.reduce_window(x, np.asarray(start, x.dtype), operation, window, strides, padding, **dilations)

    return Row(f"window {name}", fun, (shape,), order=order)


WINDOWS = [
    _window("sum", lax.add, 0.0, (1, 3, 2, 1), (1, 2, 1, 1), "VALID"),
    _window("sum, padded", lax.add, 0.0, (1, 3, 2, 1), (1, 2, 3, 1), "SAME"),
    _window(
        "sum, dilated",
        lax.add,
        0.0,
        (1, 2, 2, 1),
        (1, 2, 1, 1),
        [(0, 0), (1, 2), (0, 1), (0, 0)],
        base_dilation=(1, 2, 1, 1),
        window_dilation=(1, 2, 3, 1),
    ),
    _window("max", lax.max, -np.inf, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    _window("max, overlapping", lax.max, -np.inf, (1, 3, 3, 1), (1, 2, 1, 1), "SAME"),
    _window("min", lax.min, np.inf, (1, 3, 2, 1), (1, 1, 2, 1), "SAME"),
    _window("max, large", lax.max, -np.inf, (1, 9, 9, 1), (1, 3, 3, 1), "VALID", (1, 12, 12, 1)),
    Row(
        "max of ties",
        lambda x: lax.reduce_window(x, -np.inf, lax.max, (2,), (1,), "VALID"),
        (np.array([1.0, 1.0, 0.0, 2.0, 2.0]),),
        order=1,
    ),
    Row(
        "average pooling",
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME") / 4,
        ((1, 5, 5, 2),),
    ),
    Row(
        "gradient of max pooling by JAX",
        lambda x: jax.grad(lambda x: (lax.reduce_window(x, -np.inf, lax.max, (3, 2), (2, 1), "SAME") ** 2).sum())(x),
        ((7, 6),),
        order=1,
    ),
    Row(
        "tangent of max pooling by JAX",
        lambda x: jax.jvp(
            lambda x: lax.reduce_window(x, -np.inf, lax.max, (3, 2), (2, 1), "SAME") ** 2, (x,), (x * x,)
        )[1],
        ((7, 6),),
        order=1,
    ),
]

RANDOM = [
    Row("uniform noise", lambda x: x * jax.random.uniform(jax.random.key(0), (4,), x.dtype), ((4,),)),
    Row(
        "normal noise",
        lambda x: x * jax.random.normal(jax.random.fold_in(jax.random.key(0), 3), (4,), x.dtype),
        ((4,),),
    ),
    Row(
        "dropout",
        lambda x: jnp.where(jax.random.bernoulli(jax.random.split(jax.random.key(1))[0], 0.5, (6,)), x, 0) ** 2,
        ((6,),),
    ),
    Row("bits", lambda x: x * (jax.random.bits(jax.random.PRNGKey(1), (4,)) % 7), ((4,),)),
]

CORE = [*ELEMENTWISE, *SPECIAL, *REDUCTIONS, *SHAPES, *INDEXING, *CONTRACTIONS, *CONVOLUTIONS, *WINDOWS, *RANDOM]
