"""Auto-PGD: projected gradient ascent with momentum, which halves its own steps and restarts from its best point."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog._util.trees import tree_where
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import cross_entropy, likely_target_classes, targeted_dlr
from diffprog.attack._norms import Norm, l0, l1, l2, linf
from diffprog.attack._norms.sparse import largest

RISES = 0.75  # rho: steps are halved if no more than this fraction of them raised the loss
MOMENTUM = 0.75  # alpha: how much of a step is new

# In L1 (Croce & Hein 2021)
PHASES = ((3, 0.3), (2, 0.6), (1, 1.0))  # budgets, in epsilons, and after which fraction of the steps they end
DENSER = 1.5  # the next steps change a fraction 1 / 1.5 of the elements that the best perturbation changes
SLOWER = 1.5  # by which steps shrink while that fraction stays as it is,
SLOWEST = 10.0  # down to this fraction of the budget


@documents_options
def apgd(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 100,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by Auto-PGD, which needs no step size.

    Steps begin at 2 epsilon. At checkpoints each image halves its own step if the last steps did not pay, and goes
    back to its best point. Checkpoints are 0.22 max_steps apart, then 0.03 less each time, down to 0.06. The random
    start lies on the surface of the ball, before the box cuts it off. In L1 the attack begins in balls of three and
    two budgets; nothing from outside the budget is returned.

    Two things differ from the authors' program. The projection is onto ball and box together; in L2 theirs cuts off
    what leaves the box after it has projected onto the ball. And the first step counts as a rise if it raised the loss
    of the start, as in the paper, not if the loss is above 0.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the random starts.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      loss: (logits, labels) -> (n,), such as `cross_entropy` or `dlr`; raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best point of each image: a success before a failure, then the larger loss.

    References:
      Croce & Hein 2020b, algorithm 1; in L1 Croce & Hein 2021, algorithm 1.
    """
    return _run("apgd", model, images, labels, loss, key, norm, epsilon, max_steps, options)


