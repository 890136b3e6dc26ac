"""What a diagnosis knows of each primitive: where it is singular, where it is flat, how a program writes it.

To teach `dp.diagnose` about a primitive, add a record to `PRIMITIVES`. A record names causes and remedies; the modules
beside this one find the place.
"""

import ast
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffprog.diagnosis._arrays import operand
from diffprog.diagnosis._patterns import is_norm
from diffprog.graph._recording.nodes import Node


class Element(NamedTuple):
    """One element of an operation at which something is not finite; NaN stands for a number that is not known.

    Attributes:
      node: the operation.
      x, y: its first and second operand there; in a backward pass, `x` is the operand that the gradient is for.
      power: the exponent, of a power.
      factor: the other operand, of a product in a backward pass.
      argument: position of the operand that the gradient is for.
      infinite: whether an operand is infinite there.
      any_infinite: whether an operand is infinite anywhere.
      overflows: whether the operation's own result is not finite there.
    """

    node: Node
    x: Any = math.nan
    y: Any = math.nan
    power: Any = math.nan
    factor: Any = math.nan
    argument: int = 0
    infinite: bool = False
    any_infinite: bool = False
    overflows: bool = False


class Row(NamedTuple):
    """One reason why a result or a slope is not finite.

    Attributes:
      holds: whether it is the reason at an element.
      cause: in a few words; {name}, {label} and {dtype} are the operation's.
      slope: the slope there, by which the gradient that arrives is multiplied.
      detail: a further line.
      fix: what to write instead.
    """

    holds: Callable[[Element], bool]
    cause: str
    slope: str | Callable[[Element], str] = ""
    detail: str | Callable[[Element], str] = ""
    fix: str | None = None


class Safe(NamedTuple):
    """How to keep a function away from where it, or its slope, is not finite, without changing a finite value.

    Attributes:
      condition: of the operand {x}, or of the whole expression {whole}, under which both are finite.
      operand: a number that fulfills it.
      result: what the function is elsewhere, if it is finite there.
    """

    condition: str
    operand: str
    result: str = "0.0"


class Primitive(NamedTuple):
    """What is known of one primitive.

    Attributes:
      forward: reasons why its result is not finite; the first that holds counts.
      slopes: points at which its slope is not finite; they hold for a gradient that the program itself computes, too.
      backward: further reasons why a gradient that it sends is not finite.
      cut: cause and remedy where it has no derivative; {name}, {label} and {dtype} are the operation's.
      saturates: what to call it where it is flat at its ends.
      can_underflow: whether it turns ordinary numbers into ones too small to tell from zero.
      has_stationary_points: whether its slope is zero at some points.
      picks: whether it passes on only some elements.
      mixes: whether an element of its result depends on elements of an operand at other positions.
      written_as: functions that a program may call for it, if not the one of its name.
      operator: the operator of Python's syntax that is this operation.
      safe: how to keep away from where it is not finite; of a node, where that depends on more than the primitive.
    """

    forward: tuple[Row, ...] = ()
    slopes: tuple[Row, ...] = ()
    backward: tuple[Row, ...] = ()
    cut: tuple[str, str] | None = None
    saturates: str | None = None
    can_underflow: bool = False
    has_stationary_points: bool = False
    picks: bool = False
    mixes: bool = False
    written_as: tuple[str, ...] = ()
    operator: type[ast.operator] | None = None
    safe: Safe | Callable[[Node], Safe] | None = None


def known(name: str) -> Primitive:
    """Look up a primitive; one that is not in the table has an empty record."""
    return PRIMITIVES.get("random_bits" if name.startswith("random") else name, _UNKNOWN)


def known_of(node: Node) -> Primitive:
    """Look up a node: its primitive, or the function whose rule it calls."""
    is_custom = node.primitive in ("custom_jvp_call", "custom_vjp_call")
    return CUSTOM_FUNCTIONS.get(node.label, known(node.primitive)) if is_custom else known(node.primitive)


# ---------------------------------------------------------------- rows and words that several records share


