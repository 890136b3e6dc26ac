"""Differentiating a jaxpr once: the forward program and the backward program of a `jit`, `scan` or `cond` body.

The forward program runs the body under a tape and then traces the reverse pass over that tape as a program of
its own. Whatever that second program closes over are the residuals, so nothing has to be said about which
values to keep: a residual is a value that a rule's backward formula mentions. Residuals that are arguments or
results of the body already are not returned a second time.
"""

from typing import NamedTuple

from diffprog._jax_internals import (
    Tracer,
    instantiate,
    jaxpr_as_fun,
    set_current_trace,
    take_current_trace,
    trace_to_closed_jaxpr,
    trace_to_jaxpr,
    typeof,
    weakref_lru_cache,
)
from diffprog._tracer.backward import backward
from diffprog._tracer.tape import Tape


class Staged(NamedTuple):
    """A differentiated jaxpr.

    Attributes:
      forward: closed jaxpr, arguments -> results + saved residuals.
      backward: closed jaxpr, residuals + cotangents of the live results -> cotangents of the wanted arguments.
      live: which results depend on a wanted argument.
      residuals: where each residual is found: its position in arguments + results + saved residuals + constants.
      constants: residuals that are the same in every call.
    """

    forward: object
    backward: object
    live: tuple[bool, ...]
    residuals: tuple[int, ...]
    constants: tuple

    def collect(self, args, outputs) -> list:
        """The residuals of one call, from its arguments and everything that `forward` returned."""
        pool = [*args, *outputs, *self.constants]
        return [pool[i] for i in self.residuals]


@weakref_lru_cache
def stage(jaxpr, wanted: tuple[bool, ...], reusable: tuple[bool, ...] | None = None) -> Staged:
    """Differentiate a closed jaxpr with respect to the `wanted` arguments.

    Args:
      reusable: for arguments + results, whether one may serve as a residual as it is (default: all may). In a
        `scan` the carried values may not: the backward pass needs them of every iteration.
    """
    staged = None

    def forward(*args):
        nonlocal staged
        results, places, inputs = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
        saved, staged = stage_backward(args, results, places, inputs, reusable)
        return [*results, *saved]

    program = trace_to_closed_jaxpr(forward, jaxpr.in_avals, "forward")
    return staged._replace(forward=program)


def stage_backward(args, results, places, inputs, reusable) -> tuple[list, Staged]:
    """Stage the reverse pass over a tape as a program of its own.

    Args:
      places: per result its place on the tape, None for one that depends on no input.
      inputs: the tape's input nodes.
      reusable: as for `stage`.

    Returns:
      the residuals that have to be saved, being neither arguments nor results; what is staged, without `forward`.
    """
    live = tuple(place is not None for place in places)
    program, residuals, _ = trace_reverse(results, places, inputs, live)
    saved, constants, where = sort_residuals(residuals, [*args, *results], reusable)
    return saved, Staged(None, program, live, where, constants)


def sort_residuals(residuals, known, reusable=None) -> tuple[list, tuple, tuple[int, ...]]:
    """Which residuals have to be saved, being none of the `known` values; which are the same in every call; and where
    each is found: its position in known + saved + constants."""
    position = {id(x): i for i, x in reversed(list(enumerate(known))) if reusable is None or reusable[i]}
    rest = {id(x): x for x in residuals if id(x) not in position}.values()
    saved, constants = ([x for x in rest if isinstance(x, Tracer) == kind] for kind in (True, False))
    position |= {id(x): len(known) + i for i, x in enumerate([*saved, *constants])}
    return saved, tuple(constants), tuple(position[id(x)] for x in residuals)


def trace_reverse(results, places, inputs, given):
    """The reverse pass over a tape as a closed jaxpr, its residuals, and which inputs are reached.

    Args:
      given: which results have a cotangent. If all live ones have, the jaxpr returns zeros for what is not reached.
    """
    chosen = [(place, typeof(x)) for x, place, there in zip(results, places, given, strict=True) if there]
    whole = len(chosen) == sum(place is not None for place in places)
    reached: list[bool] = []

    def reverse(*cotangents):
        seeds = [(place, g) for (place, _), g in zip(chosen, cotangents, strict=True)]
        found = backward(seeds, inputs)
        reached[:] = [whole or g is not None for g in found]
        full = (instantiate(node.avals[0]) if g is None else g for g, node in zip(found, inputs, strict=True))
        return [g for g, there in zip(full, reached, strict=True) if there]

    program, residuals = trace_to_jaxpr(reverse, [aval.to_ct_aval() for _, aval in chosen], "backward")
    return program, residuals, tuple(reached)


@weakref_lru_cache
def liveness(jaxpr, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which results of a closed jaxpr have a gradient with respect to a `wanted` argument."""
    live: list[bool] = []

    def forward(*args):
        results, places, _ = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
        live.extend(place is not None for place in places)
        return results

    trace_to_closed_jaxpr(forward, jaxpr.in_avals, "liveness")
    return tuple(live)


def settle(step, wanted, num_consts, num_carry) -> tuple[bool, ...]:
    """`wanted`, extended by the carried values of a loop that come to depend on it.

    Args:
      step: (wanted constants, carry, ...) -> liveness of (carry, ...) after one iteration.
    """
    while True:
        head, carry, tail = wanted[:num_consts], wanted[num_consts:][:num_carry], wanted[num_consts + num_carry :]
        after = tuple(a or b for a, b in zip(carry, step(wanted), strict=False))
        if after == carry:
            return wanted
        wanted = (*head, *after, *tail)


def run_taped(fun, args, wanted, make=Tape):
    """Run `fun` on a fresh tape.

    Returns:
      its results, free of the tape; the place on the tape of each (None for one that depends on no wanted
      argument); the input nodes of the wanted arguments.
    """
    with take_current_trace() as parent:
        tape = make(parent)
        with set_current_trace(parent):
            traced = [tape.watch(x) if want else x for x, want in zip(args, wanted, strict=True)]
        with set_current_trace(tape):
            results = fun(*traced)
        tape.invalidate()
    results, places = zip(*map(tape.untraced, results), strict=True) if results else ((), ())
    return list(results), list(places), [x.node for x, want in zip(traced, wanted, strict=True) if want]
