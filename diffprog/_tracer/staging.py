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
    trace_to_closed_jaxpr,
    trace_to_jaxpr,
    typeof,
    weakref_lru_cache,
)
from diffprog._tracer.backward import Taped
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select


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
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
        saved, staged = stage_backward(args, results, taped, reusable)
        return [*results, *saved]

    program = trace_to_closed_jaxpr(forward, jaxpr.in_avals, "forward")
    return staged._replace(forward=program)


def stage_backward(args, results, taped: Taped, reusable) -> tuple[list, Staged]:
    """Stage the reverse pass over a tape as a program of its own.

    Args:
      taped: the tape that took the arguments to the results.
      reusable: as for `stage`.

    Returns:
      the residuals that have to be saved, being neither arguments nor results; what is staged, without `forward`.
    """
    live = taped.active
    program, residuals, _ = trace_reverse(results, taped, live)
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


def trace_reverse(results, taped: Taped, given):
    """The reverse pass over a tape as a closed jaxpr, its residuals, and which inputs are reached.

    Args:
      given: which results have a cotangent. If all live ones have, the jaxpr returns zeros for what is not reached.
    """
    chosen = [typeof(x) for x in select(results, given)]
    whole = len(chosen) == sum(taped.active)
    reached: list[bool] = []

    def reverse(*cotangents):
        found = taped.pull(expand(cotangents, given))
        reached[:] = [whole or g is not None for g in found]
        full = (instantiate(node.avals[0]) if g is None else g for g, node in zip(found, taped.inputs, strict=True))
        return [g for g, there in zip(full, reached, strict=True) if there]

    program, residuals = trace_to_jaxpr(reverse, [aval.to_ct_aval() for aval in chosen], "backward")
    return program, residuals, tuple(reached)


@weakref_lru_cache
def liveness(jaxpr, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which results of a closed jaxpr have a gradient with respect to a `wanted` argument."""
    live: list[bool] = []

    def forward(*args):
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
        live.extend(taped.active)
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
