"""Take tagged values out of a program, from wherever they are in it.

A value is tagged by JAX's named identity with a `Tag` for a name, which goes through `vmap` and gradients inside the
program as any operation does. `Capture` is the trace around it all: it passes every operation on to its parent and
collects tagged values. A `jit`, `scan`, `cond` or `checkpoint` with tags inside is rewritten, once, to return the
tagged values as well, and to take a perturbation for each, if that is asked for. In a loop both are stacked, with the
index of the iteration first.

A perturbation stands for something that is added to a value, is zero and has a gradient. Nothing is added: it is
an identity of two arguments, of which the second exists for the backward pass alone. Of an owner that `replaces`, what
is given in place of a perturbation takes the value's place.
"""

from collections.abc import Callable

from diffprog._jax_internals import (
    Trace,
    bind_cond,
    bind_jit,
    bind_scan,
    bind_unchanged,
    closed,
    instantiate,
    jaxpr_as_fun,
    scan_sizes,
    set_current_trace,
    take_current_trace,
    trace_to_closed_jaxpr,
    typeof,
    weakref_lru_cache,
)
from diffprog._jax_internals.avals import stacked
from diffprog._jax_internals.checkpoints import bind_checkpoint
from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._jax_internals.tagging import Tag, is_tagged, perturbed
from diffprog._tracer.rules import rule
from diffprog._util.lists import split_list


class Capture(Trace):
    """The trace that collects tagged values.

    Attributes:
      captured: (tag, value) of each, in order.
    """

    def __init__(self, parent, owner, perturbation: Callable | None):
        """Start without values.

        Args:
          parent: the trace in which the operations really run.
          owner: whose tags are looked for.
          perturbation: type of a value -> its perturbation; None if none is asked for.
        """
        super().__init__()
        self.parent, self.owner, self.perturbation = parent, owner, perturbation
        self.requires_low = False
        self.captured: list[tuple[Tag, object]] = []

    def process_primitive(self, primitive, args, params, /):
        if is_tagged(primitive, params, self.owner):
            return self._collect(params["name"], *args)
        tags = tags_of(primitive, params, self.owner)
        if not tags:
            return bind_unchanged(primitive, self.parent, args, params)
        with set_current_trace(self.parent):
            perturbations = [self.perturbation(aval) for _, aval in tags] if self.perturbation else []
            results, values = _REWRITES[primitive.name](self.owner, tags, params, args, perturbations)
        self.captured += zip([tag for tag, _ in tags], values, strict=True)
        return results

    def _collect(self, tag, value):
        if self.perturbation:
            with set_current_trace(self.parent):
                given = self.perturbation(typeof(value))
                value = given if self.owner.replaces else perturbed(value, given)
        self.captured.append((tag, value))
        return value

    # Functions with a derivative of their own are not looked into, nor are those that run on many devices.

    def process_custom_jvp_call(self, *args, **options):
        return self.parent.process_custom_jvp_call(*args, **options)

    def process_custom_vjp_call(self, *args, **options):
        return self.parent.process_custom_vjp_call(*args, **options)

    def process_shard_map(self, *args, **options):
        return self.parent.process_shard_map(*args, **options)

    def process_call(self, primitive, fun, args, params, /):
        with set_current_trace(self):  # the call is inlined; JAX before 0.11 only
            return fun.call_wrapped(*args)

    def cur_qdd(self, value):
        return self.parent.cur_qdd(value)  # the present type of a box; JAX before 0.11 only

    def stage_value(self, value):
        return self.parent.stage_value(value)


@rule("perturbed")
def _perturbed(primitive, wanted, args, params):
    return args[0], lambda g: (g, g)


def run_captured(fun: Callable, args, owner, perturbation: Callable | None, parent):
    """Run a function in the trace `parent`.

    Returns:
      What it returns, and (tag, value) of each value with a tag of `owner`.
    """
    capture = Capture(parent, owner, perturbation)
    with set_current_trace(capture):
        result = fun(*args)
    capture.invalidate()
    return result, capture.captured


# ---------------------------------------------------------------- which tags there are


class Unreachable(ValueError):
    """A value that was selected can't be taken out of where it is."""


@weakref_lru_cache
def tags_in(jaxpr, owner) -> tuple:
    """List the tags in a closed jaxpr, each with the type that its value has outside of the jaxpr, in order."""
    tags: list = []
    for equation in jaxpr.eqns:
        if is_tagged(equation.primitive, equation.params, owner):
            tags.append((equation.params["name"], equation.outvars[0].aval))
        else:
            tags += tags_of(equation.primitive, equation.params, owner)
    return tuple(tags)


