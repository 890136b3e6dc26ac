"""A program cut into segments, and what each costs."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from diffprog._jax_internals import weakref_lru_cache
from diffprog._jax_internals.jaxprs import part_of, runs_any
from diffprog._rules.budget.costs import bytes_of, peak_bytes, reruns, seconds, seconds_of, views_of_arguments
from diffprog._rules.budget.variants import with_plans_inside, with_varied_scans
from diffprog._rules.while_loop import states_of_while_loops, while_loop_memory
from diffprog._tracer.staging import Mask, Staged, stage

MOST_SEGMENTS = 48
_FEWER_STATES = (32, 16, 8, 4, 2)  # that a loop of unknown length stores
_SHARES = (3 / 8, 1 / 8, 1 / 32, 0)  # of what a segment holds, for the plans inside it; at the least, time is dear
_UNIMPORTANT = 1e-4  # of the program's time: the backward pass of such a segment is not worth a call of its own


class Option(NamedTuple):
    """A way to run a segment forward and backward.

    Attributes:
      jaxpr: closed jaxpr, values read -> values written.
      staged: its forward and its backward program; None if it has no gradient.
      seconds: estimated time of both.
      residual_bytes: of what is saved for the backward pass, beyond values that are read or written.
      backward_bytes: the most that the backward program holds at once, beyond its arguments.
    """

    jaxpr: Any
    staged: Staged | None
    seconds: float
    residual_bytes: int
    backward_bytes: int


class Segment(NamedTuple):
    """A part of a program, differentiated.

    Values are known by their numbers in the program.

    Attributes:
      reads: which values it reads.
      writes: which values it writes that are read later, or are results.
      needs_grad: which of the values read depend on an input whose gradient is wanted.
      options: ways to run it; the first keeps everything.
      forward_seconds: estimated time of the segment.
      forward_bytes: the most that the segment holds at once.
      is_heavy: whether its backward pass is worth a call of its own.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    needs_grad: Mask
    options: tuple[Option, ...]
    forward_seconds: float
    forward_bytes: int
    is_heavy: bool = True

    @property
    def jaxpr(self):
        """Closed jaxpr, values read -> values written."""
        return self.options[0].jaxpr

    @property
    def active(self) -> tuple[int, ...]:
        """The values written that have a gradient."""
        staged = self.options[0].staged
        return tuple(v for v, flag in zip(self.writes, staged.active, strict=True) if flag) if staged else ()


class Program(NamedTuple):
    """A program cut into segments.

    Attributes:
      segments: the segments, in order.
      num_inputs: number of its inputs, which have the first numbers.
      results: the numbers of its results; None for a constant.
      constants: the constant results.
      sizes: bytes of each value.
      alive: per cut, before each segment and at the end: the values computed before it that are read after it.
      active: the values that have a gradient.
    """

    segments: list[Segment]
    num_inputs: int
    results: list[int | None]
    constants: list
    sizes: list[int]
    alive: list[frozenset[int]]
    active: frozenset[int]

    def bytes_alive(self, cut: int, beyond: int | None = None) -> int:
        """Count the bytes alive at a cut, less those that were alive at another one before."""
        return sum(self.sizes[v] for v in self.alive[cut] - (frozenset() if beyond is None else self.alive[beyond]))

    def bytes_if_kept(self) -> int:
        """Estimate what is held at most if every segment keeps everything."""
        held = most = 0
        for i, segment in enumerate(self.segments):
            option = segment.options[0]
            kept = option.residual_bytes + self.bytes_alive(i + 1, i)
            within = max(segment.forward_bytes, kept + self.cotangent_bytes(i + 1) + option.backward_bytes)
            held, most = held + kept, max(most, held + within)
        return most

    def cotangent_bytes(self, cut: int) -> int:
        """Count the bytes of the cotangents at a cut."""
        return sum(self.sizes[v] for v in self.alive[cut] & self.active)


@weakref_lru_cache
def segmented(jaxpr, needs_grad: Mask) -> Program:
    """Cut a closed jaxpr without constants into segments, and differentiate each."""
    eqns = jaxpr.eqns
    number = {v: i for i, v in enumerate(jaxpr.jaxpr.invars)}
    for eqn in eqns:
        number |= {v: len(number) + i for i, v in enumerate(eqn.outvars)}
    sizes = [bytes_of(v.aval) for v in number]
    num_inputs = len(jaxpr.jaxpr.invars)
    born, last = _lives(jaxpr, number)
    alive_at = lambda cut: frozenset(v for v, b in born.items() if b < cut <= last.get(v, b))

    cuts = _cuts(eqns, born, last, sizes)
    active = {i for i, flag in enumerate(needs_grad) if flag}
    segments = []
    for start, end in pairwise(cuts):
        segment = _segment(jaxpr, start, end, number, last, active)
        active.update(segment.active)
        segments.append(segment)
    total = sum(s.options[0].seconds for s in segments)
    segments = [s._replace(is_heavy=s.options[0].seconds > _UNIMPORTANT * total) for s in segments]
    outvars = jaxpr.jaxpr.outvars
    return Program(
        segments,
        num_inputs,
        [None if hasattr(v, "val") else number[v] for v in outvars],
        [v.val for v in outvars if hasattr(v, "val")],
        sizes,
        [alive_at(cut) for cut in cuts],
        frozenset(active),
    )


