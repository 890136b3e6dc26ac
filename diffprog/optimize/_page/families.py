"""Paths of many optimizers on one function, with what each asked and the time that it took."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog._util.tables import text_table
from diffprog.optimize._methods import defaults
from diffprog.optimize._methods.cma_es import cma_es
from diffprog.optimize._methods.lbfgs import lbfgs
from diffprog.optimize._methods.lbfgsb import lbfgsb
from diffprog.optimize._methods.momentum import heavy_ball, nesterov
from diffprog.optimize._methods.nelder_mead import nelder_mead
from diffprog.optimize._methods.newton_cg import newton_cg
from diffprog.optimize._methods.random_search import random_search
from diffprog.optimize._methods.spsa import spsa
from diffprog.optimize._methods.trust_region import trust_region
from diffprog.optimize._search.flat import Unflatten
from diffprog.optimize._search.optimizer import CONVERGED, REASONS, SEARCHING
from diffprog.optimize._search.oracle import Counts, Oracle

NUM_RATES = 8  # step sizes that are tried for a first-order method
MOMENTUM = 0.9  # of heavy ball and Nesterov
RATIO = 2.5  # between one and the next
POWER_STEPS = 20  # towards the largest curvature: its size is enough
QUESTIONS = {
    "function": "f",
    "gradient": "gradients",
    "jacobian": "Jacobians",
    "hessian_vector": "Hessian products",
}
REPEATS = 3  # of which the quickest counts


class Family(NamedTuple):
    """What one optimizer did.

    Attributes:
      name: of the optimizer.
      settings: a sentence.
      path: where it stood at the start and after each step, (k + 1, n).
      values: of the function at the best point so far, (k + 1,).
      counts: what was asked so far, by question, (k + 1,) each.
      seconds: that a step takes, compiled.
      converged: whether it ended where it could not do better.
      reason: why it ended, a sentence.
      ellipses: of an optimizer that draws around a mean: that and the upper triangle of the covariance after each step,
        with two numbers x, y, xx, xy, yy; None for others.
    """

    name: str
    settings: str
    path: np.ndarray
    values: np.ndarray
    counts: Mapping[str, np.ndarray]
    seconds: float
    converged: bool
    reason: str
    ellipses: np.ndarray | None


class Watched(NamedTuple):
    """A row of what is seen of an optimizer's state."""

    point: jax.Array
    value: jax.Array
    counts: Any
    ellipse: jax.Array | None


class Tunable(NamedTuple):
    """A method whose step size has to be found.

    Attributes:
      make: of a step size, makes the optimizer.
      settings: sentence with {step_size} and {tried}.
      in_units_of_parameters: whether a step's length is about the step size, whatever the gradient.
    """

    make: Callable[[Any], Any]
    settings: str
    in_units_of_parameters: bool = False


def known_optimizers() -> dict[str, Any]:
    """Make the optimizers of functions, from those that ask least of a function to those that ask most."""
    tried = "step size {step_size}, the best of {tried} tried"
    return {
        "random_search": random_search(),
        "spsa": spsa(),
        "nelder_mead": nelder_mead(),
        "cma_es": cma_es(),
        "gradient_descent": Tunable(optax.sgd, tried),
        "heavy_ball": Tunable(lambda alpha: heavy_ball(alpha, MOMENTUM), f"beta {MOMENTUM}, {tried}"),
        "nesterov": Tunable(lambda alpha: nesterov(alpha, MOMENTUM), f"beta {MOMENTUM}, {tried}"),
        "adam": Tunable(optax.adam, tried, in_units_of_parameters=True),
        "lbfgs": lbfgs(),
        "lbfgsb": lbfgsb(),
        "newton_cg": newton_cg(),
        "trust_region": trust_region(),
    }


TITLES = {
    "nesterov": "Nesterov",
    "adam": "Adam",
    "lbfgs": "L-BFGS",
    "lbfgsb": "L-BFGS-B",
    "newton_cg": "Newton-CG",
    "cma_es": "CMA-ES",
    "nelder_mead": "Nelder-Mead",
    "spsa": "SPSA",
}
SHOWN = ("gradient_descent", "heavy_ball", "nesterov", "adam", "lbfgs", "trust_region", "cma_es", "random_search")


def default_optimizers(is_bounded: bool = False) -> dict[str, Any]:
    """Name the optimizers that are shown side by side unless others are asked for.

    Args:
      is_bounded: whether they have to keep to a box.
    """
    known = known_optimizers()
    names = [name for name in known if getattr(known[name], "takes_bounds", True)] if is_bounded else SHOWN
    return {title_of(name): known[name] for name in names if name in known}


def title_of(name: str) -> str:
    """Write an optimizer's name as readers know it."""
    return TITLES.get(name, name.replace("_", " "))


