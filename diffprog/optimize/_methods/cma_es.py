"""CMA-ES (Hansen & Ostermeier 2001): a normal distribution that learns the shape of the function, with restarts.

Why our own, with evosax and pycma there: its state is a pytree of this package's loop, so a search is compiled, goes
through `vmap` and `jit`, counts its questions, and goes on from a saved state with the same bits; and it takes no
dependency. `benchmarks/black_box.py` holds its evaluations against pycma's.
"""

from dataclasses import dataclass
from math import ceil, floor, log
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from diffprog._util.numbers import check_count, check_positive
from diffprog._util.trees import tree_where
from diffprog.optimize._methods.cma_distribution import Distribution, Rates, first_scale, is_ill_conditioned, moved
from diffprog.optimize._search.optimizer import DEGENERATE, NOT_FINITE, SEARCHING, SETTLED, SHORT, WENT_OFF
from diffprog.optimize._search.oracle import Counts, Oracle

Restarts = Literal["none", "ipop", "bipop"]
TOLERANCE_POWER = 0.75  # of the rounding error: 2e-12 in float64, as in the tutorial


class Population(NamedTuple):
    """Steps that were drawn for this generation so far; values beyond them are infinite."""

    steps: jax.Array  # (size, n)
    squares: jax.Array  # (size,), their squared lengths in the metric of C
    values: jax.Array  # (size,), of the function, at the nearest points in the box
    outside: jax.Array  # (size,), squared distance from the box, in standard deviations

    @classmethod
    def none(cls, point: jax.Array, size: int) -> "Population":
        """Make an empty one."""
        zeros = jnp.zeros((size,), point.dtype)
        return cls(jnp.zeros((size, len(point)), point.dtype), zeros, zeros + jnp.inf, zeros)


class Run(NamedTuple):
    """What a run from one start remembers, to know when it is over."""

    best: jax.Array
    improved: jax.Array  # int32, the generation at which it improved last
    recent: jax.Array  # the best values of the last generations, the newest last
    first_range: jax.Array  # of the values in the first generation
    evaluations: jax.Array  # int32


class Plan(NamedTuple):
    """How large the populations are, and what both regimes of BIPOP have used."""

    population: jax.Array  # int32, of this run
    largest: jax.Array  # int32, of the runs with growing populations
    num_doublings: jax.Array  # int32
    is_small: jax.Array  # this run belongs to the second regime
    grown: jax.Array  # int32, evaluations of the runs with growing populations
    small: jax.Array  # int32, and of the others