def _lives(jaxpr, number) -> tuple[dict[int, int], dict[int, int]]:
    """Find the operation that computes each value, and the last one that reads it."""
    born, last = dict[int, int](), dict[int, int]()
    for i, eqn in enumerate(jaxpr.eqns):
        last |= {number[v]: i for v in eqn.invars if not hasattr(v, "val")}
        born |= {number[v]: i for v in eqn.outvars}
    last |= {number[v]: len(jaxpr.eqns) for v in jaxpr.jaxpr.outvars if not hasattr(v, "val")}
    return born, last


def _cuts(eqns, born, last, sizes) -> list[int]:
    """Choose where to cut: where few bytes are alive, and so that segments take time alike."""
    num_eqns = len(eqns)
    changes = np.zeros(num_eqns + 2)
    for v, first in born.items():
        if last.get(v, first) > first:
            changes[first + 1] += sizes[v]
            changes[last[v] + 1] -= sizes[v]
    alive = np.cumsum(changes)[: num_eqns + 1]
    # Plateaus count everywhere: a plain chain has nothing else.
    least = [i for i in range(1, num_eqns) if alive[i] <= alive[i - 1] and alive[i] <= alive[i + 1]]
    cuts = [0, *least, num_eqns]
    elapsed = np.cumsum([0, *map(seconds_of, eqns)])
    scale = alive.max() + 1
    while len(cuts) > MOST_SEGMENTS + 1:
        inner = np.array(cuts[1:-1])
        merged = elapsed[cuts[2:]] - elapsed[cuts[:-2]]
        cuts.pop(1 + int(np.argmin(merged / (0.05 + alive[inner] / scale))))
    return cuts


def _segment(jaxpr, start, end, number, last, active) -> Segment:
    eqns = jaxpr.eqns[start:end]
    inside = {v for eqn in eqns for v in eqn.outvars}
    reads = list(dict.fromkeys(v for eqn in eqns for v in eqn.invars if not hasattr(v, "val") and v not in inside))
    writes = [v for eqn in eqns for v in eqn.outvars if last.get(number[v], -1) >= end]
    part = part_of(jaxpr, eqns, reads, writes)
    needs_grad = tuple(number[v] in active for v in reads)
    return Segment(
        tuple(number[v] for v in reads),
        tuple(number[v] for v in writes),
        needs_grad,
        _options(part, needs_grad, len(writes)),
        seconds(part),
        peak_bytes(part),
    )


def _options(part, needs_grad: Mask, num_writes: int) -> tuple[Option, ...]:
    """Find the ways to run a segment; the first keeps everything."""
    time = seconds(part)
    option = lambda program: _option(program, needs_grad, num_writes, time)
    plain = option(part)
    if plain.staged is None:
        return (plain,)
    scans = list(map(option, with_varied_scans(part)))
    options = [plain, *scans, *_with_fewer_states(part, needs_grad, num_writes)]
    least = min(option.residual_bytes + option.backward_bytes for option in options)
    if not scans or scans[0].backward_bytes > least / 2:  # else not a step, but the carries of many, hold most
        for share in _SHARES:
            options += map(option, with_plans_inside(part, int(share * least)))
    return tuple(options)


def _option(part, needs_grad: Mask, num_writes: int, forward_seconds: float) -> Option:
    staged = stage(part, needs_grad) if any(needs_grad) else None
    if staged is None or not any(staged.active):
        return Option(part, None, forward_seconds, 0, 0)
    views = views_of_arguments(staged.forward)
    saved = [v.aval for v in staged.forward.jaxpr.outvars[num_writes:] if v not in views]
    time = forward_seconds + seconds(staged.backward)
    return Option(part, staged, time, sum(map(bytes_of, saved)), peak_bytes(staged.backward))


def _with_fewer_states(part, needs_grad: Mask, num_writes: int) -> Iterator[Option]:
    """Iterate over the ways in which loops of unknown length store fewer states, and run their iterations more often.

    A loop that the user gave fewer states has no more.
    """
    usual = states_of_while_loops()
    for states in _FEWER_STATES if runs_any(part, "while") else ():
        if states < usual:
            with while_loop_memory(checkpoints=states):
                option = _option(part, needs_grad, num_writes, seconds(part))
            yield option._replace(seconds=option.seconds * reruns(states) / reruns(usual))
