"""Write one operation of a jaxpr as a Python expression, with JAX's public functions and Python's operators.

To write another operation, add its name to `_LAX`, if `jax.lax` has a function of that name with the same arguments, or
a line to `_WRITERS`. A text says every parameter of its operation that is not at rest, or there is no text: what a
writer does not look up may not have a value, so a new parameter is never lost.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.graph._explain.values import Operand, dtype_text, number_text, plain, tuple_text, with_numbers

_ARITHMETIC = dict(add="+", add_any="+", sub="-", mul="*")
_COMPARISONS = dict(gt=">", lt="<", ge=">=", le="<=", eq="==", ne="!=", xor="^") | {"and": "&", "or": "|"}
_LAX = set(
    "abs acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj cos cosh "
    "digamma erf erf_inv erfc exp exp2 expm1 floor igamma igamma_grad_a igammac imag is_finite lgamma log log1p "
    "logistic nextafter polygamma population_count random_gamma_grad real rem rsqrt shift_left shift_right_arithmetic "
    "shift_right_logical sign sin sinh sqrt square stop_gradient tan tanh zeta".split()
)
# Parameters that change no number: what the operand was before, how a result is promoted later.
_WITHOUT_EFFECT = {"input_dtype", "weak_type"}


class _Parameters(Mapping):
    """The parameters of an operation, which note what was looked up."""

    def __init__(self, params):
        self._params, self._said = params, set(_WITHOUT_EFFECT)

    def __getitem__(self, name):
        self._said.add(name)
        return self._params[name]

    def __iter__(self):
        return iter(self._params)

    def __len__(self):
        return len(self._params)

    def all_said(self) -> bool:
        """Whether those that were not looked up are at rest."""
        return all(name in self._said or _at_rest(value) for name, value in self._params.items())


def _at_rest(value) -> bool:
    return value is None or value is False or (isinstance(value, tuple) and not value)


def expression(eqn, operands: list[Operand]) -> str | None:
    """Write an equation as a Python expression of its operands; None if there is none."""
    name, params = eqn.primitive.name, _Parameters(eqn.params)
    text: str | None
    if name in _ARITHMETIC:
        text = _arithmetic(eqn, name, operands)
    elif name in _COMPARISONS:
        x, y = with_numbers(*operands)
        text = f"{x} {_COMPARISONS[name]} {y}"
    elif name in _LAX:
        text = f"lax.{name}({_listing(operands)})"
    else:
        text = _WRITERS[name](eqn, params, *operands) if name in _WRITERS else None
    return text if text is not None and params.all_said() else None


def _listing(texts) -> str:
    return ", ".join(map(str, texts))


def _call(function: str, *arguments, **options) -> str:
    """Write a call; options that are None are left out."""
    written = [f"{name}={value}" for name, value in options.items() if value is not None]
    return f"{function}({_listing([*arguments, *written])})"


def _true(flag) -> str | None:
    return "True" if flag else None


# ---------------------------------------------------------------- element by element


def _arithmetic(eqn, name, operands) -> str:
    """Write an operator, but for truth values: of their sums and products Python has none."""
    if _is_bool(eqn.outvars[0].aval.dtype):
        return f"lax.{name}({_listing(operands)})"
    x, y = with_numbers(*operands)
    return f"{x} {_ARITHMETIC[name]} {y}"


def _div(eqn, p, *operands):
    """`lax.div` of whole numbers rounds toward zero, as none of Python's operators."""
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact):
        return f"lax.div({_listing(operands)})"
    return " / ".join(with_numbers(*operands))


def _pow(eqn, p, x, y):
    if x.aval.dtype != y.aval.dtype:
        return f"lax.pow({x}, {y})"
    x, y = with_numbers(x, y)
    return f"{_base(x)} ** {y}"


def _base(text) -> str:
    text = str(text)
    return f"({text})" if text.startswith("-") else text


def _promoting(function):
    return lambda eqn, p, *operands: f"{function}({_listing(with_numbers(*operands))})"


def _select(eqn, p, which, *cases):
    if len(cases) != 2 or not _is_bool(which.aval.dtype):
        return f"lax.select_n({_listing([which, *cases])})"
    otherwise, where = with_numbers(*cases)
    return f"jnp.where({which}, {where}, {otherwise})"