def run_families(
    oracle: Oracle,
    start: jax.Array,
    unflatten: Unflatten,
    optimizers: Mapping[str, Any],
    size: float,
    max_steps: int,
    key: jax.Array,
) -> Iterator[Family]:
    """Run optimizers from one start, one after the other.

    Args:
      oracle: answers questions about the function.
      start: (n,).
      unflatten: makes the caller's parameters of a vector.
      optimizers: by name; a function of a step size is called with several, and the best counts.
      size: of the region of interest, in which Adam's largest step size is a third.
      max_steps: steps of each.
      key: of what is drawn at random.
    """
    curvature = float(_largest_curvature(oracle, start, key)) or 1.0
    for name, optimizer in optimizers.items():
        if not isinstance(optimizer, Tunable):
            prepared = defaults.optimizer_for(optimizer, oracle, start, unflatten)
            yield _family(name, "default settings", _run(oracle, prepared, start, key, max_steps))
            continue
        largest = size / 3 if optimizer.in_units_of_parameters else 4 / curvature
        runs = []
        for step_size in largest / RATIO ** np.arange(NUM_RATES):
            # An array, not a number: what a transformation reads is no part of its compiled program.
            transformation = optimizer.make(jnp.asarray(step_size, start.dtype))
            prepared = defaults.optimizer_for(transformation, oracle, start, unflatten)
            runs.append((float(step_size), _run(oracle, prepared, start, key, max_steps)))
        # The lowest value, and among equals the one that came near it first.
        lowest = min(float(run[0].value[-1]) for _, run in runs)
        first = float(runs[0][1][0].value[0])
        near = lowest + 1e-6 * abs(first - lowest)
        step_size, run = min(runs, key=lambda pair: (pair[1][0].value[-1] > near, _first(pair[1][0].value, near)))
        settings = optimizer.settings.format(step_size=f"{step_size:.3g}", tried=NUM_RATES)
        yield _family(name, settings, run)


@jax.jit
def _largest_curvature(oracle, point, key):
    _, _, product, counts = oracle.linearized(point, Counts.none())

    def step(vector, _):
        vector = product(vector, counts)[0]
        norm = jnp.linalg.norm(vector)
        return vector / jnp.where(norm > 0, norm, 1), norm

    _, norms = jax.lax.scan(step, jax.random.normal(key, point.shape, point.dtype), None, POWER_STEPS)
    return jnp.where(jnp.isfinite(norms[-1]), norms[-1], 0)


def families_table(families: Sequence[Family]) -> str:
    """Write a row for each optimizer: where it ended, what it asked, and why it ended."""
    asked = [name for name in QUESTIONS if any(name in family.counts for family in families)]
    rows = [["optimizer", "value", "steps", *(QUESTIONS[name] for name in asked), "us/step", "ended", "settings"]]
    for family in families:
        counts = [int(family.counts[name][-1]) if name in family.counts else "-" for name in asked]
        time_of_step = f"{family.seconds * 1e6:.3g}"
        row = [family.name, f"{family.values[-1]:.6g}", len(family.values) - 1, *counts, time_of_step]
        rows.append([str(cell) for cell in [*row, family.reason.partition(", after")[0], family.settings]])
    align = "<" + ">" * (len(asked) + 3) + "<"
    return "\n".join(text_table(rows, align))


def _first(values, limit) -> int:
    reached = np.flatnonzero(values <= limit)
    return int(reached[0]) if len(reached) else len(values)


def _family(name: str, settings: str, run: Any) -> Family:
    rows, status, seconds = run
    num_steps = len(rows.value) - 1
    return Family(
        name,
        settings,
        np.asarray(rows.point, np.float64),
        np.asarray(rows.value, np.float64),
        {name: column for name, column in rows.counts._asdict().items() if column.any()},
        seconds,
        status in CONVERGED,
        f"{REASONS[status]}, after {num_steps} steps",
        None if rows.ellipse is None else np.asarray(rows.ellipse, np.float64),
    )


def _run(oracle, optimizer, start, key, max_steps):
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        rows, status, num_steps = jax.block_until_ready(_trace(oracle, optimizer, start, key, max_steps))
        times.append(time.perf_counter() - begun)
    num_steps = int(num_steps)
    rows = jax.tree.map(lambda x: np.asarray(x)[: num_steps + 1], rows)
    return rows, int(status), min(times) / max(num_steps, 1)


@partial(jax.jit, static_argnums=4)
def _trace(oracle, optimizer, start, key, max_steps):
    first = optimizer.init(oracle, oracle.clip(start), key)
    first = jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), first)
    rows = jax.tree.map(lambda x: jnp.zeros((max_steps + 1, *x.shape), x.dtype).at[0].set(x), _watch(first))

    def goes_on(carry):
        state, num_steps, _ = carry
        return (state.status == SEARCHING) & (num_steps < max_steps)

    def turn(carry):
        state, num_steps, rows = carry
        state = optimizer.update(oracle, state)
        num_steps = num_steps + 1
        return state, num_steps, jax.tree.map(lambda rows, x: rows.at[num_steps].set(x), rows, _watch(state))

    state, num_steps, rows = jax.lax.while_loop(goes_on, turn, (first, jnp.int32(0), rows))
    return rows, state.status, num_steps


def _watch(state) -> Watched:
    """Look at where an optimizer stands, which is not always at the best point so far."""
    distribution = getattr(state, "distribution", None)
    if distribution is None:
        return Watched(getattr(state, "iterate", state.point), state.value, state.counts, None)
    covariance = distribution.sigma**2 * distribution.covariance
    parts = [distribution.mean, covariance[jnp.triu_indices(len(distribution.mean))]]
    return Watched(distribution.mean, state.value, state.counts, jnp.concatenate(parts))
