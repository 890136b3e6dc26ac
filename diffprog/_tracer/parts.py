"""Backward programs for the cotangents of some results, where nobody used the others.

Zeros in the place of the cotangents that are missing would cost time, and zero times the infinite slope of a square
root is not a number. So the program is staged anew without them; the forward pass, and what it saves, stays as it is.
"""

from typing import NamedTuple

from diffprog._jax_internals import Tracer, closed, jaxpr_as_fun, trace_to_closed_jaxpr, weakref_lru_cache
from diffprog._tracer.staging import Staged, trace_reverse
from diffprog._tracer.vjp import run_taped


class Part(NamedTuple):
    """A backward program.

    Attributes:
      given: of which results it takes cotangents.
      backward: closed jaxpr, residuals + these cotangents -> cotangents of the wanted arguments that are reached.
      residuals: where each residual is found: its position in the residuals of all results + constants.
      constants: residuals that are the same in every call.
      reached: which of the wanted arguments get a cotangent.
    """

    given: tuple[bool, ...]
    backward: object
    residuals: tuple[int, ...]
    constants: tuple
    reached: tuple[bool, ...]

    def collect(self, residuals) -> list:
        """The residuals of this part, from those of all results."""
        pool = [*residuals, *self.constants]
        return [pool[i] for i in self.residuals]


def part_of(staged: Staged, jaxpr, wanted: tuple[bool, ...], given: tuple[bool, ...]) -> Part:
    """The backward program for the `given` results of a closed jaxpr, which is differentiated in `staged`."""
    part = None if given == staged.live else _stage_part(jaxpr, wanted, given)
    if part is not None:
        return part
    return Part(staged.live, staged.backward, tuple(range(len(staged.residuals))), (), (True,) * sum(wanted))


@weakref_lru_cache
def _stage_part(jaxpr, wanted, given) -> Part | None:
    """Trace the forward pass again, to see which of its residuals this part needs; None if it needs others.

    The forward pass that runs is that of `stage`: both find the same residuals in the same order.
    """
    part = None

    def forward(*args):
        nonlocal part
        results, taped = run_taped(jaxpr_as_fun(jaxpr), args, wanted)
        _, everything, _ = trace_reverse(results, taped, taped.active)
        program, residuals, reached = trace_reverse(results, taped, given)
        position = {id(x): i for i, x in enumerate(everything)}
        constants = [x for x in residuals if id(x) not in position]
        position |= {id(x): len(everything) + i for i, x in enumerate(constants)}
        if not any(isinstance(x, Tracer) for x in constants):
            where = tuple(position[id(x)] for x in residuals)
            part = Part(given, program, where, tuple(constants), reached)
        return results

    trace_to_closed_jaxpr(forward, jaxpr.in_avals, "forward")
    return part


def settle_part(staged: Staged, jaxpr, wanted, num_consts, num_carry, given) -> tuple[Part, list[bool]]:
    """The backward program of one step of a loop, and which carried values have a cotangent in some step.

    Args:
      jaxpr: constants + carry + others -> carry + others.
      given: which of carry and other results have a cotangent after the last step.
    """
    carry, others = list(given[:num_carry]), given[num_carry:]
    extended = lambda there: [a or b for a, b in zip(carry, _by_argument(there, wanted)[num_consts:], strict=False)]
    unrelated = [False] * len(staged.residuals)
    while True:
        in_step = [there and alive for there, alive in zip([*carry, *others], staged.live, strict=True)]
        sources = [there for there, alive in zip(in_step, staged.live, strict=True) if alive]
        after = extended(reaches(staged.backward, (*unrelated, *sources)))
        if after == carry:
            part = part_of(staged, jaxpr, wanted, tuple(in_step))
            after = extended(part.reached)
            if after == carry:
                return part, carry
        carry = after


def _by_argument(flags, wanted) -> list:
    """Flags of the wanted arguments as flags of all."""
    flags = iter(flags)
    return [want and next(flags) for want in wanted]


@weakref_lru_cache
def reaches(jaxpr, sources: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which outputs of a closed jaxpr may depend on these inputs."""
    body = jaxpr.jaxpr
    found = {v for v, there in zip(body.invars, sources, strict=True) if there}
    known = lambda v: not hasattr(v, "val") and v in found  # literals have a value
    for eqn in body.eqns:
        flags = tuple(map(known, eqn.invars))
        if any(flags):
            found.update(v for v, there in zip(eqn.outvars, _passes(eqn, flags), strict=True) if there)
    return tuple(map(known, body.outvars))


def _passes(eqn, flags):
    if eqn.primitive.name == "cond" and not flags[0]:
        return map(any, zip(*(reaches(branch, flags[1:]) for branch in eqn.params["branches"]), strict=True))
    if eqn.primitive.name in ("jit", "remat2"):
        return reaches(closed(eqn.params["jaxpr"]), flags)
    return [True] * len(eqn.outvars)
