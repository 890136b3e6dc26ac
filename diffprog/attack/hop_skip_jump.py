"""HopSkipJump: the smallest perturbation for whom the model says no more than whether the attack has what it wants."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, log2
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from diffprog.attack import border
from diffprog.attack.looks import by_logits
from diffprog.attack.method import Method, smaller
from diffprog.attack.norms import Norm, l2, linf
from diffprog.attack.probes import summed, together
from diffprog.attack.result import AttackResult
from diffprog.attack.search import Options, search

FINEST = 24  # halvings of a line: float32 knows no more
HALVINGS = 30  # of a jump, before it is given up


def hop_skip_jump(model: Callable, images, labels, *, key: jax.Array, norm: Norm = l2, steps: int = 64, starts=None,
                  evaluations: int = 100, most: int = 10000, trials: int = 100,
                  **options: Unpack[Options]) -> AttackResult:  # fmt: skip
    """HopSkipJump (Chen, Jordan & Wainwright 2020, algorithm 2): the smallest perturbation from decisions alone.

    From an adversarial point, each image goes back to the boundary on the line to the image (algorithm 1; with `linf`,
    by shrinking the cube around the image), estimates there which way leads deeper from the decisions at random points
    nearby (eq. 9 and 16), jumps that way by the longest of distance / sqrt(step), half of it, ... that is adversarial,
    and goes back to the boundary. The smallest adversarial point is returned, at any time; an image for which no start
    is found comes back as it was, as a failure. Every decision counts as one of `queries`, those of the start too.

    norm:         of the perturbation to be made small, `l2` or `linf`.
    starts:       [n, ...], adversarial points to begin with: for `targeted`, images of the target class. Without them,
                  the first adversarial of `trials` images of uniform noise.
    evaluations:  decisions of the first estimate; that of step t takes sqrt(t) times as many, at most `most`.

    The lengths are the paper's: lines are halved until d^-1.5 (L-infinity: d^-2) of them is left, for images of d
    elements, but no further than float32 goes; estimates reach distance / d, the first one a tenth of the bounds. With
    `criterion`, the decision is the criterion's.
    """
    border.checked_norm(norm, (l2, linf))
    border.checked_counts(evaluations=evaluations, most=most, trials=trials, steps=steps)
    images = border.checked_images(images, options.get("bounds", (0.0, 1.0)))
    if starts is None and options.get("targeted"):
        raise ValueError("starts must be given with targeted=True: noise hardly ever meets one class; "
                         "give one image per row that the model takes for the target")  # fmt: skip
    if starts is not None:
        starts = border.checked_images(starts, options.get("bounds", (0.0, 1.0)))
        if starts.shape != images.shape:
            raise ValueError(f"starts must have the shape of the images, {images.shape}; found {starts.shape}: "
                             "give one start per image")  # fmt: skip
    method = _method(norm, starts is None, evaluations, most, trials)
    return search(model, images, labels, method, steps=steps + 1, key=key, extra=starts, **options)


class State(NamedTuple):
    """Where an image's search is: adversarial, on the boundary, once `step` is positive."""

    point: jax.Array
    step: jax.Array  # int32
    done: jax.Array  # bool, there is nothing to start from


@lru_cache
def _method(norm, seeks, evaluations, most, trials):
    def start(example, given):
        point = example.image if seeks else jnp.clip(example.extra, example.lower, example.upper)
        return State(point, jnp.int32(0), jnp.array(False))

    def learn(example, given, state, view):
        point, found = view.extra
        return State(jnp.where(found, point, state.point), state.step + 1, ~found)

    def look(oracle, loss, states, examples, given, keys):
        view = by_logits(oracle, loss, states, examples, given, keys)
        first = states.step == 0
        asker = _Asker(oracle, loss, examples)
        seek_keys, jump_keys, line_keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys).T
        point, found, spent = states.point, jnp.where(first, view.hit, True), jnp.zeros(len(keys), jnp.int32)
        going = first & ~states.done
        if seeks:
            point, found, spent = _if_any(going, lambda: _noise(asker, point, going, trials, seek_keys),
                                          (point, found, spent))  # fmt: skip
        going = ~first & ~states.done
        further, more = _if_any(going, lambda: _jump(asker, norm, states, going, evaluations, most, jump_keys),
                                (point, spent))  # fmt: skip
        point, spent = _rows(going, further, point), spent + jnp.where(going, more, 0)
        point, lines = _boundary(asker, norm, point, line_keys)
        return view._replace(extra=(point, found), queries=1 + spent + jnp.where(found, lines, 0))

    return Method("hop_skip_jump", start, learn, look, norm=norm, better=smaller)


