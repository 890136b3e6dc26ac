"""HopSkipJump: a minimum-norm attack that needs only decisions, whether a point is adversarial."""

from collections.abc import Callable
from math import ceil, log2
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog._util.trees import tree_where
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, Example, smaller_norm
from diffprog.attack._engine.options import QueryOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, Oracle, group_size, query_logits, sum_in_groups
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._norms import Norm, l2, linf

MAX_HALVINGS = 24  # of a line: float32 tells no more
MAX_TRIES = 30  # halvings of a jump, before it is given up
NO_LIMIT = np.int32(2**30)  # of queries


@documents_options
def hop_skip_jump(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = l2,
    max_steps: int = 64,
    starting_points: ArrayLike | None = None,
    initial_num_evals: int = 100,
    max_num_evals: int = 10000,
    init_trials: int = 100,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Find the minimum perturbation from decisions alone, by HopSkipJump.

    From an adversarial point, each image goes back to the boundary on the line to the image (algorithm 1; with `linf`,
    by shrinking the cube around the image). There it estimates which way leads deeper, from the decisions at random
    points nearby (eq. 9 and 16). It jumps that way by the longest of distance / sqrt(step), half of it, ... that is
    adversarial, and goes back to the boundary. Every decision counts as one of `queries`, also those of the start. Near
    the end of `max_queries` an estimate takes what is left beside a jump and a line.

    Lengths are the paper's: lines are halved until d^-1.5 (L-infinity: d^-2) of them is left, for images of d
    elements, but no further than float32 goes; estimates reach distance / d, the first one a tenth of the bounds. With
    `criterion`, the decision is the criterion's. A model that tells only the class may return 2 * one-hot as logits.

    Args:
      model: (images (n, ...)) -> logits (n, classes), of which only the decision is used.
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key.
      norm: to be made small, `l2` or `linf`.
      max_steps: jumps.
      starting_points: (n, ...), adversarial points to begin with, or one point or number for all images; for
        `targeted`, images of the target class. Without them, the first adversarial of `init_trials` images of uniform
        noise.
      initial_num_evals: decisions of the first estimate; step t takes sqrt(t) times as many.
      max_num_evals: decisions of an estimate at most.
      init_trials: images of noise that are tried.
      **options: shared options.

    Returns:
      The smallest adversarial point of each image. Where no start is found, the image itself, as a failure.

    References:
      Chen, Jordan & Wainwright 2020, algorithm 2.
    """
    validation.check_norm(norm, (l2, linf))
    validation.check_counts(
        initial_num_evals=initial_num_evals,
        max_num_evals=max_num_evals,
        init_trials=init_trials,
        max_steps=max_steps,
    )
    settings = parse_options(options)
    images = validation.check_images(images, settings.bounds)
    if starting_points is None:
        validation.check_finite_bounds("hop_skip_jump, unless it has starting_points,", settings.bounds)
    if starting_points is None and settings.targeted:
        raise ValueError(
            "starting_points must be given with targeted=True: noise hardly ever meets one class; "
            "give one image per row that the model takes for the target"
        )
    if starting_points is not None:
        starting_points = _check_starting_points(starting_points, images, settings.bounds)
    spec = _spec(norm, starting_points is None, Decisions(initial_num_evals, max_num_evals, init_trials))
    return run_attack(model, images, labels, spec, settings, max_steps + 1, key=key, extras=starting_points)


def _check_starting_points(points, images, bounds):
    """Return one starting point per image: images, or one image or number for all."""
    points = np.float32(points) if np.ndim(points) == 0 else np.asarray(points)
    try:
        points = np.broadcast_to(points, images.shape)
    except ValueError:
        raise ValueError(
            f"starting_points must have the shape of the images, {images.shape}, or of one; found {np.shape(points)}: "
            "give one per image"
        ) from None
    try:
        return validation.check_images(points, bounds)
    except ValueError as error:
        raise ValueError(str(error).replace("images", "starting_points", 1)) from None


class Decisions(NamedTuple):
    """How many decisions may be spent on what."""

    initial: int
    max_num: int
    init_trials: int


class State(NamedTuple):
    """Where an image's search is: adversarial, on the boundary, once `step` is positive."""

    point: jax.Array
    step: jax.Array  # int32
    done: jax.Array  # bool, there is nothing to start from, or too few queries are left to go on


@factory
def _spec(norm, starts_from_noise, budget):
    def init(example, hyperparameters):
        point = example.image if starts_from_noise else example.clip(example.extras)
        return State(point, jnp.int32(0), jnp.array(False))

    def update(example, hyperparameters, state, view):
        point, goes_on = view.extras
        return State(jnp.where(goes_on, point, state.point), state.step + 1, ~goes_on)

    def query(oracle, loss, states, examples, hyperparameters, keys):
        view = query_logits(oracle, loss, states, examples, hyperparameters, keys)
        is_first = states.step == 0
        decider = Decider(oracle, loss, examples)
        noise_keys, jump_keys, line_keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys).T
        point, spent = states.point, jnp.zeros(len(keys), jnp.int32)
        halvings = halvings_of_a_line(norm, point[0].size)
        left = NO_LIMIT + spent if examples.queries_left is None else examples.queries_left
        left = left - 2  # this look, and the next one at where this step leads
        has_start = jnp.where(is_first, view.is_adversarial, True)
        active = is_first & ~states.done
        if starts_from_noise:
            num_trials = jnp.minimum(budget.init_trials, left)
            find = lambda: first_adversarial_noise(decider, point, active, num_trials, noise_keys)
            point, has_start, spent = _if_any(active, find, (point, has_start, spent))
        goes_on = has_start & (is_first | (left >= 2 + halvings))  # a decision to estimate from, a try, and the line
        active = goes_on & ~is_first & ~states.done
        leap = lambda: jump(decider, norm, states, active, budget, left - halvings, jump_keys)
        farther, jump_spent = _if_any(active, leap, (point, spent))
        point, spent = tree_where(active, farther, point), spent + jnp.where(active, jump_spent, 0)
        line = jnp.where(goes_on & ~states.done, jnp.clip(left - spent, 0, halvings), 0)
        point = to_boundary(decider, norm, point, line, line_keys)
        view = view._replace(extras=(point, goes_on), has_gradient=has_start)  # without a start, nothing is searched
        return view._replace(queries=1 + spent + line)

    return AttackSpec("hop_skip_jump", init, update, query, norm=norm, better=smaller_norm)


