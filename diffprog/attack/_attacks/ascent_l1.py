"""Auto-PGD in L1: sparse steps, whose number of elements follows that of the best perturbation so far."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog.attack._attacks.ascent import Best, nothing_yet
from diffprog.attack._attacks.fast_gradient import project
from diffprog.attack._engine.method import Method
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._norms import l0
from diffprog.attack._norms.sparse import largest

PHASES = ((3, 0.3), (2, 0.6), (1, 1.0))  # budgets, in epsilons, and after which part of the steps they end
DENSER = 1.5  # the next steps change a part 1 / 1.5 of the elements that the best perturbation changes
SLOWER = 1.5  # by which steps shrink while that number stays as it is,
SLOWEST = 10.0  # down to this part of the budget


def sparse_ascent(name, norm, loss, steps):
    """APGD in L1 (Croce & Hein 2021, algorithm 1): a Method and what it is given."""
    ends = [int(part * steps) for _, part in PHASES]
    lengths = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    return _sparse(name, norm, loss), (tuple(ends), tuple(max(int(0.04 * length), 1) for length in lengths))


class Sparse(NamedTuple):
    point: jax.Array
    radius: jax.Array  # of the ball it lies in, in epsilons
    best: Best  # of this ball
    step: jax.Array
    taken: jax.Array  # int32, steps since the last checkpoint
    changed: jax.Array  # elements that the best perturbation changed at the last checkpoint
    count: jax.Array  # elements that a step changes, as a part of all


@lru_cache
def _sparse(name, norm, loss):
    def phase(example, point, radius):
        """Begin in a ball of so many epsilons."""
        wide = example._replace(epsilon=radius * example.epsilon)
        point = project(norm, point, wide)
        changed = l0.size(point - example.image)
        return Sparse(
            point, radius, nothing_yet(point), wide.epsilon, jnp.int32(-1), changed, changed / point.size / DENSER
        )

    def start(example, given):
        drawn = jax.random.normal(example.key, example.image.shape)
        return phase(example, example.image + drawn, _radius(given[0], 0))

    def learn(example, given, state, view):
        ends, intervals = given
        best = state.best.with_look(state.point, view.gradient, view.extra)
        interval = _of_phase(ends, view.number, intervals)
        check = state.taken + 1 == interval
        changed = l0.size(best.point - example.image)
        sparser = check & (changed < 0.95 * state.changed)
        widest = state.radius * example.epsilon
        step = jnp.where(check, jnp.maximum(state.step / SLOWER, widest / SLOWEST), state.step)
        step = jnp.where(sparser, widest, step)
        count = jnp.where(check, changed / best.point.size / DENSER, state.count)

        origin = jnp.where(sparser, best.point, state.point)
        gradient = jnp.where(sparser, best.gradient, view.gradient)
        moved = origin + step * _direction(gradient, count)
        moved = project(norm, moved, example._replace(epsilon=widest))
        going_on = Sparse(
            moved,
            state.radius,
            best,
            step,
            jnp.where(check, 0, state.taken + 1),
            jnp.where(check, changed, state.changed),
            count,
        )
        following = _radius(ends, view.number + 1)
        turned = phase(example, best.point, following)
        return jax.tree.map(lambda new, old: jnp.where(following < state.radius, new, old), turned, going_on)

    return Method(name, start, learn, _within_budget, loss, norm)


def _within_budget(oracle, loss, states, examples, given, keys):
    """A look at points of wider balls too: those are no candidates, and `extra` has their values."""
    view = by_gradient(oracle, loss, states, examples, given, keys)
    inside = states.radius <= 1
    return view._replace(value=jnp.where(inside, view.value, -jnp.inf), hit=view.hit & inside, extra=view.value)


def _radius(ends, number):
    return _of_phase(ends, number, jnp.array([float(budget) for budget, _ in PHASES]))


def _of_phase(ends, number, values):
    """What holds at step `number`."""
    return jnp.asarray(values)[jnp.sum(number >= jnp.asarray(ends[:-1]))]


def _direction(gradient, part):
    """Equal steps on the largest elements of the gradient, so large a part of all, at least one: of length 1."""
    left = jnp.clip(jnp.floor((1 - part) * gradient.size), 0, gradient.size - 1)
    signs = jnp.sign(gradient) * largest(jnp.abs(gradient), gradient.size - left)
    return signs / jnp.maximum(jnp.sum(jnp.abs(signs)), 1)