def _always(_: Element) -> bool:
    return True


def _is_root_of_negative(element: Element) -> bool:
    return element.x < 0 and not np.isnan(element.power) and element.power != int(element.power)


def _largest_operand(element: Element) -> str:
    name, dtype = element.node.primitive, element.node.dtype
    largest = math.log2(float(jnp.finfo(dtype).max)) * (1 if name == "exp2" else math.log(2))
    return f"{name} exceeds {dtype} above about {largest:.0f}"


def _number(x, form: str) -> str:
    return "" if np.isnan(x) else format(x, form)


def _at_zero(slope: str) -> Row:
    return Row(lambda e: e.x == 0, "{name} at zero", slope)


def _at_end(slope: str) -> Row:
    return Row(lambda e: abs(e.x) >= 1, "{name} at the end of its domain", slope)


_ZERO = Row(lambda e: e.x == 0, "{name} of zero")
_NEGATIVE = Row(lambda e: e.x < 0, "{name} of a negative number")
_OUTSIDE = Row(lambda e: abs(e.x) > 1, "{name} outside of [-1, 1]")
_AT_OR_OUTSIDE = Row(lambda e: abs(e.x) >= 1, "{name} at or outside of -1 and 1")
_POLE = Row(lambda e: e.x <= 0, "{name} at a pole")
_ROOT_OF_NEGATIVE = Row(_is_root_of_negative, "a negative number to a fractional power")
POSITIVE, NONZERO = Safe("{x} > 0", "1.0"), Safe("{x} != 0", "1.0")
_INSIDE = Safe("abs({x}) < 1", "0.0", "jax.lax.stop_gradient({whole})")  # asin and acos have a value at their ends
_NO_POLE = Safe("({x} > 0) | ({x} != jnp.floor({x}))", "1.0")
_NO_OVERFLOW = Safe("jnp.isfinite({whole})", "0.0")

_SOFT_STEP = "use a soft step, as jax.nn.sigmoid((x - threshold) / temperature)"
_STRAIGHT_THROUGH = "pass straight through: x + jax.lax.stop_gradient({} - x)"
_CONVERSION = (
    "conversion to {dtype}",
    f"keep it a floating-point number, or round and {_STRAIGHT_THROUGH.format('jnp.round(x)')}",
)
_WHOLE_NUMBERS = "{name} of whole numbers", "compute it in floating point"
_SOFT_CHOICE = (
    "weigh by a softmax instead of choosing (soft argmax), or pass the gradient straight through: "
    "soft + jax.lax.stop_gradient(hard - soft)"
)
_RANKS = "use the sorted values, or soft ranks in the place of the order"
_SMOOTH_SAMPLE = "write the sample as a smooth function of noise and parameters"
_CUSTOM_VJP = "wrap it in jax.custom_vjp with a gradient of its own"
_IDENTITY = "add a small multiple of the identity to the matrix"
_FINITE_MASK = (
    "put a large finite number, as -1e9, in the place of the infinity, or leave out rows that are masked whole"
)
_SUBTRACT = "subtract the largest exponent first, as jax.nn.softmax and jax.nn.logsumexp do, or clip the exponent"
_REPEATED = (
    "let the loss depend on the values, or on all vectors of a repeated value together; to add a small perturbation "
    "to the matrix changes the loss a little"
)
_ATAN2_SLOPES = "its slopes are x / (x**2 + y**2) and y / (x**2 + y**2)"
_NOT_ORIGIN = (
    "give atan2 a point that is not the origin: jnp.arctan2(y, jnp.where((x == 0) & (y == 0), jnp.copysign(1.0, x), x))"
)


def _safe_power(node: Node) -> Safe:
    """Keep a power from zero, and from negative numbers if the exponent is fractional; 0 ** 0 is 1."""
    exponent = np.asarray(node.params["y"] if "y" in node.params else operand(node, 1), float)
    safe = NONZERO if np.any(exponent == np.round(exponent)) else POSITIVE
    if not np.any(exponent == 0):
        return safe
    return safe._replace(result="1.0" if np.all(exponent == 0) else "jax.lax.stop_gradient({whole})")