def _if_any(active, do, otherwise):
    return jax.lax.cond(jnp.any(active), do, lambda: otherwise)


class Decider(NamedTuple):
    """The model, as far as this attack may know it."""

    oracle: Oracle
    loss: Callable[..., jax.Array]
    examples: Example

    def __call__(self, points: jax.Array, keys: jax.Array) -> jax.Array:
        """Decide which points [n, ...] of the batch are adversarial."""
        logits = self.oracle.evaluate(points, self.examples, keys, self.loss)[1]
        return self.oracle.is_adversarial(logits, self.examples.label)


def first_adversarial_noise(is_adversarial: Decider, points, active, num_trials, keys):
    """Find the first adversarial image of noise for every active image, in so many trials [n] at most.

    Returns:
      The points [n, ...], whether there was one, and the decisions spent.
    """
    examples = is_adversarial.examples

    def trial(carry):
        index, points, succeeded, spent = carry
        noise_keys, query_keys = _split(keys, index)
        uniform = jax.vmap(lambda key: draws.uniform(key, points.shape[1:]))(noise_keys)
        noise = examples.clip(examples.lower + uniform * (examples.upper - examples.lower))
        is_open = ~succeeded & (index < num_trials)
        hit = is_open & is_adversarial(noise, query_keys)
        return index + 1, tree_where(hit, noise, points), succeeded | hit, spent + is_open

    unfinished = lambda carry: jnp.any(~carry[2] & (carry[0] < num_trials))
    return jax.lax.while_loop(unfinished, trial, (0, points, ~active, jnp.zeros(len(keys), jnp.int32)))[1:]


