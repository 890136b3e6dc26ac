"""Everything that diffprog takes from inside JAX, in one place.

JAX's trace machinery has no compatibility promise and changes from month to month. Every import from
`jax.extend`, `jax.core` or `jax._src` stands in this package, together with what differs between the oldest
JAX that diffprog supports (0.10.2) and the newest; the rest of the package reads one interface.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax._src import ad_util, core, dtypes, linear_util, source_info_util, traceback_util
from jax._src.api_util import InternalFloatingPointError
from jax._src.custom_derivatives import SymbolicZero
from jax._src.hijax import HiType
from jax._src.interpreters import partial_eval
from jax._src.lax import windowed_reductions
from jax._src.sharding_impls import UNSPECIFIED
from jax._src.state.types import AbstractRef
from jax._src.util import weakref_lru_cache
from jax.extend.core import jaxpr_as_fun, set_current_trace, take_current_trace
from jax.extend.core.primitives import cond_p, jit_p, scan_p

_scan_counts = jax.__version_info__ < (0, 11)
if not _scan_counts:
    from jax._src import flattree

__all__ = [
    "SymbolicZero",
    "Trace",
    "Tracer",
    "add",
    "asks_for_layout",
    "bind_cond",
    "bind_jit",
    "bind_scan",
    "bind_unchanged",
    "canonical",
    "closed",
    "concrete",
    "cotangent_dtype",
    "eval_jaxpr",
    "float0",
    "has_gradient",
    "instantiate",
    "is_array_type",
    "is_differentiable",
    "is_reference",
    "is_symbolic_zero",
    "jaxpr_as_fun",
    "same_type",
    "scan_sizes",
    "select_and_gather_add",
    "select_and_scatter_add",
    "set_current_trace",
    "single_operation",
    "take_current_trace",
    "trace_to_closed_jaxpr",
    "trace_to_jaxpr",
    "typeof",
    "user_line",
    "weakref_lru_cache",
    "without_forwarded",
    "zero_tangent",
]

Trace = core.Trace
Tracer = core.Tracer
ShapedArray = core.ShapedArray
eval_jaxpr = core.eval_jaxpr
typeof = jax.typeof
float0 = jax.dtypes.float0

# Frames of these packages are ours: tracebacks and source lines should show the user's code instead.
for _package in ("diagnosis", "graph", "_jax_internals", "_rules", "_tracer", "_transforms"):
    _folder = str(pathlib.Path(__file__).parents[1] / _package)
    source_info_util.register_exclusion(_folder)
    for _file in pathlib.Path(_folder).glob("*.py"):
        traceback_util.register_exclusion(str(_file))


# ---------------------------------------------------------------- values


def canonical(value):
    """`value` as JAX sees it: Python scalars and NumPy arrays in JAX's dtypes. TypeError if it isn't an array."""
    return value if isinstance(value, Tracer) else dtypes.canonicalize_value(value)


def is_array_type(value) -> bool:
    """Whether JAX accepts `value` as an array, a scalar or a key."""
    try:
        typeof(value)
    except TypeError:
        return False
    return True


def is_differentiable(value) -> bool:
    """Whether derivatives with respect to `value` exist: it is real, complex or of a user's own type (hijax).

    There are none for integers, booleans and keys.
    """
    return has_gradient(typeof(value))


def has_gradient(aval) -> bool:
    """The same of a type."""
    if not isinstance(aval, ShapedArray):
        return isinstance(aval, HiType)
    if isinstance(aval.dtype, np.dtype):
        return dtypes.issubdtype(aval.dtype, np.inexact)
    return cotangent_dtype(aval) != float0  # an extended dtype says what its tangents are


def is_reference(value) -> bool:
    """Whether `value` is a mutable array."""
    return isinstance(typeof(value), AbstractRef)


def cotangent_dtype(aval):
    """The dtype of the gradient of a value of this type: float0 for integers, None for a user's own type."""
    return getattr(aval.to_tangent_aval(), "dtype", None)


def same_type(found, expected) -> bool:
    """Whether these are arrays of one shape and dtype, or of one user's own type."""
    if not isinstance(expected, ShapedArray):
        return found == expected
    return isinstance(found, ShapedArray) and found.shape == expected.shape and found.dtype == expected.dtype


