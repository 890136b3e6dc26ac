"""Staged programs: to trace them, and what is asked of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from jax import lax
from jax._src import core, debugging, linear_util, source_info_util
from jax._src.interpreters import partial_eval
from jax._src.util import weakref_lru_cache

from diffprog._jax_internals.avals import has_gradient
from diffprog._jax_internals.sources import has_user_lines

eval_jaxpr = core.eval_jaxpr
_ClosedJaxpr = getattr(core, "ClosedJaxpr", core.Jaxpr)  # one and the same since JAX 0.11


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


def same_function(run: Callable, fun):
    """Make a function as JAX hands them over, of another's name and place, that runs `run`."""
    return linear_util.wrap_init(run, debug_info=fun.debug_info)


def closed(jaxpr):
    """Close a jaxpr without constants: always to one and the same object (since JAX 0.11 every jaxpr is closed)."""
    return partial_eval.close_jaxpr(jaxpr) if isinstance(jaxpr, core.Jaxpr) else jaxpr


def in_types(jaxpr) -> list:
    """List the types of the arguments of a closed jaxpr, to stage a function of them.

    A box of JAX before 0.11 has a type that changes as the program runs: it is the one at the start.
    """
    return getattr(jaxpr, "in_aval_qdds", jaxpr.in_avals)


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


def keep_results(jaxpr, positions: Iterable[int]):
    """Keep some results of a closed jaxpr, and what these need, in its loops and calls too; its inputs stay."""
    wanted = set(positions)
    kept = [i in wanted for i in range(len(jaxpr.jaxpr.outvars))]
    return _closed_as(jaxpr, partial_eval.dce_jaxpr(jaxpr.jaxpr, kept, True)[0])


def with_equations(jaxpr, eqns: list):
    """Put other equations, which compute the same values, into a closed jaxpr."""
    return _closed_as(jaxpr, jaxpr.jaxpr.replace(eqns=eqns))


def _closed_as(jaxpr, body):
    """Close a jaxpr that was made of a closed one, over the same constants."""
    return body if hasattr(body, "with_consts") else core.ClosedJaxpr(body, jaxpr.consts)  # closed since JAX 0.11


class SingleOperation(NamedTuple):
    """A jaxpr that is one operation.

    Attributes:
      operands: (position among the arguments, None) or (None, literal).
      converted: per operand the dtype to which the argument has to be converted first, or None.
    """

    primitive: Any
    params: dict
    operands: tuple
    converted: tuple


@weakref_lru_cache
def single_operation(jaxpr) -> SingleOperation | None:
    """Read a closed jaxpr as one operation with one result that uses no argument twice; None if it is not one."""
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
    calls = next(jaxprs_in(equation.params), None) is not None
    if calls or equation.primitive.multiple_results or body.outvars != equation.outvars or len(set(used)) != len(used):
        return None
    arguments = [(place[x], None) if isinstance(x, core.Var) else ((None, None), x.val) for x in equation.invars]
    operands = tuple((i, value) for (i, _), value in arguments)
    return SingleOperation(equation.primitive, equation.params, operands, tuple(dtype for (_, dtype), _ in arguments))


@weakref_lru_cache
def without_forwarded(jaxpr):
    """Drop the results of a closed jaxpr that it only forwards.

    Returns:
      The closed jaxpr, and per result the argument that it is, None for one that is computed.
    """
    forwarded = passed_on(jaxpr)
    rest = [x for x, i in zip(jaxpr.jaxpr.outvars, forwarded, strict=True) if i is None]
    return closed(jaxpr.jaxpr.replace(outvars=rest)), tuple(forwarded)


@weakref_lru_cache
def keep_outputs(jaxpr, kept: tuple[bool, ...]):
    """Drop the other results of a closed jaxpr without constants, and what only they need; its inputs stay."""
    return closed(partial_eval.dce_jaxpr(jaxpr.jaxpr, kept, True)[0])


# They move numbers or change their format; computing them again costs next to nothing.
_MOVES = frozenset(
    "broadcast_in_dim convert_element_type copy copy_p expand_dims name pad pvary reduce_precision reshape rev slice "
    "squeeze transpose".split()
)