def jump(is_adversarial: Decider, norm: Norm, states: State, active, budget: Decisions, max_queries, keys):
    """Jump off the boundary to the next adversarial points, for `max_queries` [n] at most, which are two or more.

    Returns:
      The points [n, ...], and the decisions spent.
    """
    points, size, examples = states.point, states.point[0].size, is_adversarial.examples
    per_image = lambda numbers: numbers.reshape(-1, *[1] * (points.ndim - 1))
    distance = jax.vmap(norm.size)(points - examples.image)
    pixel_range = jax.vmap(lambda example: example.pixel_range)(examples._replace(extras=None))
    tiny = jnp.finfo(jnp.float32).tiny
    delta = per_image(jnp.maximum(jnp.where(states.step == 1, 0.1 * pixel_range, distance / size), tiny))
    step = jnp.maximum(states.step, 1).astype(jnp.float32)
    num_evals = jnp.minimum(budget.initial * jnp.sqrt(step), budget.max_num).astype(jnp.int32)
    num_evals = jnp.where(active, jnp.minimum(num_evals, max_queries - 1), 0)
    num_tries = jnp.minimum(MAX_TRIES, max_queries - num_evals)
    estimate_keys, try_keys = jax.vmap(jax.random.split)(keys).T

    def decision(index):
        direction_keys, query_keys = _split(estimate_keys, index)
        shifts = delta * jax.vmap(lambda key: l2.steepest(norm.direction(key, points.shape[1:])))(direction_keys)
        near = examples.clip(points + shifts)
        used = index < num_evals
        sign = jnp.where(is_adversarial(near, query_keys), jnp.float32(1), jnp.float32(-1)) * used
        shift = (near - points) / delta
        return per_image(sign) * shift, per_image(used) * shift, sign

    groups = group_size(len(points), budget.initial)
    signed, plain, signs = sum_in_groups(decision, jnp.max(num_evals), groups)
    mean = signs / jnp.maximum(num_evals, 1).astype(jnp.float32)
    direction = jax.vmap(norm.steepest)(signed - per_image(jnp.where(jnp.abs(mean) < 1, mean, 0)) * plain)

    def try_length(carry):
        index, length, landed, succeeded, spent = carry
        tried = examples.clip(points + per_image(length) * direction)
        is_open = ~succeeded & (index < num_tries)
        hit = is_open & is_adversarial(tried, _split(try_keys, index)[1])
        return index + 1, length / 2, tree_where(hit, tried, landed), succeeded | hit, spent + is_open

    unfinished = lambda carry: jnp.any(~carry[3] & (carry[0] < num_tries))
    begin = (0, distance / jnp.sqrt(step.astype(jnp.float32)), points, ~active, num_evals)
    _, _, landed, _, spent = jax.lax.while_loop(unfinished, try_length, begin)
    return landed, spent


def halvings_of_a_line(norm: Norm, size: int) -> int:
    """Count how often a line is halved, for images of so many elements."""
    return min(ceil((1.5 if norm is l2 else 2) * log2(size)), MAX_HALVINGS) if size > 1 else MAX_HALVINGS


def to_boundary(is_adversarial: Decider, norm: Norm, points, halvings, keys) -> jax.Array:
    """Bring the points back towards the images, as far as they stay adversarial, by so many halvings [n]."""
    examples = is_adversarial.examples
    way = points - examples.image
    farthest = jnp.abs(way).reshape(len(points), -1).max(axis=1)

    def between(fraction):
        fraction = fraction.reshape(-1, *[1] * (points.ndim - 1))
        limit = fraction * farthest.reshape(fraction.shape)
        shorter = fraction * way if norm is l2 else jnp.clip(way, -limit, limit)
        return jnp.where(fraction == 1, points, examples.clip(examples.image + shorter))

    def halve(index, bracket):
        low, high = bracket
        middle, is_open = (low + high) / 2, index < halvings
        hit = is_adversarial(between(middle), _split(keys, index)[1])
        return jnp.where(is_open & ~hit, middle, low), jnp.where(is_open & hit, middle, high)

    nowhere, whole_way = jnp.zeros(len(points), jnp.float32), jnp.ones(len(points), jnp.float32)
    _, high = jax.lax.fori_loop(0, jnp.max(halvings), halve, (nowhere, whole_way))
    return between(high)


def _split(keys, index):
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(keys).T
