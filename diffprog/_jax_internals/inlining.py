"""Arrays that programs inside of a program hold, as a `jit` does of what its function closes over, brought outside."""

from functools import partial
from itertools import accumulate, chain

import jax
from jax import lax
from jax._src import core, linear_util
from jax._src.lax.control_flow import solves

from diffprog._jax_internals.binding import scan_sizes
from diffprog._jax_internals.jaxprs import closed, in_types, jaxprs_in, trace_to_jaxpr


def embeds_arrays(jaxpr) -> bool:
    """Whether a program inside of a closed jaxpr holds arrays, as a `jit` does of what its function closes over."""
    return any(_holds_arrays(equation.params) for equation in jaxpr.jaxpr.eqns)


def _holds_arrays(params):
    return any(inner.consts or embeds_arrays(inner) for inner in (*jaxprs_in(params), *_programs_of_root(params)))


def inline_embedded(jaxpr, args) -> list:
    """Run a closed jaxpr so that the arrays which programs inside of it hold are, traced, its own constants.

    Each `jit` that holds arrays is written out; loops, branches, checkpoints and solvers are made anew of such bodies.
    """
    body = jaxpr.jaxpr
    values = dict(zip((*body.constvars, *body.invars), (*jaxpr.consts, *args), strict=True))
    read = lambda x: x.val if isinstance(x, core.Literal) else values[x]
    for equation in body.eqns:
        operands, rebuild = list(map(read, equation.invars)), _REBUILD.get(equation.primitive.name)
        with equation.ctx.manager:
            results = None
            if rebuild is not None and _holds_arrays(equation.params):
                results = rebuild(equation.params, operands)
            if results is None:
                results = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
                results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, body.outvars))


def _inlined(jaxpr, constants=()):
    """Make a function of a jaxpr whose first arguments are known."""
    return lambda *args: inline_embedded(closed(jaxpr), [*constants, *args])


def _rebuild_scan(params, operands):
    num_constants, num_carry = scan_sizes(params)
    body = _inlined(params["jaxpr"], operands[:num_constants])

    def step(carry, x):
        results = body(*carry, *x)
        return results[:num_carry], results[num_carry:]

    init, xs = operands[num_constants:][:num_carry], operands[num_constants + num_carry :]
    options = {name: params[name] for name in ("length", "reverse", "unroll", "_split_transpose") if name in params}
    carry, ys = lax.scan(step, init, xs, **options)
    return [*carry, *ys]


def _rebuild_while(params, operands):
    in_cond, in_body = params["cond_nconsts"], params["body_nconsts"]
    cond = _inlined(params["cond_jaxpr"], operands[:in_cond])
    body = _inlined(params["body_jaxpr"], operands[in_cond:][:in_body])
    return lax.while_loop(lambda carry: cond(*carry)[0], lambda carry: body(*carry), operands[in_cond + in_body :])


def _rebuild_checkpoint(params, operands):
    options = {name: params[name] for name in ("prevent_cse", "policy")}
    return jax.checkpoint(_inlined(params["jaxpr"]), **options)(*operands)


def _hoisted(jaxpr):
    """Make the arrays that a program holds its first arguments; return it, and them."""
    return trace_to_jaxpr(_inlined(jaxpr), in_types(jaxpr), "solver")