@documents_options
def apgd_targeted(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 100,
    num_target_classes: int = 9,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by APGD-T: `apgd` on the targeted difference of logits ratio, towards the likeliest wrong classes.

    The classes are tried in turn, each on the images that still stand. "Targeted" is the search, not the goal: any
    wrong class is a success. With three classes the ratio's scale is the lead of the largest logit on the third
    instead of the mean of third and fourth; with two there is none.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave.
      key: random key, which decides the random starts.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps per target class.
      num_target_classes: wrong classes that are tried; all of them if there are fewer.
      **options: shared options.

    Returns:
      The best point of each image: a success before a failure, then the larger loss.

    References:
      Croce & Hein 2020b, section 4.
    """
    validation.check_counts(num_target_classes=num_target_classes)
    classes = likely_target_classes(num_target_classes)
    return _run("apgd-t", model, images, labels, targeted_dlr, key, norm, epsilon, max_steps, options, classes)


def _run(name, model, images, labels, loss, key, norm, epsilon, max_steps, options, target_classes=None):
    validation.check_counts(max_steps=max_steps)
    ascent = l1_ascent if validation.check_norm(norm, (linf, l2, l1)) is l1 else dense_ascent
    spec, hyperparameters = ascent(name, norm, max_steps)
    run = partial(run_attack, target_classes=target_classes, key=key, epsilon=epsilon)
    return run(model, images, labels, spec._replace(loss=loss), parse_options(options), max_steps, hyperparameters)


class Best(NamedTuple):
    """The point of the largest loss so far: where a search goes back to."""

    point: jax.Array
    gradient: jax.Array
    value: jax.Array

    def or_better(self, point: jax.Array, gradient: jax.Array, value: jax.Array) -> "Best":
        """Take another point if its loss is larger."""
        return tree_where(value > self.value, Best(point, gradient, value), self)


def no_best(point: jax.Array) -> Best:
    """Make the best before the first query."""
    return Best(point, jnp.zeros_like(point), jnp.float32(-jnp.inf))


# ---------------------------------------------------------------- L-infinity and L2


class Checkpoints(NamedTuple):
    """Numbers of steps between checkpoints."""

    first: int
    decrease: int
    minimum: int


class State(NamedTuple):
    """A search in L-infinity or L2."""

    point: jax.Array
    previous: jax.Array  # the point before it
    value: jax.Array  # there
    best: Best
    step_size: jax.Array
    taken: jax.Array  # int32, steps since the last checkpoint
    rises: jax.Array  # int32, how many of them raised the loss
    interval: jax.Array  # int32, steps until the next
    halved: jax.Array  # bool, what the last checkpoint did
    best_value_then: jax.Array  # at the last checkpoint


def dense_ascent(name: str, norm: Norm, max_steps: int) -> tuple[AttackSpec, Checkpoints]:
    """Make the attack in L-infinity or L2, and its hyperparameters."""
    steps = (max(int(fraction * max_steps), 1) for fraction in (0.22, 0.03, 0.06))
    return _dense_spec(name, norm), Checkpoints(*steps)


@factory
def _dense_spec(name, norm):
    def init(example, checkpoints):
        direction = norm.direction(example.key, example.image.shape)
        direction = direction / norm.size(direction)
        point = example.project(norm, example.image + example.epsilon * direction)
        infinite = jnp.float32(jnp.inf)  # so that the first query is no rise
        return State(
            point,
            previous=point,
            value=infinite,
            best=no_best(point),
            step_size=2 * example.epsilon,
            taken=jnp.int32(-1),
            rises=jnp.int32(0),
            interval=jnp.int32(checkpoints.first),
            halved=jnp.bool_(True),
            best_value_then=infinite,
        )

    def update(example, checkpoints, state, view):
        best = state.best.or_better(state.point, view.gradient, view.value)
        taken = state.taken + 1
        rises = state.rises + (view.value > state.value)
        check = taken == state.interval
        no_gain = ~state.halved & (best.value <= state.best_value_then)
        halve = check & ((rises <= RISES * taken) | no_gain)

        origin = jnp.where(halve, best.point, state.point)
        gradient = jnp.where(halve, best.gradient, view.gradient)
        step_size = jnp.where(halve, state.step_size / 2, state.step_size)
        straight = example.project(norm, origin + step_size * norm.steepest(gradient))
        new = jnp.where(view.step > 0, MOMENTUM, 1.0)
        point = example.project(norm, origin + new * (straight - origin) + (1 - new) * (origin - state.previous))
        interval = jnp.maximum(state.interval - checkpoints.decrease, checkpoints.minimum)
        return State(
            point,
            previous=origin,
            value=view.value,
            best=best,
            step_size=step_size,
            taken=jnp.where(check, 0, taken),
            rises=jnp.where(check, 0, rises),
            interval=jnp.where(check, interval, state.interval),
            halved=jnp.where(check, halve, state.halved),
            best_value_then=jnp.where(check, best.value, state.best_value_then),
        )

    return AttackSpec(name, init, update, query_gradient, norm=norm)


# ---------------------------------------------------------------- L1: sparse steps in balls that shrink


class Phases(NamedTuple):
    """For each phase of the search in L1: the step at which it ends, and steps between its checkpoints."""

    ends: tuple[int, ...]
    intervals: tuple[int, ...]

    def index(self, step):
        """Find the phase of a step."""
        return jnp.sum(step >= jnp.asarray(self.ends[:-1]), dtype=jnp.int32)


class L1State(NamedTuple):
    """A search in L1."""

    point: jax.Array
    radius: jax.Array  # of the ball it lies in, in epsilons
    best: Best  # of this ball
    step_size: jax.Array
    taken: jax.Array  # int32, steps since the last checkpoint
    changed: jax.Array  # elements that the best perturbation changed at the last checkpoint
    density: jax.Array  # the fraction of the elements that a step changes


def l1_ascent(name: str, norm: Norm, max_steps: int) -> tuple[AttackSpec, Phases]:
    """Make the attack in L1, and its hyperparameters."""
    ends = [int(fraction * max_steps) for _, fraction in PHASES]
    lengths = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    return _l1_spec(name, norm), Phases(tuple(ends), tuple(max(int(0.04 * length), 1) for length in lengths))


@factory
def _l1_spec(name, norm):
    radii = [float(radius) for radius, _ in PHASES]

    def begin_phase(example, point, radius):
        """Begin in a ball of so many epsilons."""
        wide = example._replace(epsilon=radius * example.epsilon)
        point = wide.project(norm, point)
        changed = l0.size(point - example.image)
        density = changed / point.size / DENSER
        return L1State(point, radius, no_best(point), wide.epsilon, jnp.int32(-1), changed, density)

    def init(example, phases):
        start = example.image + norm.direction(example.key, example.image.shape)
        return begin_phase(example, start, jnp.array(radii, jnp.float32)[phases.index(0)])

    def update(example, phases, state, view):
        best = state.best.or_better(state.point, view.gradient, view.extras)
        interval = jnp.asarray(phases.intervals)[phases.index(view.step)]
        check = state.taken + 1 == interval
        changed = l0.size(best.point - example.image)
        sparser = check & (changed < 0.95 * state.changed)
        widest = state.radius * example.epsilon
        step_size = jnp.where(check, jnp.maximum(state.step_size / SLOWER, widest / SLOWEST), state.step_size)
        step_size = jnp.where(sparser, widest, step_size)
        density = jnp.where(check, changed / best.point.size / DENSER, state.density)

        origin = jnp.where(sparser, best.point, state.point)
        gradient = jnp.where(sparser, best.gradient, view.gradient)
        moved = origin + step_size * sparse_direction(gradient, density)
        same_phase = L1State(
            example._replace(epsilon=widest).project(norm, moved),
            state.radius,
            best,
            step_size,
            taken=jnp.where(check, 0, state.taken + 1),
            changed=jnp.where(check, changed, state.changed),
            density=density,
        )
        next_radius = jnp.array(radii, jnp.float32)[phases.index(view.step + 1)]
        next_phase = begin_phase(example, best.point, next_radius)
        return tree_where(next_radius < state.radius, next_phase, same_phase)

    return AttackSpec(name, init, update, _query_within_budget, norm=norm)


def _query_within_budget(oracle, loss, states, examples, hyperparameters, keys):
    """Query points of wider balls too: they are no candidates, and their values are in `extras`."""
    view = query_gradient(oracle, loss, states, examples, hyperparameters, keys)
    inside = states.radius <= 1
    value = jnp.where(inside, view.value, -jnp.inf)
    return view._replace(value=value, is_adversarial=view.is_adversarial & inside, extras=view.value)


def sparse_direction(gradient: jax.Array, density: Any) -> jax.Array:
    """Make equal steps on the largest elements of the gradient, a fraction of all and at least one, of length 1."""
    rest = jnp.clip(jnp.floor((1 - density) * gradient.size), 0, gradient.size - 1)
    signs = jnp.sign(gradient) * largest(jnp.abs(gradient), gradient.size - rest)
    return signs / jnp.maximum(jnp.sum(jnp.abs(signs)), 1)