def converted_number(eqn, operands: list[Operand]) -> Operand | None:
    """Get the result of an equation that converts a number; None for another equation."""
    if eqn.primitive.name != "convert_element_type" or not operands[0].is_number:
        return None
    number, aval = np.asarray(operands[0].number), eqn.outvars[0].aval
    safe = aval.dtype.kind == "f" or (number.dtype.kind in "biu" and aval.dtype.kind in "iu")
    if number.dtype.kind not in "biuf" or not safe or aval.shape:
        return None
    result = number.astype(aval.dtype)
    return Operand(aval, number=result) if aval.dtype.kind == "f" or int(result) == int(number) else None


def _convert(eqn, p, x):
    dtype = p["new_dtype"]
    return f"{x}.astype({dtype_text(dtype)})"


def _round(eqn, p, x):
    half_to_even = p["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    return f"jnp.round({x})" if half_to_even else f"lax.round({x})"


# ---------------------------------------------------------------- reductions


def _reduction(function, primitive, suits=lambda dtype: True):
    """Write `jnp.sum` and its like, where they compute in the operand's own type; else the function of `jax.lax`."""

    def write(eqn, p, x):
        axes, aval = tuple(p["axes"]), x.aval
        if not suits(aval.dtype) or 0 in aval.shape:
            return f"lax.{primitive}({x}, {plain(axes)})"
        return f"jnp.{function}({x})" if axes == tuple(range(aval.ndim)) else f"jnp.{function}({x}, {_axes(axes)})"

    return write


def _sums_as_it_is(dtype) -> bool:
    """Whether `jnp.sum` neither widens half precision nor whole numbers of this dtype."""
    return dtype.name in ("float32", "float64", "complex64", "complex128")


def _is_bool(dtype) -> bool:
    return dtype.kind == "b"


def _axes(axes) -> str:
    return plain(axes[0] if len(axes) == 1 else axes)


def _cumulative(function):
    return lambda eqn, p, x: _call(f"lax.{function}", x, p["axis"], reverse=_true(p["reverse"]))


def _argument(function):
    return lambda eqn, p, x: f"lax.{function}({x}, {_axes(p['axes'])}, {dtype_text(p['index_dtype'])})"


# ---------------------------------------------------------------- products


def _dot(eqn, p, x, y):
    (over_x, over_y), (batch_x, batch_y) = p["dimension_numbers"]
    a, b = x.aval, y.aval
    options = _precision(eqn, p)
    if options is None:
        return None
    if not any(options.values()) and not batch_x and len(over_x) == 1 and a.ndim <= 2 and b.ndim <= 2:
        left = x if over_x[0] == a.ndim - 1 else f"{x}.T"
        right = y if over_y[0] == 0 else f"{y}.T"
        return f"{left} @ {right}"
    if not any(options.values()) and not batch_x and not over_x:
        return f"jnp.tensordot({x}, {y}, 0)"
    return _call("lax.dot_general", x, y, plain(((over_x, over_y), (batch_x, batch_y))), **options)


def _precision(eqn, p) -> dict | None:
    """Write precision and result type of a product, each None if it is what the operands ask for."""
    aval, dtypes = eqn.outvars[0].aval, {v.aval.dtype for v in eqn.invars}
    wide = p["preferred_element_type"] is not None and dtypes != {aval.dtype}
    precision = p["precision"]
    if isinstance(precision, tuple) and len(set(precision)) == 1:
        precision = precision[0]
    kinds = (lax.Precision, lax.DotAlgorithmPreset)
    if not (precision is None or isinstance(precision, kinds)):
        return None
    return {
        "precision": None if precision is None else f"lax.{type(precision).__name__}.{precision.name}",
        "preferred_element_type": dtype_text(aval.dtype) if wide else None,
    }


def _convolution(eqn, p, x, y):
    options = _precision(eqn, p)
    if options is None:
        return None
    ones, groups = {1}, ("feature_group_count", "batch_group_count")
    dilations = {name: plain(p[name]) for name in ("lhs_dilation", "rhs_dilation") if set(p[name]) - ones}
    counts = {name: plain(p[name]) for name in groups if p[name] != 1}
    numbers = _record(p["dimension_numbers"])
    strides, padding = plain(p["window_strides"]), plain(p["padding"])
    return _call(
        "lax.conv_general_dilated", x, y, strides, padding, **dilations, dimension_numbers=numbers, **counts, **options
    )


def _record(numbers) -> str:
    """Write the record by which a gather, scatter or convolution numbers its dimensions."""
    default = getattr(numbers, "_field_defaults", {})
    fields = {k: getattr(numbers, k) for k in getattr(numbers, "_fields", None) or vars(numbers)}
    written = [f"{k}={plain(v)}" for k, v in fields.items() if v is not None and tuple(v) != default.get(k)]
    return f"lax.{type(numbers).__name__}({', '.join(written)})"


# ---------------------------------------------------------------- shapes


def _broadcast(eqn, p, x):
    shape, dims, dtype = plain(p["shape"]), tuple(p["broadcast_dimensions"]), x.aval.dtype
    if x.is_number:
        return f"jnp.full({shape}, {number_text(x.number)}, {dtype_text(dtype)})"
    ndim = len(p["shape"])
    if dims == tuple(range(ndim - x.aval.ndim, ndim)):
        return f"jnp.broadcast_to({x}, {shape})"
    return f"lax.broadcast_in_dim({x}, {shape}, {plain(dims)})"


def _reshape(eqn, p, x):
    sizes = plain(p["new_sizes"])
    return (
        f"{x}.reshape({sizes})" if p["dimensions"] is None else f"lax.reshape({x}, {sizes}, {plain(p['dimensions'])})"
    )


def _slice(eqn, p, x):
    if x.aval.ndim == 0:
        return str(x)
    strides = p["strides"] or (1,) * x.aval.ndim
    parts = zip(map(int, p["start_indices"]), map(int, p["limit_indices"]), strides, x.aval.shape, strict=True)
    text = ", ".join((f"{a or ''}:{b if b != n else ''}" + (f":{s}" if s != 1 else "")) for a, b, s, n in parts)
    return f"{x}[{text}]"


def _dynamic_slice(eqn, p, x, *starts):
    return _call("lax.dynamic_slice", x, *_starts(starts, (plain(p["slice_sizes"]),)))


def _dynamic_update_slice(eqn, p, x, new, *starts):
    return _call("lax.dynamic_update_slice", x, new, *_starts(starts))


def _starts(starts, more=()) -> tuple:
    """Write the corner of a slice, which the operation clamps and the function would first count from the end."""
    if all(x.is_number and x.number >= 0 for x in starts):
        return tuple_text(number_text(x.number) for x in starts), *more
    signed = any(jnp.issubdtype(x.aval.dtype, jnp.signedinteger) for x in starts)
    return tuple_text(starts), *more, *(["allow_negative_indices=False"] if signed else [])


def _pad(eqn, p, x, value):
    return f"lax.pad({x}, {value}, {plain(p['padding_config'])})"


# ---------------------------------------------------------------- gather and scatter


def _gather(eqn, p, x, indices):
    options = _indexing(p)
    if options is None:
        return None
    fill = None if p["fill_value"] is None else number_text(np.asarray(p["fill_value"], x.aval.dtype))
    numbers, sizes = _record(p["dimension_numbers"]), plain(p["slice_sizes"])
    return _call("lax.gather", x, indices, numbers, slice_sizes=sizes, **options, fill_value=fill)


def _scattering(function):
    def write(eqn, p, x, indices, updates):
        options = _indexing(p)
        if options is None or (p["update_jaxpr"] is not None and function == "scatter"):
            return None
        return _call(f"lax.{function}", x, indices, updates, _record(p["dimension_numbers"]), **options)

    return write


_MODES = {
    lax.GatherScatterMode.FILL_OR_DROP: '"fill"',
    lax.GatherScatterMode.CLIP: '"clip"',
    lax.GatherScatterMode.PROMISE_IN_BOUNDS: '"promise_in_bounds"',
}


def _indexing(p) -> dict | None:
    if p["mode"] not in _MODES:
        return None
    flags = {name: _true(p[name]) for name in ("indices_are_sorted", "unique_indices")}
    return {**flags, "mode": _MODES[p["mode"]]}


# ---------------------------------------------------------------- sorting, linear algebra


def _sort(eqn, p, *operands):
    options = {
        "is_stable": None if p["is_stable"] else "False",
        "num_keys": p["num_keys"] if p["num_keys"] != 1 else None,
    }
    return _call("lax.sort", tuple_text(operands), dimension=p["dimension"], **options)


def _top_k(eqn, p, x):
    return f"lax.top_k({x}, {p['k']}, axis={p['axis']})" if p.get("is_stable", True) else None


def _triangular_solve(eqn, p, a, b):
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return _call("lax.linalg.triangular_solve", a, b, **{name: _true(p[name]) for name in names})


_WRITERS: dict[str, Callable] = {
    "div": _div,
    "pow": _pow,
    "max": _promoting("jnp.maximum"),
    "min": _promoting("jnp.minimum"),
    "neg": lambda eqn, p, x: f"-{x}",
    "not": lambda eqn, p, x: f"~{x}",
    "integer_pow": lambda eqn, p, x: f"{_base(x)} ** {p['y']}",
    "select_n": _select,
    "convert_element_type": _convert,
    "reduce_precision": lambda eqn, p, x: f"lax.reduce_precision({x}, {p['exponent_bits']}, {p['mantissa_bits']})",
    "bitcast_convert_type": lambda eqn, p, x: f"lax.bitcast_convert_type({x}, {dtype_text(p['new_dtype'])})",
    "regularized_incomplete_beta": lambda eqn, p, *xs: f"lax.betainc({_listing(xs)})",
    "round": _round,
    "reduce_sum": _reduction("sum", "reduce_sum", _sums_as_it_is),
    "reduce_prod": _reduction("prod", "reduce_prod", _sums_as_it_is),
    "reduce_max": _reduction("max", "reduce_max"),
    "reduce_min": _reduction("min", "reduce_min"),
    "reduce_and": _reduction("all", "reduce_and", _is_bool),
    "reduce_or": _reduction("any", "reduce_or", _is_bool),
    "reduce_xor": lambda eqn, p, x: f"lax.reduce_xor({x}, {plain(tuple(p['axes']))})",
    "argmax": _argument("argmax"),
    "argmin": _argument("argmin"),
    "cumsum": _cumulative("cumsum"),
    "cumprod": _cumulative("cumprod"),
    "cummax": _cumulative("cummax"),
    "cummin": _cumulative("cummin"),
    "cumlogsumexp": _cumulative("cumlogsumexp"),
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": lambda eqn, p, x: f"jnp.squeeze({x}, {_axes(p['dimensions'])})",
    "expand_dims": lambda eqn, p, x: f"jnp.expand_dims({x}, {_axes(p['dimensions'])})",
    "transpose": lambda eqn, p, x: f"jnp.transpose({x}, {plain(p['permutation'])})",
    "rev": lambda eqn, p, x: f"jnp.flip({x}, {_axes(p['dimensions'])})",
    "stack": lambda eqn, p, *xs: f"jnp.stack([{_listing(xs)}], {p['axis']})",
    "unstack": lambda eqn, p, x: f"jnp.unstack({x}, axis={p['axis']})",
    "split": lambda eqn, p, x: f"lax.split({x}, {plain(p['sizes'])}, {p['axis']})",
    "tile": lambda eqn, p, x: f"jnp.tile({x}, {plain(p['reps'])})",
    "concatenate": lambda eqn, p, *xs: f"jnp.concatenate([{_listing(xs)}], {p['dimension']})",
    "iota": lambda eqn, p: f"lax.broadcasted_iota({dtype_text(p['dtype'])}, {plain(p['shape'])}, {p['dimension']})",
    "slice": _slice,
    "pad": _pad,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "scatter": _scattering("scatter"),
    "scatter-add": _scattering("scatter_add"),
    "scatter-sub": _scattering("scatter_sub"),
    "scatter-mul": _scattering("scatter_mul"),
    "scatter-min": _scattering("scatter_min"),
    "scatter-max": _scattering("scatter_max"),
    "sort": _sort,
    "top_k": _top_k,
    "cholesky": lambda eqn, p, x: f"lax.linalg.cholesky({x}, symmetrize_input=False)",
    "triangular_solve": _triangular_solve,
    "optimization_barrier": lambda eqn, p, *xs: f"lax.optimization_barrier({tuple_text(xs)})",
}