def _growing(name: str, fix: str | None = None, **fields) -> Primitive:
    """Describe a function that grows like an exponential."""
    cause = "overflow in {name}"
    slope = Row(lambda e: e.overflows, cause, lambda e: f"inf = {name}({_number(e.x, '.6g')})")
    return Primitive((Row(_always, cause, detail=_largest_operand, fix=fix),), backward=(slope,), **fields)


def _with_ends(outside: Row, slope: str, *names: str) -> Primitive:
    """Describe a function whose slope is infinite at the ends of its domain, -1 and 1."""
    return Primitive((outside,), (_at_end(slope),), written_as=names, safe=_INSIDE)


def _flat(name: str) -> Primitive:
    """Describe a function with steps."""
    return Primitive(cut=("{name} is flat", "let the gradient " + _STRAIGHT_THROUGH.format(f"jnp.{name}(x)")))


def _of_matrix(cause: str, fix: str | None = None) -> Primitive:
    """Describe a factorization."""
    return Primitive((Row(_always, cause, fix=fix),), backward=(Row(_always, "singular {name}"),), mixes=True)


def _of_repeated(values: str) -> Primitive:
    """Describe a factorization whose vectors are not unique where values repeat."""
    detail = "the gradient depends on which vectors of a repeated value were chosen"
    row = Row(_always, f"{{name}} of repeated {values}", detail=detail, fix=_REPEATED)
    return Primitive((row._replace(detail="", fix=None),), backward=(row,), mixes=True)


_LOGARITHM = Primitive(
    (_ZERO, _NEGATIVE),
    (_ZERO._replace(slope="inf = 1 / 0"),),
    written_as=("log", "log2", "log10", "xlogy", "entr"),
    safe=POSITIVE,
)
_SUM = Primitive((Row(lambda e: e.any_infinite, "infinities in a sum"), Row(_always, "overflow in {name}")))
_CANCEL = (Row(lambda e: e.infinite, "infinity minus infinity", fix=_FINITE_MASK),)
_POWER = Primitive(
    forward=(
        Row(lambda e: e.x == 0 and e.power < 0, "zero to a negative power"),
        _ROOT_OF_NEGATIVE,
        Row(_always, "overflow in a power"),
    ),
    backward=(
        Row(lambda e: e.argument == 1, "power of zero", detail="the slope in the exponent is log(0) * 0 ** y"),
        Row(
            lambda e: e.x == 0,
            "power of zero",
            lambda e: f"inf = y * 0 ** (y - 1), with y = {_number(e.power, '.4g')}".rstrip(),
        ),
        _ROOT_OF_NEGATIVE,
        Row(_always, "overflow in a power"),
    ),
    can_underflow=True,
    has_stationary_points=True,
    operator=ast.Pow,
)
_CUSTOM_ROWS = Row(lambda e: e.any_infinite, "{label} of infinities"), Row(_always, "{label} is singular here")
_NO_RULE = "{label} has no derivative in this argument", "give its custom rule one"
_CUSTOM = Primitive(_CUSTOM_ROWS, backward=_CUSTOM_ROWS, cut=_NO_RULE, mixes=True)
_SOLVE = Primitive(
    (Row(_always, "solve with a singular matrix", fix=f"{_IDENTITY}, or use jnp.linalg.lstsq"),), mixes=True
)
_SINGULAR = Primitive(backward=(Row(_always, "singular {name}"),))
_UNKNOWN = Primitive()


def _alike(record: Primitive, *names: str) -> dict[str, Primitive]:
    return dict.fromkeys(names, record)


# ---------------------------------------------------------------- the table