def _split(operands, lengths):
    """Divide operands into groups of these lengths, and the rest."""
    ends = list(accumulate(lengths))
    return [operands[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]


def _all_hoisted(jaxprs, lengths, operands):
    """Hoist from programs that take some of the operands each, and all the rest: a solver's. A program may be None."""
    *groups, rest = _split(operands, lengths)
    hoisted = [(None, ()) if jaxpr is None else _hoisted(jaxpr) for jaxpr in jaxprs]
    groups = [[*arrays, *group] for (_, arrays), group in zip(hoisted, groups, strict=True)]
    as_before = type(jaxprs)
    return as_before(*(jaxpr for jaxpr, _ in hoisted)), as_before(*map(len, groups)), [*chain(*groups), *rest]


def _rebuild_linear_solve(params, operands):
    jaxprs, lengths, operands = _all_hoisted(params["jaxprs"], params["const_lengths"], operands)
    return lax.linear_solve_p.bind(*operands, **(params | {"jaxprs": jaxprs, "const_lengths": lengths}))


# ---------------------------------------------------------------- roots: before JAX 0.12, a custom_jvp function of JAX

_Root = getattr(solves, "CustomRoot", None)  # since JAX 0.12, and the Jacobian in its tangents:
_RootLinearMap = getattr(solves, "_RootLinearMap", None)


def _rebuild_custom_jvp(params, operands):
    """Make a root anew; other functions with a rule stay as they are, whose rules may hold the same arrays."""
    lengths, jaxprs = _root_in(params["jvp_jaxpr_fun"].f) or (None, None)
    if lengths is None or [x.aval for x in params["call_jaxpr"].jaxpr.outvars] != list(jaxprs.solve.out_avals):
        return None
    jaxprs, lengths, operands = _all_hoisted(jaxprs, lengths, operands)
    return solves._custom_root(lengths, jaxprs, *operands)


def _root_in(rule):
    """Find the lengths and the programs that the rule of a root was given, in a rule that nothing has transformed."""
    for function in [cell.cell_contents for cell in getattr(rule, "__closure__", None) or ()]:
        for value in [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]:
            if isinstance(value, linear_util.WrappedFun) and value.f is getattr(solves, "_root_jvp", None):
                steps = {step.__name__: arguments for step, arguments in value.transforms}
                if steps.keys() == {"_flatten_jvp", "_prepend_static_args"}:
                    return [argument.val for argument in steps["_prepend_static_args"][0]]
    return None


def _programs_of_root(params):
    """Stage the functions that a root, or the Jacobian in its tangents, is made of since JAX 0.12."""
    root = params.get("_prim")
    functions = []
    if _Root is not None and isinstance(root, _Root):
        in_solve, guess, in_f, in_tangents = root.in_avals
        functions = [(root.solve, in_solve, guess), (root.f, in_f, guess)]
        functions.append((root.tangent_solve, in_tangents, guess, guess))
    elif _Root is not None and isinstance(root, _RootLinearMap):
        functions = [(root.expand, *root.in_avals)]
    return [jax.make_jaxpr(function)(*types) for function, *types in functions]


def _rebuild_hijax(params, operands):
    root = params["_prim"]
    arguments = jax.tree.unflatten(root.in_tree, operands)
    if isinstance(root, _RootLinearMap):
        return jax.tree.leaves(_inlined_function(root.expand)(*arguments))
    in_solve, guess, in_f, in_tangents = arguments
    traced = [
        jax.jit(_inlined_function(partial(function, constants))).trace(*[guess] * count)
        for function, constants, count in (
            (root.f, in_f, 1),
            (root.solve, in_solve, 1),
            (root.tangent_solve, in_tangents, 2),
        )
    ]
    (in_f, f), (in_solve, solve), (in_tangents, tangents) = (each.closure_convert() for each in traced)
    arguments = in_solve, guess, in_f, in_tangents
    new = _Root(f, solve, tangents, traced[1], jax.tree.map(core.typeof, arguments), root.has_aux)
    return jax.tree.leaves(new(*arguments))


def _inlined_function(function):
    """Make a function of pytrees of one, whose arrays are its own."""

    def run(*args):
        leaves, tree = jax.tree.flatten(args)
        result_tree = None

        def flat(*leaves):
            nonlocal result_tree
            results, result_tree = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            return results

        jaxpr, reads = trace_to_jaxpr(flat, list(map(core.typeof, leaves)), "function")
        return jax.tree.unflatten(result_tree, inline_embedded(jaxpr, [*reads, *leaves]))

    return run


_REBUILD = {
    "jit": lambda params, operands: inline_embedded(params["jaxpr"], operands),
    "eval_jaxpr": lambda params, operands: inline_embedded(closed(params["call_jaxpr"]), operands),
    "scan": _rebuild_scan,
    "while": _rebuild_while,
    "cond": lambda params, operands: lax.switch(operands[0], list(map(_inlined, params["branches"])), *operands[1:]),
    "remat2": _rebuild_checkpoint,
    "custom_linear_solve": _rebuild_linear_solve,
    "custom_jvp_call": _rebuild_custom_jvp,
    "call_hi_primitive": _rebuild_hijax,
}