def add(x, y):
    """The sum of two cotangents of one value."""
    aval = typeof(x)
    return aval.vspace_add(x, y) if isinstance(aval, HiType) else lax.add(x, y)


def concrete(value):
    """The array behind `value`, also through tracers, or None where there is none yet (under `jit` or `vmap`)."""
    return core.to_concrete_value(value)


def instantiate(aval):
    """A zero cotangent of a primal value of this type, as an array."""
    return ad_util.instantiate(ad_util.Zero(aval.to_ct_aval()))


def zero_tangent(aval):
    """A zero tangent of a primal value of this type, as an array."""
    return ad_util.instantiate(ad_util.Zero(aval.to_tangent_aval()))


def is_symbolic_zero(value) -> bool:
    return type(value) in (ad_util.Zero, SymbolicZero)


def user_line() -> str | None:
    """`file:line (function)` of the user's code that is running now, None inside a staged function."""
    return source_info_util.summarize(source_info_util.current()) or None


# ---------------------------------------------------------------- jaxprs


def trace_to_jaxpr(fun: Callable, avals: Sequence, name: str):
    """Stage `fun` at these types.

    Returns:
      a closed jaxpr whose first inputs are the values that `fun` closes over, and the list of these values:
      arrays, or tracers of the traces around.
    """
    debug = core.DebugInfo("diffprog", name, None, None)
    wrapped = linear_util.wrap_init(lambda *args: list(fun(*args)), debug_info=debug)
    jaxpr, _, consts = partial_eval.trace_to_jaxpr_dynamic(wrapped, list(avals))
    return closed(partial_eval.convert_constvars_jaxpr(jaxpr)), consts


def closed(jaxpr):
    """A jaxpr without constants as a closed one, the same one each time (since JAX 0.11 every jaxpr is closed)."""
    return partial_eval.close_jaxpr(jaxpr) if isinstance(jaxpr, core.Jaxpr) else jaxpr


def trace_to_closed_jaxpr(fun: Callable, avals: Sequence, name: str):
    """Stage `fun`, which closes over no tracer, as a closed jaxpr of its arguments alone, without dead equations."""
    jaxpr, constants = trace_to_jaxpr(fun, avals, name)
    jaxpr = _keep_used(jaxpr)
    if not constants:
        return jaxpr
    if hasattr(jaxpr, "with_consts"):  # since JAX 0.11
        return jaxpr.with_consts(constants)
    return core.ClosedJaxpr(partial_eval.convert_invars_to_constvars(jaxpr.jaxpr, len(constants)), constants)


def _keep_used(jaxpr):
    """Drop the equations of a closed jaxpr without constants that no output needs; its inputs stay."""
    return closed(partial_eval.dce_jaxpr(jaxpr.jaxpr, True, True)[0])


class SingleOperation(NamedTuple):
    """A jaxpr that is one operation.

    Attributes:
      operands: (position among the arguments, None) or (None, literal).
      converted: per operand the dtype to which the argument has to be converted first, or None.
    """

    primitive: object
    params: dict
    operands: tuple
    converted: tuple


@weakref_lru_cache
def single_operation(jaxpr) -> SingleOperation | None:
    """A closed jaxpr as a single operation with one result that uses no argument twice, or None if it isn't one."""
    if not jaxpr.eqns or jaxpr.consts:
        return None
    *conversions, equation = jaxpr.eqns
    body = jaxpr.jaxpr
    place = {x: (i, None) for i, x in enumerate(body.invars)}
    for eqn in conversions:
        if eqn.primitive is not lax.convert_element_type_p or eqn.params["weak_type"]:
            return None
        (x,), (y,) = eqn.invars, eqn.outvars
        if not isinstance(x, core.Var):
            return None
        place[y] = place[x][0], eqn.params["new_dtype"]
    used = [place[x][0] for x in equation.invars if isinstance(x, core.Var)]
    calls = next(iter(core.jaxprs_in_params(equation.params)), None) is not None
    if calls or equation.primitive.multiple_results or body.outvars != equation.outvars or len(set(used)) != len(used):
        return None
    found = [(place[x], None) if isinstance(x, core.Var) else ((None, None), x.val) for x in equation.invars]
    operands = tuple((i, value) for (i, _), value in found)
    return SingleOperation(equation.primitive, equation.params, operands, tuple(dtype for (_, dtype), _ in found))


