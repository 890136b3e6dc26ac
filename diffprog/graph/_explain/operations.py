"""Write one operation of a jaxpr as a Python expression, with JAX's public functions and Python's operators.

To write another operation, add its name to `_LAX`, if `jax.lax` has a function of that name with the same arguments, or
a line to `_WRITERS`. A text says every parameter of its operation that is not at rest, or there is no text: what a
writer does not look up may not have a value, so a new parameter is never lost.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog.graph._explain import rearranging
from diffprog.graph._explain.values import (
    Operand,
    call_text,
    dtype_text,
    listing,
    plain,
    record_text,
    true_text,
    tuple_text,
    with_numbers,
)

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
        text = f"lax.{name}({listing(operands)})"
    else:
        text = _WRITERS[name](eqn, params, *operands) if name in _WRITERS else None
    return text if text is not None and params.all_said() else None


# ---------------------------------------------------------------- element by element


def _arithmetic(eqn, name, operands) -> str:
    """Write an operator, but for truth values: of their sums and products Python has none."""
    if _is_bool(eqn.outvars[0].aval.dtype):
        return f"lax.{name}({listing(operands)})"
    x, y = with_numbers(*operands)
    return f"{x} {_ARITHMETIC[name]} {y}"


def _div(eqn, p, *operands):
    """`lax.div` of whole numbers rounds toward zero, as none of Python's operators."""
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact):
        return f"lax.div({listing(operands)})"
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
    return lambda eqn, p, *operands: f"{function}({listing(with_numbers(*operands))})"


def _select(eqn, p, which, *cases):
    if len(cases) != 2 or not _is_bool(which.aval.dtype):
        return f"lax.select_n({listing([which, *cases])})"
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
    return lambda eqn, p, x: call_text(f"lax.{function}", x, p["axis"], reverse=true_text(p["reverse"]))


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
    return call_text("lax.dot_general", x, y, plain(((over_x, over_y), (batch_x, batch_y))), **options)


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
    numbers = record_text(p["dimension_numbers"])
    strides, padding = plain(p["window_strides"]), plain(p["padding"])
    return call_text(
        "lax.conv_general_dilated", x, y, strides, padding, **dilations, dimension_numbers=numbers, **counts, **options
    )


# ---------------------------------------------------------------- sorting, linear algebra


def _sort(eqn, p, *operands):
    options = {
        "is_stable": None if p["is_stable"] else "False",
        "num_keys": p["num_keys"] if p["num_keys"] != 1 else None,
    }
    return call_text("lax.sort", tuple_text(operands), dimension=p["dimension"], **options)


def _top_k(eqn, p, x):
    return f"lax.top_k({x}, {p['k']}, axis={p['axis']})" if p.get("is_stable", True) else None


def _triangular_solve(eqn, p, a, b):
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    return call_text("lax.linalg.triangular_solve", a, b, **{name: true_text(p[name]) for name in names})


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
    "regularized_incomplete_beta": lambda eqn, p, *xs: f"lax.betainc({listing(xs)})",
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
    "broadcast_in_dim": rearranging.broadcast,
    "reshape": rearranging.reshape,
    "squeeze": lambda eqn, p, x: f"jnp.squeeze({x}, {_axes(p['dimensions'])})",
    "expand_dims": lambda eqn, p, x: f"jnp.expand_dims({x}, {_axes(p['dimensions'])})",
    "transpose": lambda eqn, p, x: f"jnp.transpose({x}, {plain(p['permutation'])})",
    "rev": lambda eqn, p, x: f"jnp.flip({x}, {_axes(p['dimensions'])})",
    "stack": lambda eqn, p, *xs: f"jnp.stack([{listing(xs)}], {p['axis']})",
    "unstack": lambda eqn, p, x: f"jnp.unstack({x}, axis={p['axis']})",
    "split": lambda eqn, p, x: f"lax.split({x}, {plain(p['sizes'])}, {p['axis']})",
    "tile": lambda eqn, p, x: f"jnp.tile({x}, {plain(p['reps'])})",
    "concatenate": lambda eqn, p, *xs: f"jnp.concatenate([{listing(xs)}], {p['dimension']})",
    "iota": lambda eqn, p: f"lax.broadcasted_iota({dtype_text(p['dtype'])}, {plain(p['shape'])}, {p['dimension']})",
    "slice": rearranging.slicing,
    "pad": rearranging.pad,
    "dynamic_slice": rearranging.dynamic_slice,
    "dynamic_update_slice": rearranging.dynamic_update_slice,
    "gather": rearranging.gather,
    "scatter": rearranging.scattering("scatter"),
    "scatter-add": rearranging.scattering("scatter_add"),
    "scatter-sub": rearranging.scattering("scatter_sub"),
    "scatter-mul": rearranging.scattering("scatter_mul"),
    "scatter-min": rearranging.scattering("scatter_min"),
    "scatter-max": rearranging.scattering("scatter_max"),
    "sort": _sort,
    "top_k": _top_k,
    "cholesky": lambda eqn, p, x: f"lax.linalg.cholesky({x}, symmetrize_input=False)",
    "triangular_solve": _triangular_solve,
    "optimization_barrier": lambda eqn, p, *xs: f"lax.optimization_barrier({tuple_text(xs)})",
}