def hoist(jaxpr, num_known: int) -> tuple:
    """Divide a closed jaxpr without constants, known + other arguments -> results, at what only known ones go into.

    Only arithmetic is taken out of it: a known argument that is merely moved, as transposed, stays one.

    Returns:
      closed jaxpr, known arguments -> new known arguments; closed jaxpr, new known + other arguments -> results.
    """
    body = jaxpr.jaxpr
    known, computed = set(body.invars[:num_known]), set[Any]()
    rest, taken = [], []
    for eqn in body.eqns:
        used = {x for x in eqn.invars if isinstance(x, core.Var)}
        moved = eqn.primitive.name in _MOVES and not used & computed
        if used and used <= known | computed and not moved and not eqn.effects:
            computed.update(eqn.outvars)
            taken.append(eqn)
        else:
            rest.append(eqn)
    needed = {x for x in (*(x for eqn in rest for x in eqn.invars), *body.outvars) if isinstance(x, core.Var)}
    new = [x for x in (*body.invars[:num_known], *(x for eqn in taken for x in eqn.outvars)) if x in needed]
    info = body.debug_info.with_unknown_names()
    before = body.replace(invars=body.invars[:num_known], outvars=new, eqns=taken, effects=set(), debug_info=info)
    after = body.replace(invars=[*new, *body.invars[num_known:]], eqns=rest, debug_info=info)
    return closed(before), closed(after)


def part_of(jaxpr, eqns: list, arguments: list, results: list):
    """Make a closed jaxpr of some equations of one without constants."""
    body = jaxpr.jaxpr
    effects = set().union(*(eqn.effects for eqn in eqns))
    info = body.debug_info.with_unknown_names()
    return closed(body.replace(invars=arguments, outvars=results, eqns=list(eqns), effects=effects, debug_info=info))


@weakref_lru_cache
def with_jits_inlined(jaxpr, stays: Callable):
    """Write out the calls by `jit` in a closed jaxpr, but those of whose parameters `stays` says so."""

    def instead(eqn):
        if eqn.primitive.name != "jit" or stays(eqn.params):
            return None
        return lambda *args: _run_replaced(eqn.params["jaxpr"], args, instead)

    return replaced(jaxpr, instead)


def replaced(jaxpr, instead: Callable):
    """Put other programs in the place of some operations of a closed jaxpr; the others keep their lines and scopes.

    Args:
      jaxpr: the closed jaxpr.
      instead: equation -> function of its operands to a sequence of results, or None to leave it as it is.
    """
    return trace_to_closed_jaxpr(lambda *args: _run_replaced(jaxpr, args, instead), jaxpr.in_avals, "replaced")


def _run_replaced(jaxpr, args, instead) -> list:
    values = dict(zip((*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars), (*jaxpr.consts, *args), strict=True))
    read = lambda v: v.val if isinstance(v, core.Literal) else values[v]
    for eqn in jaxpr.eqns:
        operands = list(map(read, eqn.invars))
        stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
        traceback = eqn.source_info.traceback if has_user_lines(jaxpr) else None  # then that of the call
        with source_info_util.user_context(traceback, name_stack=stack), eqn.ctx.manager:
            if (run := instead(eqn)) is not None:
                results = run(*operands)
            else:
                outcome = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
                results = outcome if eqn.primitive.multiple_results else [outcome]
        values.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.jaxpr.outvars))


def passed_on(jaxpr) -> list[int | None]:
    """Find per result of a closed jaxpr the argument that it is, None for one that is computed."""
    position = {v: i for i, v in enumerate(jaxpr.jaxpr.invars)}
    return [None if isinstance(v, core.Literal) else position.get(v) for v in jaxpr.jaxpr.outvars]


def transposed_inputs(jaxpr) -> list[tuple[int, ...]]:
    """Find per argument of a closed jaxpr the order of axes that it is transposed to; of others that which it has."""
    found = {eqn.invars[0]: eqn.params["permutation"] for eqn in jaxpr.eqns if eqn.primitive.name == "transpose"}
    return [tuple(found.get(v, range(v.aval.ndim))) for v in jaxpr.jaxpr.invars]


def used_inputs(jaxpr) -> list[bool]:
    """Find out which arguments of a closed jaxpr any result depends on."""
    return partial_eval.dce_jaxpr(jaxpr.jaxpr, True)[1]


@weakref_lru_cache
def count_operations(jaxpr) -> int:
    """Count the operations of a closed jaxpr when it is written out; of a `while` loop one iteration."""
    total = 0
    for eqn in jaxpr.jaxpr.eqns:
        inner = list(map(count_operations, jaxprs_in(eqn.params)))
        total += 1 + (sum(inner) * eqn.params["length"] if eqn.primitive.name == "scan" else sum(inner))
    return total


