"""The planner against the exact optimum of its own model, by shortest paths over all schedules."""

import heapq
from itertools import pairwise
from math import inf

import numpy as np
import pytest

from diffprog._rules.budget.planner import Again, Keep, Planner
from diffprog._rules.budget.search import _aim, _Try
from diffprog._rules.budget.segments import Option, Program, Segment


def chain_of(rng, num_segments: int) -> Program:
    """A chain with random sizes and times; value i is what segment i - 1 writes."""

    def segment(i):
        forward, backward = rng.uniform(1, 5, 2)
        option = Option(None, None, forward + backward, int(rng.integers(20, 100)), int(rng.integers(0, 20)))
        return Segment((i,), (i + 1,), (True,), (option,), forward, int(rng.integers(0, 20)))

    sizes = [0, *(int(size) for size in rng.integers(10, 100, num_segments))]
    alive = [frozenset(), *(frozenset({i}) for i in range(1, num_segments)), frozenset()]
    segments = [segment(i)._replace() for i in range(num_segments)]
    return Program(segments, 1, [num_segments], [], sizes, alive, frozenset(range(num_segments + 1)))


@pytest.fixture(autouse=True)
def no_effects(monkeypatch):
    """Segments without programs."""
    monkeypatch.setattr(Segment, "jaxpr", type("Silent", (), {"effects": ()}))


def exact_seconds(program: Program, budget: float) -> float:
    """The least time of all schedules that keep any values and residuals at any time, by Dijkstra's algorithm."""
    segments, num = program.segments, len(program.segments)
    value = [program.sizes[i] if 0 < i < num else 0 for i in range(num + 1)]
    residual = [s.options[0].residual_bytes for s in segments]
    backward = [s.options[0].seconds - s.forward_seconds for s in segments]
    size = lambda values, residuals: sum(value[i] for i in values) + sum(residual[i] for i in residuals)
    start = (frozenset({0}), frozenset(), num)
    best, heap, count = {start: 0.0}, [(0.0, 0, start)], 0
    while heap:
        time, _, state = heapq.heappop(heap)
        values, residuals, left = state
        if left == 0:
            return time
        if time > best.get(state, inf):
            continue
        cotangent, held, nexts = value[left], size(values, residuals), []
        nexts += [((values - {i}, residuals, left), 0.0) for i in values if i]
        nexts += [((values, residuals - {i}, left), 0.0) for i in residuals]
        for i in range(left):
            if i in values and held + segments[i].forward_bytes + cotangent <= budget:
                for new in (
                    (values | {i + 1}, residuals),
                    (values, residuals | {i}),
                    (values | {i + 1}, residuals | {i}),
                ):
                    if new != (values, residuals) and size(*new) + cotangent <= budget:
                        nexts.append(((*new, left), segments[i].forward_seconds))
        last = left - 1
        if (
            last in residuals
            and last in values
            and held + cotangent + segments[last].options[0].backward_bytes <= budget
        ):
            nexts.append(((values, residuals - {last}, last), backward[last]))
        for state, added in nexts:
            if time + added < best.get(state, inf) - 1e-12:
                best[state], count = time + added, count + 1
                heapq.heappush(heap, (time + added, count, state))
    return inf


@pytest.mark.parametrize("seed", range(6))
def test_plans_take_little_more_than_the_exact_optimum(seed):
    program = chain_of(np.random.default_rng(seed), 5)
    for share in (1.0, 0.8):
        budget = share * program.bytes_if_kept()
        ours, exact = Planner(program, budget).seconds, exact_seconds(program, budget)
        assert exact <= ours + 1e-9
        assert ours <= 1.15 * exact  # it leaves out schedules that drop values and make them anew by turns


def test_more_memory_never_takes_longer():
    for seed in range(5):
        program = chain_of(np.random.default_rng(seed), 12)
        times = [Planner(program, share * program.bytes_if_kept()).seconds for share in np.linspace(0.2, 1.05, 12)]
        assert all(a >= b - 1e-9 for a, b in pairwise(times))
        plain = sum(s.options[0].seconds for s in program.segments)
        assert times[-1] == pytest.approx(plain)
        assert times[0] > plain


def test_a_plan_runs_every_segment_backward_once_in_order():
    program = chain_of(np.random.default_rng(3), 12)
    planner = Planner(program, 0.5 * program.bytes_if_kept())

    def covered(plan):
        for part in plan:
            yield from [part.segment] if isinstance(part, Keep) else covered(part.plan)

    plan = planner.plan()
    assert any(isinstance(part, Again) for part in plan)
    assert list(covered(plan)) == list(range(12))

    def time(plan):
        return sum(
            program.segments[part.segment].options[part.option].seconds
            if isinstance(part, Keep)
            else sum(s.forward_seconds for s in program.segments[part.start : part.stop]) + time(part.plan)
            for part in plan
        )

    assert time(plan) == pytest.approx(planner.seconds)


def aim(pairs, target: float) -> float:
    return _aim([_Try(modelled, 0.0, (), None, held) for modelled, held in pairs], target)


def test_the_next_try_follows_what_the_compiler_said():
    assert aim([], 90.0) == 90.0
    assert aim([(100.0, 120)], 90.0) == 75.0  # in proportion
    held = lambda modelled: 36 + 0.9 * modelled  # never in proportion: what cannot be given up counts
    pairs = [(84.0, held(84.0))]
    for _ in range(2):
        modelled = aim(pairs, 82.0)
        pairs.append((modelled, held(modelled)))
    assert abs(pairs[-1][1] - 82.0) < 1e-9
    assert aim([(90.0, 50), (60.0, 55)], 40.0) == 60.0 * 40 / 55  # less by the model, more by the compiler
    assert aim([(90.0, 50), (80.0, 49)], 1.0) == 80.0 / 3