@weakref_lru_cache
def without_forwarded(jaxpr):
    """A closed jaxpr with those results alone that it computes, and per result the argument that it is, or None."""
    position = {variable: i for i, variable in enumerate(jaxpr.jaxpr.invars)}
    forwarded = [position.get(x) if isinstance(x, core.Var) else None for x in jaxpr.jaxpr.outvars]
    rest = [x for x, i in zip(jaxpr.jaxpr.outvars, forwarded, strict=True) if i is None]
    return closed(jaxpr.jaxpr.replace(outvars=rest)), tuple(forwarded)


# ---------------------------------------------------------------- structured primitives


def bind_unchanged(primitive, trace, args, params):
    """Run `primitive` in `trace` as if no gradient were being recorded."""
    return primitive.bind_with_trace(trace, args, [typeof(x) for x in args], params)


def asks_for_layout(params) -> bool:
    """Whether a `jit` with these params was given shardings or layouts."""
    shardings = (*params["in_shardings"], *params["out_shardings"])
    layouts = (*params["in_layouts"], *params["out_layouts"])
    return any(s is not UNSPECIFIED for s in shardings) or any(layout is not None for layout in layouts)


def bind_jit(jaxpr, args, params, inputs: Sequence[int | None], outputs: Sequence[int | None]):
    """Call `jaxpr` compiled, as the `jit` with these `params` would.

    Args:
      inputs: per argument its position in the original call, None for one that the original did not have.
      outputs: the same for the results. Shardings and layouts are kept for those that have a position.
    """
    plain = not asks_for_layout(params)

    def pick(name, positions, default):
        known = (None if plain else i for i in positions)
        return tuple(default if i is None else params[name][i] for i in known)

    changed = {
        "jaxpr": jaxpr,
        "in_shardings": pick("in_shardings", inputs, UNSPECIFIED),
        "out_shardings": pick("out_shardings", outputs, UNSPECIFIED),
        "in_layouts": pick("in_layouts", inputs, None),
        "out_layouts": pick("out_layouts", outputs, None),
        "donated_invars": (False,) * len(args),  # a donated argument may be a residual
    }
    try:
        return jit_p.bind(*args, **(params | changed))
    except InternalFloatingPointError as error:  # of jax.debug_nans, which wants to know the operation
        jaxpr_as_fun(jaxpr)(*args)
        raise FloatingPointError(
            f"a compiled function gave {error.args[-1]}, and the same function run operation by operation did not"
        ) from None


def scan_sizes(params) -> tuple[int, int]:
    """The numbers of constants and of carried values of a `scan`."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()  # since JAX 0.11
    return len(constants), len(carry)


def bind_scan(jaxpr, constants, carry, xs, *, length, reverse, unroll):
    """`lax.scan` of a closed jaxpr (constants, carry, x) -> (carry, y), without tracing it again."""
    if _scan_counts:
        groups = {"num_consts": len(constants), "num_carry": len(carry)}
    else:
        pack, nones = flattree.pack, flattree.nones
        groups = {
            "ft_in": pack((nones(len(constants)), nones(len(carry)), nones(len(xs)))),
            "ft_out": pack((nones(len(carry)), nones(len(jaxpr.out_avals) - len(carry)))),
        }
    return scan_p.bind(*constants, *carry, *xs, jaxpr=jaxpr, length=length, reverse=reverse, unroll=unroll, **groups)


def bind_cond(index, branches, args, params):
    """`lax.switch` over closed jaxprs, with the other parameters of the original (its platforms)."""
    return cond_p.bind(index, *args, **(params | {"branches": tuple(branches)}))


# ---------------------------------------------------------------- pooling, which has no public name in JAX


def select_and_scatter_add(source, operand, is_max: bool, window, strides, padding):
    """Add each element of `source` where its window of `operand` has its extreme value."""
    chosen = lax.ge_p if is_max else lax.le_p
    return windowed_reductions._select_and_scatter_add(source, operand, chosen, window, strides, padding)


def select_and_gather_add(tangents, operand, is_max: bool, window, strides, padding):
    """Read `tangents` where each window of `operand` has its extreme value."""
    chosen, ones = lax.ge_p if is_max else lax.le_p, (1,) * len(window)
    return windowed_reductions._select_and_gather_add(tangents, operand, chosen, window, strides, padding, ones, ones)