@weakref_lru_cache
def runs_any(jaxpr, *names: str) -> bool:
    """Whether a closed jaxpr, or a program in it, runs a primitive of these names."""
    return any(
        eqn.primitive.name in names or any(runs_any(closed(inner), *names) for inner in jaxprs_in(eqn.params))
        for eqn in jaxpr.jaxpr.eqns
    )


def has_loop(jaxpr) -> bool:
    """Whether a closed jaxpr, or a program in it, has a loop."""
    return runs_any(jaxpr, "while", "scan")


def bytes_of_values(jaxpr) -> tuple[int, int]:
    """Count the bytes of the values in a closed jaxpr when it is written out.

    Returns:
      Those of all results, and those of the gradients at them and where they are used; of a `while` loop one
      iteration's, of a `cond` all branches'.
    """

    def size(atom):
        aval = atom.aval
        return getattr(aval, "size", 0) * getattr(aval.dtype, "itemsize", 0) if hasattr(aval, "dtype") else 0

    values = gradients = 0
    for eqn in jaxpr.jaxpr.eqns:
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        inner = list(map(bytes_of_values, jaxprs_in(eqn.params)))
        if inner:
            values += times * sum(v for v, _ in inner)
            gradients += times * sum(g for _, g in inner)
        else:
            atoms = [x for x in (*eqn.outvars, *eqn.invars) if isinstance(x, core.Var) and has_gradient(x.aval)]
            values += sum(map(size, eqn.outvars))
            gradients += sum(map(size, atoms))
    return values, gradients


_HARMLESS = (debugging.DebugEffect, debugging.OrderedDebugEffect, core.InternalMutableArrayEffect)


def repeatable(jaxpr) -> bool:
    """Whether the program may run again: its effects, if any, help debugging or stay within it."""
    return all(isinstance(effect, _HARMLESS) for effect in jaxpr.effects)


def jaxprs_in(params) -> Iterator:
    """Iterate over the programs, as closed jaxprs, that an operation with these parameters runs.

    Constants that a jaxpr lacks, as it may in the parameters of others' primitives, come first among its arguments.
    """
    for value in params.values():
        for program in value if isinstance(value, tuple) else (value,):
            if isinstance(program, (core.Jaxpr, _ClosedJaxpr)):
                lacks = isinstance(program, core.Jaxpr) and _ClosedJaxpr is not core.Jaxpr and program.constvars
                yield closed(partial_eval.convert_constvars_jaxpr(program) if lacks else program)


_CUSTOM = ("custom_jvp_call", "custom_vjp_call")


def params_without_custom_rules(params: dict) -> dict:
    """Write out, in the programs among these parameters, the functions that have a custom rule."""
    return _write_out_in(params, _CUSTOM)


def _write_out_in(params: dict, names: tuple[str, ...]) -> dict:
    return map_programs(lambda jaxpr: write_out(jaxpr, names), params)


def map_programs(change: Callable, params: dict) -> dict:
    """Put, for the programs among the parameters of an operation, what `change` makes of each as a closed jaxpr."""

    def changed(value):
        if isinstance(value, tuple):
            parts = map(changed, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if isinstance(value, _ClosedJaxpr):
            return change(value)
        if isinstance(value, core.Jaxpr) and not value.constvars:
            return change(closed(value)).jaxpr
        return value

    return {name: changed(value) for name, value in params.items()}


@weakref_lru_cache
def write_out(jaxpr, names: tuple[str, ...]):
    """Write out, in a closed jaxpr and the programs in it, the calls by primitives of these names."""
    if not runs_any(jaxpr, *names):
        return jaxpr
    return trace_to_closed_jaxpr(lambda *args: _run_written_out(jaxpr, args, names), jaxpr.in_avals, "written_out")


def _run_written_out(jaxpr, args, names: tuple[str, ...]) -> list:
    values = dict(zip((*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars), (*jaxpr.consts, *args), strict=True))
    read = lambda v: v.val if isinstance(v, core.Literal) else values[v]
    for eqn in jaxpr.jaxpr.eqns:
        operands = list(map(read, eqn.invars))
        with eqn.ctx.manager:
            if eqn.primitive.name in names:
                results = _run_written_out(next(jaxprs_in(eqn.params)), operands, names)
            else:
                params = eqn.primitive.get_bind_params(_write_out_in(eqn.params, names))
                outcome = eqn.primitive.bind(*operands, **params)
                results = outcome if eqn.primitive.multiple_results else [outcome]
        values.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.jaxpr.outvars))
