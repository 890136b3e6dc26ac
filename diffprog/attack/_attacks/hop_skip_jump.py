"""HopSkipJump: the smallest perturbation for whom the model says no more than whether the attack has what it wants."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from diffprog.attack._attacks.decisions import Asker, boundary, choose, jump, noise
from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import Norm, l2, linf


def hop_skip_jump(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = l2,
    max_steps: int = 64,
    starting_points=None,
    initial_num_evals: int = 100,
    max_num_evals: int = 10000,
    init_trials: int = 100,
    **options: Unpack[Options],
) -> AttackResult:
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
    `criterion`, the decision is the criterion's. What tells only the class may return 2 * one-hot as logits.
    """
    border.checked_norm(norm, (l2, linf))
    border.checked_counts(
        initial_num_evals=initial_num_evals, max_num_evals=max_num_evals, init_trials=init_trials, max_steps=max_steps
    )
    images = border.checked_images(images, options.get("bounds", (0.0, 1.0)))
    if starting_points is None and options.get("targeted"):
        raise ValueError(
            "starting_points must be given with targeted=True: noise hardly ever meets one class; "
            "give one image per row that the model takes for the target"
        )
    if starting_points is not None:
        starting_points = border.checked_images(starting_points, options.get("bounds", (0.0, 1.0)))
        if starting_points.shape != images.shape:
            raise ValueError(
                f"starting_points must have the shape of the images, {images.shape}; found {starting_points.shape}: "
                "give one per image"
            )
    method = _method(norm, starting_points is None, initial_num_evals, max_num_evals, init_trials)
    return search(model, images, labels, method, max_steps=max_steps + 1, key=key, extra=starting_points, **options)


class State(NamedTuple):
    """Where an image's search is: adversarial, on the boundary, once `step` is positive."""

    point: jax.Array
    step: jax.Array  # int32
    done: jax.Array  # bool, there is nothing to start from


@lru_cache
def _method(norm, seeks, initial_num_evals, max_num_evals, init_trials):
    def start(example, given):
        point = example.image if seeks else jnp.clip(example.extra, example.lower, example.upper)
        return State(point, jnp.int32(0), jnp.array(False))

    def learn(example, given, state, view):
        point, found = view.extra
        return State(jnp.where(found, point, state.point), state.step + 1, ~found)

    def look(oracle, loss, states, examples, given, keys):
        view = by_logits(oracle, loss, states, examples, given, keys)
        first = states.step == 0
        asker = Asker(oracle, loss, examples)
        seek_keys, jump_keys, line_keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys).T
        point, found, spent = states.point, jnp.where(first, view.hit, True), jnp.zeros(len(keys), jnp.int32)
        going = first & ~states.done
        if seeks:
            point, found, spent = _if_any(
                going, lambda: noise(asker, point, going, init_trials, seek_keys), (point, found, spent)
            )
        going = ~first & ~states.done
        further, more = _if_any(
            going, lambda: jump(asker, norm, states, going, initial_num_evals, max_num_evals, jump_keys), (point, spent)
        )
        point, spent = choose(going, further, point), spent + jnp.where(going, more, 0)
        point, lines = boundary(asker, norm, point, line_keys)
        return view._replace(extra=(point, found), queries=1 + spent + jnp.where(found, lines, 0))

    return Method("hop_skip_jump", start, learn, look, norm=norm, better=smaller)


def _if_any(going, do, otherwise):
    return jax.lax.cond(jnp.any(going), do, lambda: otherwise)