class CMAState(NamedTuple):
    """Everything that the next step depends on."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    key: jax.Array
    start: jax.Array  # (n,)
    distribution: Distribution
    population: Population
    num_drawn: jax.Array  # int32, of this generation
    run: Run
    plan: Plan


@jax.tree_util.register_static
@dataclass(frozen=True)
class CMAES:
    """The settings of `cma_es`."""

    sigma: float | None
    population_size: int | None
    restarts: Restarts
    max_doublings: int
    value_tolerance: float
    parameter_tolerance: float | None

    max_steps: ClassVar[int] = 100_000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = True

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> CMAState:
        """Evaluate the start, and make a distribution around it."""
        value, counts = oracle.value(point, Counts.none())
        value = jnp.where(jnp.isfinite(value), value, jnp.inf)
        n, none = len(point), jnp.zeros((), jnp.int32)
        drawn = self._num_drawn(n)
        plan = Plan(none + drawn, none + drawn, none, jnp.array(False), none, none)
        return CMAState(
            point,
            value,
            counts,
            none + SEARCHING,
            key,
            point,
            Distribution.around(point, self._scale(oracle, point)),
            Population.none(point, self._size(n)),
            none,
            _new_run(value, self._window(n)),
            plan,
        )

    def update(self, oracle: Oracle, state: CMAState) -> CMAState:
        """Draw and evaluate points; when they fill the population, go on to the next generation."""
        state = self._drawn(oracle, state)
        if self.restarts == "none":
            return self._next_generation(oracle, state)
        is_full = state.num_drawn >= state.plan.population
        return jax.lax.cond(is_full, lambda full: self._next_generation(oracle, full), lambda same: same, state)

    def _num_drawn(self, n: int) -> int:
        """Say how many points a step evaluates: the first population; larger ones are multiples of it."""
        return 4 + floor(3 * log(n)) if self.population_size is None else self.population_size

    def _size(self, n: int) -> int:
        return self._num_drawn(n) * (1 if self.restarts == "none" else 2**self.max_doublings)

    def _window(self, n: int) -> int:
        return 10 + ceil(30 * n / self._num_drawn(n))

    def _scale(self, oracle: Oracle, point: jax.Array) -> jax.Array:
        return first_scale(self.sigma, point, oracle.lower, oracle.upper)

    def _drawn(self, oracle: Oracle, state: CMAState) -> CMAState:
        """Evaluate the next points of this generation."""
        number, distribution = self._num_drawn(len(state.point)), state.distribution
        key, draw = jax.random.split(state.key)
        steps, squares = distribution.draw(draw, number)
        wanted = distribution.mean + distribution.sigma * steps
        points = oracle.clip(wanted)
        values, counts = oracle.values(points, state.counts)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        outside = jnp.sum(((wanted - points) / distribution.deviations()) ** 2, axis=1)
        population = jax.tree.map(
            lambda all_of, new: jax.lax.dynamic_update_slice_in_dim(all_of, new, state.num_drawn, 0),
            state.population,
            Population(steps, squares, values, outside),
        )
        lowest = jnp.argmin(values)
        is_lower = values[lowest] < state.value
        return state._replace(
            point=jnp.where(is_lower, points[lowest], state.point),
            value=jnp.where(is_lower, values[lowest], state.value),
            counts=counts,
            key=key,
            population=population,
            num_drawn=state.num_drawn + number,
        )

    def _next_generation(self, oracle: Oracle, state: CMAState) -> CMAState:
        """Move the distribution to the better half of a full population, and end or begin a run."""
        n, population = len(state.point), state.population
        costs = _penalized(population.values, population.outside)
        order = jnp.argsort(costs)
        rates = Rates.of(n, state.plan.population, len(costs), costs.dtype)
        distribution = moved(state.distribution, rates, population.steps[order], population.squares[order])
        run = _remember(state.run, population.values, distribution.generation, state.plan.population)
        status = self._run_status(oracle, state, distribution, run)
        state = state._replace(
            distribution=distribution,
            run=run,
            population=Population.none(state.point, len(costs)),
            num_drawn=jnp.zeros_like(state.num_drawn),
            status=status,
        )
        if self.restarts == "none":
            return state
        return jax.lax.cond(
            status == SEARCHING, lambda same: same, lambda ended: self._restarted(oracle, ended, status), state
        )

    def _run_status(self, oracle: Oracle, state: CMAState, distribution: Distribution, run: Run) -> jax.Array:
        """Say whether a run is over, and why."""
        n, eps = len(state.point), jnp.finfo(run.best.dtype).eps
        number = state.plan.population
        window = 10 + 30 * n // number
        looked_at = jnp.arange(-len(run.recent), 0) >= -window
        highest = jnp.max(jnp.where(looked_at, run.recent, -jnp.inf))
        lowest = jnp.min(jnp.where(looked_at, run.recent, jnp.inf))
        drawn = jnp.where(jnp.arange(len(state.population.values)) < number, state.population.values, -jnp.inf)
        spread = jnp.maximum(highest, jnp.max(drawn)) - lowest
        is_settled = spread <= jnp.maximum(self.value_tolerance * run.first_range, 4 * eps * jnp.abs(lowest))
        is_settled |= distribution.generation - run.improved > 100 + 100 * n**1.5 / number

        part = eps**TOLERANCE_POWER if self.parameter_tolerance is None else self.parameter_tolerance
        reach = jnp.maximum(distribution.deviations(), distribution.sigma * jnp.abs(distribution.path))
        is_short = jnp.all(reach <= part * self._scale(oracle, state.start))
        mean, axis = distribution.mean, distribution.generation % n
        longest = 0.1 * distribution.sigma * distribution.lengths[axis] * distribution.axes[:, axis]
        is_short |= jnp.any(mean + 0.2 * distribution.deviations() == mean) | jnp.all(mean + longest == mean)

        is_finite = jnp.all(jnp.isfinite(distribution.covariance)) & jnp.isfinite(distribution.sigma)
        ends = [
            ~is_finite & jnp.isfinite(run.best),
            ~is_finite | (is_settled & ~jnp.isfinite(run.best)),
            is_settled,
            is_short,
            is_ill_conditioned(distribution),
        ]
        statuses = [WENT_OFF, NOT_FINITE, SETTLED, SHORT, DEGENERATE]
        return jnp.select(ends, statuses, SEARCHING).astype(jnp.int32)

    def _restarted(self, oracle: Oracle, state: CMAState, status: jax.Array) -> CMAState:
        """Begin the next run, if one is left; else keep the status."""
        n = len(state.point)
        key, place, size = jax.random.split(state.key, 3)
        plan, shrink = self._next_plan(state, size)
        inside = jax.random.uniform(place, (n,), state.point.dtype)
        around = state.start + self._scale(oracle, state.start) * jax.random.normal(place, (n,), state.point.dtype)
        width = oracle.upper - oracle.lower
        start = jnp.where(jnp.isfinite(width), oracle.lower + inside * width, oracle.clip(around))
        begun = state._replace(
            status=jnp.full_like(status, SEARCHING),
            key=key,
            distribution=Distribution.around(start, shrink * self._scale(oracle, state.start)),
            run=_new_run(jnp.inf * jnp.ones_like(state.value), len(state.run.recent)),
            plan=plan,
        )
        return tree_where(plan.num_doublings <= self.max_doublings, begun, state)

    def _next_plan(self, state: CMAState, key: jax.Array) -> tuple[Plan, jax.Array]:
        """Choose population and initial step of the next run."""
        plan, asked, first = state.plan, state.run.evaluations, self._num_drawn(len(state.point))
        is_first = plan.num_doublings == 0  # the first run belongs to no regime
        plan = plan._replace(
            grown=plan.grown + jnp.where(plan.is_small | is_first, 0, asked),
            small=plan.small + jnp.where(plan.is_small, asked, 0),
        )
        grown = plan._replace(
            population=2 * plan.largest,
            largest=2 * plan.largest,
            num_doublings=plan.num_doublings + 1,
            is_small=jnp.array(False),
        )
        one = jnp.ones((), state.point.dtype)
        if self.restarts == "ipop":
            return grown, one
        of_size, of_sigma = jax.random.uniform(key, (2,), state.point.dtype)
        multiple = jnp.floor((plan.largest / (2 * first)).astype(one.dtype) ** of_size**2).astype(jnp.int32)
        small = plan._replace(population=first * jnp.maximum(multiple, 1), is_small=jnp.array(True))
        is_small = ~is_first & (plan.small < plan.grown)
        return tree_where(is_small, small, grown), jnp.where(is_small, 10 ** (-2 * of_sigma), one)


def cma_es(
    *,
    sigma: float | None = None,
    population_size: int | None = None,
    restarts: Restarts = "none",
    max_doublings: int = 7,
    value_tolerance: float = 0.0,
    parameter_tolerance: float | None = None,
) -> Any:
    """Minimize by values alone, with a normal distribution that learns scales and directions of the function.

    Rank-one and rank-mu updates, negative weights for the worse half, cumulative step-size adaptation. Only the order
    of the values matters, so no monotone change of the function changes the search. A point outside of the box is
    evaluated at the nearest one in it, and ranked behind by its distance.

    A step evaluates one population of the first size. Populations that a restart has made larger are multiples of it
    and take several steps, so compiled shapes stay, and no point is evaluated in vain.

    Args:
      sigma: standard deviation of the first population, for each parameter: about a quarter of where the minimum may
        be. By default a quarter of the box, or of the parameter itself, or of 1.
      population_size: points of a generation; by default 4 + 3 ln n, rounded down.
      restarts: what follows a run that is over: "none", "ipop" (runs with populations twice as large each), or "bipop"
        (between these, runs with small populations and small sigmas, up to the same number of evaluations). A run
        begins anywhere in the box, or around the start where there is none.
      max_doublings: how often restarts double the population before the search ends.
      value_tolerance: range of the values in the last generations at which a run is over, as a part of that in the
        first generation; by default only where rounding leaves no more.
      parameter_tolerance: standard deviation at which a run is over, as a part of the first; by default the rounding
        error to the power 0.75.

    Returns:
      An optimizer for `minimize`.

    References:
      N. Hansen & A. Ostermeier, "Completely derandomized self-adaptation in evolution strategies", Evolutionary
      Computation 9(2), 2001; N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772; A. Auger & N.
      Hansen, "A restart CMA evolution strategy with increasing population size", CEC 2005; N. Hansen, "Benchmarking a
      BI-population CMA-ES on the BBOB-2009 function testbed", GECCO 2009.
    """
    if sigma is not None:
        check_positive(sigma, "sigma")
    if population_size is not None:
        check_count(population_size, "population_size", least=4)
    if restarts not in get_args(Restarts):
        raise ValueError(f"restarts must be one of {', '.join(get_args(Restarts))}; found {restarts!r}")
    for name, part in (("value_tolerance", value_tolerance), ("parameter_tolerance", parameter_tolerance)):
        if part is not None and not 0 <= part < 1:
            raise ValueError(f"{name} must be a part, from 0 on and below 1; found {part!r}")
    return CMAES(
        sigma,
        population_size,
        restarts,
        check_count(max_doublings, "max_doublings"),
        value_tolerance,
        parameter_tolerance,
    )


def _penalized(values, outside):
    """Add to each value what it is to cost that its point was outside the box: values and spread of the population."""
    is_finite = jnp.isfinite(values)
    number = jnp.sum(is_finite)
    ordered = jnp.sort(jnp.where(is_finite, values, jnp.inf))
    middle = ordered[jnp.maximum(number - 1, 0) // 2] - ordered[0]
    unit = jnp.where(jnp.isfinite(middle) & (middle > 0), middle, 1)
    return jnp.where(is_finite, values + unit * outside, values)


def _new_run(value, window):
    none = jnp.zeros((), jnp.int32)
    return Run(value, none, jnp.full((window,), jnp.inf, value.dtype), jnp.zeros_like(value), none)


def _remember(run, values, generation, number):
    """Take note of a generation."""
    lowest = jnp.min(values)
    is_lower = lowest < run.best
    highest = jnp.max(jnp.where(jnp.isfinite(values), values, -jnp.inf))
    return Run(
        jnp.where(is_lower, lowest, run.best),
        jnp.where(is_lower, generation, run.improved),
        jnp.append(run.recent[1:], lowest),
        jnp.where(generation == 1, jnp.where(highest >= lowest, highest - lowest, 0), run.first_range),
        run.evaluations + number,
    )
