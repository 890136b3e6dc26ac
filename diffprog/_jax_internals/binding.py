"""Running primitives: in a given trace, and those that contain programs or have no public name."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import jax
from jax import lax, typeof
from jax._src.api_util import InternalFloatingPointError
from jax._src.core import eval_jaxpr
from jax._src.lax import windowed_reductions
from jax._src.sharding_impls import UNSPECIFIED
from jax.extend.core.primitives import cond_p, jit_p, scan_p

from diffprog._jax_internals.convolutions import with_fast_convolutions

_scan_counts = jax.__version_info__ < (0, 11)
if not _scan_counts:
    from jax._src import flattree  # type: ignore[attr-defined]  # the installed JAX may be older


RULES_RETURN_LOGS = jax.__version_info__ >= (0, 11)
"""Whether the backward rule of a `custom_vjp` function, as a trace gets it, returns (cotangents, logs)."""

interceptors_key = jax.make_user_context(None)._obj
"""Part of the key of JAX's caches; `interception` sets it. A key that was made later than at the start would have every
function staged and compiled again that was called before."""

not_intercepting: Callable[[], AbstractContextManager] = nullcontext
"""Makes the context of a reverse pass, whose operations are no line of the program. `interception` sets it when it is
loaded: plain gradients do not need it."""


def bind_unchanged(primitive, trace, args, params):
    """Run `primitive` in `trace` as if no gradient were being recorded."""
    return primitive.bind_with_trace(trace, args, [typeof(x) for x in args], params)


def equation_as_function(equation) -> Callable:
    """Make a function of an equation of a jaxpr: its operation, with its parameters and in its context."""

    def operation(*operands):
        with equation.ctx.manager:
            return equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))

    return operation


def asks_for_layout(params) -> bool:
    """Whether a `jit` with these params was given shardings or layouts."""
    shardings = (*params["in_shardings"], *params["out_shardings"])
    layouts = (*params["in_layouts"], *params["out_layouts"])
    return any(s is not UNSPECIFIED for s in shardings) or any(layout is not None for layout in layouts)


def bind_jit(jaxpr, args, params, inputs: Sequence[int | None], outputs: Sequence[int | None]):
    """Call a closed jaxpr compiled, as the `jit` with these parameters would.

    Args:
      jaxpr: what to call.
      args: its arguments.
      params: parameters of the original `jit`.
      inputs: per argument its position in the original call, None for one that the original did not have.
      outputs: per result its position among the original's results. Shardings and layouts are kept for arguments and
        results that have a position.
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
        eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)  # unlike `jaxpr_as_fun`, it looks for NaN
        raise FloatingPointError(
            f"a compiled function gave {error.args[-1]}, and the same function run operation by operation did not"
        ) from None


def scan_sizes(params) -> tuple[int, int]:
    """Get the numbers of constants and of carried values of a `scan`."""
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
    jaxpr = with_fast_convolutions(jaxpr)
    return scan_p.bind(*constants, *carry, *xs, jaxpr=jaxpr, length=length, reverse=reverse, unroll=unroll, **groups)


def bind_cond(index, branches, args, params):
    """`lax.switch` over closed jaxprs, with the other parameters of the original (its platforms)."""
    return cond_p.bind(index, *args, **(params | {"branches": tuple(map(with_fast_convolutions, branches))}))


# ---------------------------------------------------------------- pooling, which has no public name in JAX


def select_and_scatter_add(source, operand, is_max: bool, window, strides, padding):
    """Add each element of `source` where its window of `operand` has its extreme value."""
    chosen = lax.ge_p if is_max else lax.le_p
    return windowed_reductions._select_and_scatter_add(source, operand, chosen, window, strides, padding)


def select_and_gather_add(tangents, operand, is_max: bool, window, strides, padding):
    """Read `tangents` where each window of `operand` has its extreme value."""
    chosen, ones = lax.ge_p if is_max else lax.le_p, (1,) * len(window)
    return windowed_reductions._select_and_gather_add(tangents, operand, chosen, window, strides, padding, ones, ones)