PRIMITIVES: dict[str, Primitive] = {
    # Roots, logarithms, powers.
    "sqrt": Primitive(
        (_NEGATIVE,),
        (_at_zero("inf = 0.5 / sqrt(0)"), _NEGATIVE._replace(slope="nan = 0.5 / sqrt(x)")),
        (Row(lambda e: is_norm(e.node), "norm of zero", detail="the slope of a norm at zero is 0 / 0"),),
        safe=POSITIVE,
    ),
    "rsqrt": Primitive(
        (_ZERO, _NEGATIVE),
        (_at_zero("inf = -0.5 * 0 ** -1.5"), _NEGATIVE._replace(slope="nan = -0.5 * x ** -1.5")),
        can_underflow=True,
        safe=POSITIVE,
    ),
    "cbrt": Primitive(slopes=(_at_zero("inf = 1 / (3 * cbrt(0)**2)"),), safe=NONZERO),
    **_alike(_LOGARITHM, "log", "log2"),
    "log1p": Primitive(
        (Row(lambda e: e.x <= -1, "log1p at or below -1"),),
        (Row(lambda e: e.x == -1, "log1p of -1", "inf = 1 / 0"),),
        written_as=("log1p", "xlog1py"),
        safe=Safe("{x} > -1", "0.0"),
    ),
    "pow": _POWER._replace(written_as=("power", "pow", "float_power"), safe=_safe_power),
    "integer_pow": _POWER._replace(written_as=("power", "pow", "integer_pow", "reciprocal"), safe=_safe_power),
    "square": Primitive(can_underflow=True, has_stationary_points=True),
    "exp": _growing("exp", _SUBTRACT, can_underflow=True, safe=_NO_OVERFLOW),
    "exp2": _growing("exp2", _SUBTRACT, can_underflow=True, safe=_NO_OVERFLOW),
    "expm1": _growing("expm1", _SUBTRACT, safe=_NO_OVERFLOW),
    "sinh": _growing("sinh", safe=_NO_OVERFLOW),
    "cosh": _growing("cosh", has_stationary_points=True, safe=_NO_OVERFLOW),
    # Inverse functions, and others with poles or flat ends.
    "asin": _with_ends(_OUTSIDE, "inf = 1 / sqrt(1 - x**2)", "arcsin", "asin"),
    "acos": _with_ends(_OUTSIDE, "-inf = -1 / sqrt(1 - x**2)", "arccos", "acos"),
    "atanh": _with_ends(_AT_OR_OUTSIDE, "inf = 1 / (1 - x**2)", "arctanh", "atanh"),
    "erf_inv": _with_ends(_AT_OR_OUTSIDE, "inf", "erfinv", "erf_inv"),
    "acosh": Primitive(
        (Row(lambda e: e.x < 1, "acosh below 1"),),
        (_at_end("inf = 1 / sqrt(x**2 - 1)")._replace(holds=lambda e: e.x <= 1),),
        written_as=("arccosh", "acosh"),
        safe=Safe("{x} > 1", "2.0"),
    ),
    "lgamma": Primitive(
        (_POLE,), (_POLE._replace(slope="digamma(x)"),), written_as=("gammaln", "lgamma"), safe=_NO_POLE
    ),
    "digamma": Primitive((_POLE,), (_POLE._replace(slope="polygamma(1, x)"),), safe=_NO_POLE),
    "atan2": Primitive(backward=(Row(_always, "atan2 of zero and zero", detail=_ATAN2_SLOPES, fix=_NOT_ORIGIN),)),
    "logistic": Primitive(saturates="sigmoid"),
    **{name: Primitive(saturates=name) for name in ("tanh", "erf", "atan")},
    "erfc": Primitive(can_underflow=True),
    **_alike(Primitive(has_stationary_points=True), "abs", "cos"),
    # Arithmetic.
    "add": Primitive(_CANCEL),
    "sub": Primitive(_CANCEL, has_stationary_points=True),
    "mul": Primitive(
        (Row(lambda e: e.infinite, "zero times infinity"),),
        backward=(
            Row(lambda e: np.isinf(e.factor), "zero times infinity", "inf, the other factor"),
            Row(_always, "overflow in a product"),
        ),
    ),
    "div": Primitive(
        (
            Row(lambda e: e.x == 0 and e.y == 0, "zero divided by zero"),
            Row(lambda e: e.y == 0, "division by zero"),
            Row(lambda e: e.infinite, "infinity divided by infinity"),
            Row(_always, "overflow in a division"),
        ),
        backward=(
            Row(lambda e: e.y == 0, "division by zero", lambda e: "inf = x / 0**2" if e.argument else "inf = 1 / 0"),
            Row(
                lambda e: np.isfinite(e.y),
                "overflow in a division",
                detail=lambda e: f"the slope x / y**2 overflows: y = {e.y:.6g}",
            ),
            Row(_always, "infinity divided by infinity"),
        ),
        cut=_WHOLE_NUMBERS,
        written_as=("divide", "true_divide", "div", "reciprocal"),
        operator=ast.Div,
        safe=NONZERO,
    ),
    **_alike(Primitive(cut=_WHOLE_NUMBERS), "rem", "floor_divide"),
    # Sums and products of many elements, matrices.
    **_alike(_SUM, "reduce_sum", "conv_general_dilated", "reduce_window_sum", "scatter-add"),
    **_alike(_SUM._replace(mixes=True), "dot_general", "cumsum"),
    "reduce_prod": _SINGULAR,
    **_alike(_SINGULAR._replace(mixes=True), "cumprod", "cumlogsumexp"),
    "cholesky": _of_matrix("cholesky of a matrix that is not positive definite", _IDENTITY),
    **_alike(_of_matrix("{name} of a singular matrix"), "lu", "qr"),
    "triangular_solve": _SOLVE._replace(backward=_SINGULAR.backward),
    "custom_linear_solve": _SOLVE,
    **_alike(_of_repeated("eigenvalues"), "eigh", "eig", "schur"),
    "svd": _of_repeated("singular values"),
    # What picks or moves elements.
    **_alike(Primitive(picks=True), "dynamic_slice", "slice", "scatter", "dynamic_update_slice"),
    **_alike(Primitive(picks=True), "reduce_max", "reduce_min", "reduce_window_max", "select_and_gather_add"),
    "gather": Primitive(picks=True, mixes=True),
    **_alike(Primitive(cut=("the order of a sort has no derivative", _RANKS), picks=True, mixes=True), "sort", "top_k"),
    **_alike(Primitive(mixes=True), "cummax", "cummin", "fft", "rev", "transpose"),
    # What has no derivative.
    **_alike(Primitive(cut=("a comparison has no derivative", _SOFT_STEP)), "gt", "lt", "ge", "le", "eq", "ne"),
    **_alike(Primitive(cut=("a comparison has no derivative", _SOFT_STEP)), "gt_to", "lt_to", "le_to", "is_finite"),
    **_alike(Primitive(cut=("{name} has no derivative", _SOFT_CHOICE)), "argmax", "argmin"),
    **{name: _flat(name) for name in ("round", "floor", "ceil", "sign", "nextafter")},
    "stop_gradient": Primitive(cut=("stop_gradient", "")),
    "convert_element_type": Primitive((Row(_always, "overflow in the conversion to {dtype}"),), cut=_CONVERSION),
    "bitcast_convert_type": Primitive(cut=_CONVERSION),
    "random_bits": Primitive(cut=("{name} has no derivative", _SMOOTH_SAMPLE)),
    **_alike(Primitive(cut=("a callback has no derivative", _CUSTOM_VJP)), "pure_callback", "io_callback"),
    **_alike(_CUSTOM, "custom_jvp_call", "custom_vjp_call"),
}

CUSTOM_FUNCTIONS: dict[str, Primitive] = {
    "xlogy": _CUSTOM._replace(written_as=("xlogy",), safe=POSITIVE),
    "xlog1py": _CUSTOM._replace(written_as=("xlog1py",), safe=Safe("{x} > -1", "0.0")),
    "_xlogx": _CUSTOM._replace(written_as=("entr",), safe=POSITIVE),
}
"""What is known of functions of JAX with a rule of their own, by their labels."""