def tags_of(primitive, params, owner) -> list:
    """List the tags inside one operation, each with the type that its value has outside of it."""
    tags = [tag for jaxpr in jaxprs_in(params) for tag in tags_in(jaxpr, owner)]
    if not tags:
        return []
    if primitive.name not in _REWRITES:
        if owner.skips_unreachable:
            return []
        what = "a while loop, which has no known length:" if primitive.name == "while" else f"'{primitive.name}':"
        selected = " and ".join(repr(owner.selectors[i].original) for i in tags[0][0].selectors)
        raise Unreachable(
            f"the value selected by {selected} is inside {what} it can be intervened in and hooked there, but not "
            "taken out; use lax.scan, or look at it in a recording (dp.record)"
        )
    if primitive.name == "scan":
        return [(tag, stacked(aval, params["length"])) for tag, aval in tags]
    return tags


# ---------------------------------------------------------------- programs that return what is tagged in them


@weakref_lru_cache
def returning_tagged(jaxpr, owner, perturb: bool):
    """Rewrite a closed jaxpr: arguments, perturbations (if asked for) -> results, tagged values."""
    return _returning_tagged(jaxpr, owner, perturb, (), ())


@weakref_lru_cache
def _returning_tagged(jaxpr, owner, perturb, before, after):
    """Rewrite a closed jaxpr that is one of several branches.

    Perturbations and tagged values of the other branches, listed in `before` and `after`, stand around its own. It
    ignores these perturbations and returns zeros for these values.
    """
    others = [[aval for _, aval in tags] for tags in (before, after)]
    tagged = [aval for _, aval in tags_in(jaxpr, owner)]

    def run(*operands):
        args, _, perturbations = split_list(operands, [len(jaxpr.in_avals), len(others[0]) if perturb else 0])
        supply = iter(perturbations)
        with take_current_trace() as parent:
            next_one = (lambda aval: next(supply)) if perturb else None
            results, captured = run_captured(jaxpr_as_fun(jaxpr), args, owner, next_one, parent)
        zeros = ([instantiate(aval) for aval in avals] for avals in others)
        return [*results, *next(zeros), *(value for _, value in captured), *next(zeros)]

    perturbations = [aval.to_ct_aval() for aval in (*others[0], *tagged, *others[1])] if perturb else []
    return trace_to_closed_jaxpr(run, [*jaxpr.in_avals, *perturbations], "returning_tagged")


# Rules: owner, (tag, type) of each value, parameters, arguments, perturbations (none if not asked for)
# -> results, tagged values.


def _jit(owner, tags, params, args, perturbations):
    jaxpr = returning_tagged(params["jaxpr"], owner, bool(perturbations))
    count = len(params["jaxpr"].out_avals)
    inputs, outputs = [*range(len(args)), *[None] * len(perturbations)], [*range(count), *[None] * len(tags)]
    return split_list(bind_jit(jaxpr, [*args, *perturbations], params, inputs, outputs), [count])


def _scan(owner, tags, params, args, perturbations):
    constants, carry, xs = split_list(args, scan_sizes(params))
    jaxpr = returning_tagged(params["jaxpr"], owner, bool(perturbations))
    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    return split_list(
        bind_scan(jaxpr, constants, carry, [*xs, *perturbations], **options), [len(params["jaxpr"].out_avals)]
    )


def _cond(owner, tags, params, args, perturbations):
    """Return zeros for what a branch that was not taken would have computed."""
    index, *operands = args
    branches, position = [], 0
    for branch in params["branches"]:
        end = position + len(tags_in(branch, owner))
        others = tuple(tags[:position]), tuple(tags[end:])
        branches.append(_returning_tagged(branch, owner, bool(perturbations), *others))
        position = end
    outputs = bind_cond(index, branches, [*operands, *perturbations], params)
    return split_list(outputs, [len(params["branches"][0].out_avals)])


def _checkpoint(owner, tags, params, args, perturbations):
    jaxpr, prevent_cse = closed(params["jaxpr"]), params["prevent_cse"]
    if not isinstance(prevent_cse, bool):  # one flag per argument
        prevent_cse = (*prevent_cse, *[True] * len(perturbations))
    options = {"policy": params["policy"], "differentiated": params["differentiated"], "prevent_cse": prevent_cse}
    outputs = bind_checkpoint(returning_tagged(jaxpr, owner, bool(perturbations)), [*args, *perturbations], **options)
    return split_list(outputs, [len(jaxpr.out_avals)])


def _in_place(owner, tags, params, args, perturbations):
    """Make a call without options of its own."""
    jaxpr = next(closed(params[name]) for name in ("jaxpr", "call_jaxpr", "call", "fwd_jaxpr") if name in params)
    outputs = jaxpr_as_fun(returning_tagged(jaxpr, owner, bool(perturbations)))(*args, *perturbations)
    return split_list(outputs, [len(jaxpr.out_avals)])


_REWRITES = {"jit": _jit, "scan": _scan, "cond": _cond, "remat2": _checkpoint, "checkpoint": _checkpoint}
_PLAIN_CALLS = ("eval_jaxpr", "closed_call", "custom_vmap_call", "composite", "remat_opt", "call_apart")
_REWRITES |= dict.fromkeys(_PLAIN_CALLS, _in_place)
