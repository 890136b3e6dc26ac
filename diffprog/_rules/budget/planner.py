"""Which segments keep what their backward pass needs, and which are run again: a dynamic program.

Let best(s, t, m) be the least time in which segments s to t - 1 are run forward and backward within m bytes, where the
values alive before s are there. It is the smaller of

    keep     forward(s) + backward(s) + best(s + 1, t, m - kept), where kept are the residuals of s and the values alive
             after it that were not alive before it;
    split    for each j between s and t: forward(s .. j - 1) + best(j, t, m - new) + best(s, j, m), where new are the
             values alive at j that were not alive at s: the left part is run twice, the second time backward as well.

Values that many later segments read, as those of a skip connection, count once by this.

References: Gruslys et al. 2016, arXiv 1606.03401; Beaumont et al. 2019, arXiv 1911.13214 (heterogeneous chains).
"""

from collections.abc import Iterator
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np

from diffprog._jax_internals import weakref_lru_cache
from diffprog._rules.budget.operation import Allowance
from diffprog._rules.budget.segments import Program, segmented
from diffprog._tracer.staging import Mask

_LEVELS = 200  # into which a budget is divided


class Keep(NamedTuple):
    """A segment that keeps what its backward pass needs.

    Attributes:
      segment: its number.
      option: the number of the way in which it runs.
    """

    segment: int
    option: int


class Again(NamedTuple):
    """Segments that are run again before they are run backward.

    Attributes:
      start: the first of them.
      stop: the one after the last.
      plan: how the second run goes.
    """

    start: int
    stop: int
    plan: tuple


Plan = tuple  # of Keep and Again, in the order of the forward pass


class Planner:
    """The table of best times of a program within a budget.

    Attributes:
      seconds: estimated time of the best plan; infinite if there is none.
      least_bytes: a smaller budget for which there still is a plan; infinite if there is none.
    """

    def __init__(self, program: Program, budget: float):
        self._program, self._unit = program, max(budget, 1) / _LEVELS
        num_segments = len(program.segments)
        self._new = [
            [program.bytes_alive(stop, start) if start < stop else 0 for stop in range(num_segments + 1)]
            for start in range(num_segments + 1)
        ]
        self._choice = np.zeros((num_segments, num_segments + 1, _LEVELS + 1), np.int32)
        by_level = self._fill()
        self.seconds = float(by_level[-1])
        self.least_bytes = float(np.argmax(by_level < inf) * self._unit) if self.seconds < inf else inf

    def _levels(self, num_bytes: float) -> int:
        return int(np.ceil(num_bytes / self._unit - 1e-9))

    def _fill(self) -> np.ndarray:
        """Fill the table; return the best times of the whole program by level."""
        segments, num_segments = self._program.segments, len(self._program.segments)
        if not num_segments:
            return np.zeros(_LEVELS + 1)
        best = np.full((num_segments, num_segments + 1, _LEVELS + 1), inf)
        elapsed = np.cumsum([0.0, *(s.forward_seconds for s in segments)])
        cotangents = [self._program.cotangent_bytes(cut) for cut in range(num_segments + 1)]
        for length in range(1, num_segments + 1):
            for start in range(num_segments - length + 1):
                stop, segment = start + length, segments[start]
                after = self._new[start][start + 1] + cotangents[start + 1]
                least, chosen = np.full(_LEVELS + 1, inf), np.zeros(_LEVELS + 1, np.int32)
                for number, option in enumerate(segment.options):
                    keep = self._kept(option, start, best[start + 1, stop] if length > 1 else None)
                    within = max(segment.forward_bytes, option.residual_bytes + after + option.backward_bytes)
                    keep[: self._levels(within)] = inf
                    least, chosen = _better(least, chosen, keep, -1 - number)
                forward_bytes = 0
                for split in range(start + 1, stop):
                    if segments[split - 1].jaxpr.effects:  # it would print twice
                        break
                    forward_bytes = max(forward_bytes, segments[split - 1].forward_bytes)
                    kept = self._levels(self._new[start][split])
                    again = np.full(_LEVELS + 1, inf)
                    again[kept:] = best[split, stop, : max(_LEVELS + 1 - kept, 0)]
                    again += elapsed[split] - elapsed[start] + best[start, split]
                    again[: self._levels(forward_bytes)] = inf
                    least, chosen = _better(least, chosen, again, split)
                best[start, stop], self._choice[start, stop] = least, chosen
        return best[0, num_segments]

    def _kept(self, option, start: int, rest: np.ndarray | None) -> np.ndarray:
        """Find the times per level if a segment keeps what it needs, and the rest takes those times."""
        times = np.full(_LEVELS + 1, inf)
        if rest is None:
            times[:] = option.seconds
        else:
            kept = self._levels(option.residual_bytes + self._new[start][start + 1])
            times[kept:] = rest[: max(_LEVELS + 1 - kept, 0)] + option.seconds
        return times

    def plan(self) -> Plan:
        """Read the best plan off the table."""
        return tuple(self._read(0, len(self._program.segments), _LEVELS))

    def _read(self, start: int, stop: int, level: int) -> Iterator[Keep | Again]:
        while start < stop:
            split = int(self._choice[start, stop, level])
            if split < 0:
                yield Keep(start, -1 - split)
                option = self._program.segments[start].options[-1 - split]
                level -= self._levels(option.residual_bytes + self._new[start][start + 1])
                start += 1
            else:
                yield Again(start, split, tuple(self._read(start, split, level)))
                level -= self._levels(self._new[start][split])
                start = split


def _better(times, choices, others, choice: int) -> tuple[np.ndarray, np.ndarray]:
    """Take another choice at the levels where it is quicker."""
    better = others < times - 1e-12
    return np.where(better, others, times), np.where(better, np.int32(choice), choices)


def plan_within(program: Program, allowed: float) -> tuple[float, Plan]:
    """Find the quickest plan within a budget by the estimates, and its time; if there is none, one that holds little.

    By the compiler's figure a plan may hold less than was estimated.
    """
    planner = Planner(program, allowed)
    if planner.seconds == inf:
        enough = _without_limit(program)
        planner = Planner(program, enough.least_bytes)
        planner = planner if planner.seconds < inf else enough  # there bytes are rounded to finer levels
    return planner.seconds, planner.plan()


@weakref_lru_cache
def estimated_plan(jaxpr, needs_grad: Mask, allowance: Allowance) -> Plan:
    """Find the quickest plan by the estimates that holds so much more than the least that any plan holds."""
    program = segmented(jaxpr, needs_grad)
    return plan_within(program, _without_limit(program).least_bytes + allowance.bytes)[1]


def _without_limit(program: Program) -> Planner:
    larger = (Planner(program, program.bytes_if_kept() * 2**i) for i in count())
    return next(planner for planner in larger if planner.seconds < inf)
