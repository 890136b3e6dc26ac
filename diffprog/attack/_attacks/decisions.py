"""What HopSkipJump does with decisions: it finds a start, a line's end, and a way to jump, for a batch of images."""

from collections.abc import Callable
from math import ceil, log2
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._attacks.probes import summed, together
from diffprog.attack._engine.method import Example, Oracle
from diffprog.attack._norms import l2

FINEST = 24  # halvings of a line: float32 knows no more
HALVINGS = 30  # of a jump, before it is given up


class Asker(NamedTuple):
    """The model, as far as this attack may know it."""

    oracle: Oracle
    loss: Callable
    examples: Example

    def decide(self, points, keys):
        """Whether each of the batch's points [n, ...] is adversarial."""
        return self.oracle.hit(self.oracle.ask(points, self.examples, keys, self.loss)[1], self.examples)

    def boxed(self, points):
        return jnp.clip(points, self.examples.lower, self.examples.upper)


def noise(asker, points, going, init_trials, keys):
    """The first adversarial one of `trials` images of noise; whether there was one; how many were asked about."""
    box = asker.examples

    def turn(carry):
        number, points, found, spent = carry
        draw_keys, ask_keys = _split(keys, number)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, points.shape[1:]))(draw_keys)
        drawn = asker.boxed(box.lower + uniform * (box.upper - box.lower))
        hit = asker.decide(drawn, ask_keys)
        return number + 1, choose(hit & ~found, drawn, points), found | hit, spent + (going & ~found)

    unfinished = lambda carry: (carry[0] < init_trials) & jnp.any(~carry[2])
    return jax.lax.while_loop(unfinished, turn, (0, points, ~going, jnp.zeros(len(keys), jnp.int32)))[1:]


def jump(asker, norm, states, going, initial_num_evals, max_num_evals, keys):
    """The next adversarial points, off the boundary, and the decisions spent."""
    points, size = states.point, states.point[0].size
    along = lambda numbers: numbers.reshape(-1, *[1] * (points.ndim - 1))
    distance = jax.vmap(norm.size)(points - asker.examples.image)
    span = (asker.examples.upper - asker.examples.lower).reshape(len(points), -1).max(axis=1)
    reach = along(jnp.maximum(jnp.where(states.step == 1, 0.1 * span, distance / size), jnp.finfo(jnp.float32).tiny))
    step = jnp.maximum(states.step, 1).astype(jnp.float32)
    counts = jnp.where(going, jnp.minimum(initial_num_evals * jnp.sqrt(step), max_num_evals).astype(jnp.int32), 0)
    estimate_keys, try_keys = jax.vmap(jax.random.split)(keys).T

    def probe(number):
        draw_keys, ask_keys = _split(estimate_keys, number)
        shifts = reach * jax.vmap(lambda key: _direction(norm, key, points.shape[1:]))(draw_keys)
        probes = asker.boxed(points + shifts)
        used = number < counts
        sign = jnp.where(asker.decide(probes, ask_keys), 1.0, -1.0) * used
        shift = (probes - points) / reach
        return along(sign) * shift, along(used) * shift, sign

    signed, plain, signs = summed(probe, jnp.max(counts), together(len(points), initial_num_evals))
    mean = signs / jnp.maximum(counts, 1)
    direction = jax.vmap(norm.steepest)(signed - along(jnp.where(jnp.abs(mean) < 1, mean, 0)) * plain)

    def turn(carry):
        number, length, landed, found, spent = carry
        tried = asker.boxed(points + along(length) * direction)
        hit = asker.decide(tried, _split(try_keys, number)[1])
        landed = choose(hit & ~found, tried, landed)
        return number + 1, length / 2, landed, found | hit, spent + ~found

    unfinished = lambda carry: (carry[0] < HALVINGS) & jnp.any(~carry[3])
    begin = (0, distance / jnp.sqrt(step), points, ~going, counts)
    _, _, landed, _, spent = jax.lax.while_loop(unfinished, turn, begin)
    return landed, spent


def boundary(asker, norm, points, keys):
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


def choose(where, yes, no):
    return jnp.where(where.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