class _Asker(NamedTuple):
    """The model, as far as this attack may know it."""

    oracle: object
    loss: Callable
    examples: object

    def decide(self, points, keys):
        """Whether each of the batch's points [n, ...] is adversarial."""
        return self.oracle.hit(self.oracle.ask(points, self.examples, keys, self.loss)[1], self.examples)

    def boxed(self, points):
        return jnp.clip(points, self.examples.lower, self.examples.upper)


def _noise(asker, points, going, trials, keys):
    """The first adversarial one of `trials` images of noise; whether there was one; how many were asked about."""
    box = asker.examples

    def turn(carry):
        number, points, found, spent = carry
        draw_keys, ask_keys = _split(keys, number)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, points.shape[1:]))(draw_keys)
        drawn = asker.boxed(box.lower + uniform * (box.upper - box.lower))
        hit = asker.decide(drawn, ask_keys)
        return number + 1, _rows(hit & ~found, drawn, points), found | hit, spent + (going & ~found)

    unfinished = lambda carry: (carry[0] < trials) & jnp.any(~carry[2])
    return jax.lax.while_loop(unfinished, turn, (0, points, ~going, jnp.zeros(len(keys), jnp.int32)))[1:]


def _jump(asker, norm, states, going, evaluations, most, keys):
    """The next adversarial points, off the boundary, and the decisions spent."""
    points, size = states.point, states.point[0].size
    along = lambda numbers: numbers.reshape(-1, *[1] * (points.ndim - 1))
    distance = jax.vmap(norm.size)(points - asker.examples.image)
    span = (asker.examples.upper - asker.examples.lower).reshape(len(points), -1).max(axis=1)
    reach = along(jnp.maximum(jnp.where(states.step == 1, 0.1 * span, distance / size), jnp.finfo(jnp.float32).tiny))
    step = jnp.maximum(states.step, 1).astype(jnp.float32)
    counts = jnp.where(going, jnp.minimum(evaluations * jnp.sqrt(step), most).astype(jnp.int32), 0)
    estimate_keys, try_keys = jax.vmap(jax.random.split)(keys).T

    def probe(number):
        draw_keys, ask_keys = _split(estimate_keys, number)
        shifts = reach * jax.vmap(lambda key: _direction(norm, key, points.shape[1:]))(draw_keys)
        probes = asker.boxed(points + shifts)
        used = number < counts
        sign = jnp.where(asker.decide(probes, ask_keys), 1.0, -1.0) * used
        shift = (probes - points) / reach
        return along(sign) * shift, along(used) * shift, sign

    signed, plain, signs = summed(probe, jnp.max(counts), together(len(points), evaluations))
    mean = signs / jnp.maximum(counts, 1)
    direction = jax.vmap(norm.steepest)(signed - along(jnp.where(jnp.abs(mean) < 1, mean, 0)) * plain)

    def turn(carry):
        number, length, landed, found, spent = carry
        tried = asker.boxed(points + along(length) * direction)
        hit = asker.decide(tried, _split(try_keys, number)[1])
        landed = _rows(hit & ~found, tried, landed)
        return number + 1, length / 2, landed, found | hit, spent + ~found

    unfinished = lambda carry: (carry[0] < HALVINGS) & jnp.any(~carry[3])
    begin = (0, distance / jnp.sqrt(step), points, ~going, counts)
    _, _, landed, _, spent = jax.lax.while_loop(unfinished, turn, begin)
    return landed, spent


def _boundary(asker, norm, points, keys):
    """Back towards the images, as far as the points stay adversarial; and the decisions that this takes."""
    image, size = asker.examples.image, points[0].size
    halvings = min(ceil((1.5 if norm is l2 else 2) * log2(size)), FINEST) if size > 1 else FINEST
    away = points - image
    farthest = jnp.abs(away).reshape(len(points), -1).max(axis=1)

    def between(part):
        part = part.reshape(-1, *[1] * (points.ndim - 1))
        limit = part * farthest.reshape(part.shape)
        shorter = part * away if norm is l2 else jnp.clip(away, -limit, limit)
        return jnp.where(part == 1, points, asker.boxed(image + shorter))

    def halve(number, bracket):
        low, high = bracket
        middle = (low + high) / 2
        hit = asker.decide(between(middle), _split(keys, number)[1])
        return jnp.where(hit, low, middle), jnp.where(hit, middle, high)

    _, high = jax.lax.fori_loop(0, halvings, halve, (jnp.zeros(len(points)), jnp.ones(len(points))))
    return between(high), halvings


def _direction(norm, key, shape):
    drawn = jax.random.normal(key, shape) if norm is l2 else jax.random.uniform(key, shape, minval=-1.0)
    return l2.steepest(drawn)


def _split(keys, number):
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, number)))(keys).T


def _rows(where, yes, no):
    return jnp.where(where.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _if_any(going, do, otherwise):
    return jax.lax.cond(jnp.any(going), do, lambda: otherwise)
