"""Attacks that follow the gradient inside a ball: FGSM and FGM, BIM, PGD."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, latest
from diffprog.attack._engine.queries import by_gradient
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._losses import cross_entropy, of_label
from diffprog.attack._norms import Norm, l1, l2, linf


def fgsm(
    model: Callable,
    images,
    labels,
    *,
    key=None,
    norm: Norm = linf,
    epsilon=8 / 255,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """The fast gradient sign method (Goodfellow et al. 2015, section 4): one step of length epsilon from the image.

    With `norm=l2` or `l1` it is the fast gradient method: the step goes along the gradient itself, or changes the
    hundredth of the elements where it is largest. The step's end is returned, better or worse. Arguments are those of
    `pgd`; nothing is drawn, so `key` is not needed.
    """
    method = descent("fgsm", border.checked_norm(norm, (linf, l2, l1)), of_label(loss), False)._replace(better=latest)
    return search(
        model, images, labels, method, max_steps=1, key=key, epsilon=epsilon, given=step_lengths(None, 1.0), **options
    )


def bim(
    model: Callable,
    images,
    labels,
    *,
    key=None,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 10,
    step_size=None,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """The basic iterative method (Kurakin et al. 2017, section 2.2): `pgd` that starts from the image itself."""
    method = descent("bim", border.checked_norm(norm, (linf, l2, l1)), of_label(loss), False)
    given = step_lengths(step_size, 1 / 4)
    return search(model, images, labels, method, max_steps=max_steps, key=key, epsilon=epsilon, given=given, **options)


def pgd(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon=8 / 255,
    max_steps: int = 40,
    step_size=None,
    loss: Callable = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Projected gradient descent (Madry et al. 2018, eq. 3) from a uniform random point of the ball.

    Unlike in the paper, the best iterate of each image is returned, not the last: a success before a failure, then the
    larger loss. In L1 a step changes the hundredth of the elements where the gradient is largest (SLIDE, Tramer & Boneh
    2019), and the projection is that of ball and box together (Croce & Hein 2021).

    model:      any differentiable callable, images [n, ...] in [0, 1] -> logits [n, classes].
    labels:     int [n]; the classes to leave, or with `targeted` those to reach.
    key:        decides the random start.
    norm:       `linf`, `l2` or `l1`; `epsilon` is in its units, for pixels in [0, 1], and is never exceeded. It may be
                an array: one per image [n], or several budgets at once [K, 1].
    step_size:  length of a step in that norm; epsilon / 4 if left out, which is long, because the best iterate is kept.
    loss:       `loss(logits, labels) -> [n]`, raised, or with `targeted` lowered: `cross_entropy`, `margin`, `dlr`.
    options:    see `Options`.

    Raises ValueError on images outside the bounds, labels that are no classes, a model that returns probabilities, or
    lengths that are not positive. A model that cannot be hashed compiles anew in each call.
    """
    method = descent("pgd", border.checked_norm(norm, (linf, l2, l1)), of_label(loss), True)
    given = step_lengths(step_size, 1 / 4)
    return search(model, images, labels, method, max_steps=max_steps, key=key, epsilon=epsilon, given=given, **options)


class Point(NamedTuple):
    """All that plain descent remembers."""

    point: jax.Array


@lru_cache
def descent(name, norm, loss, random_start):
    """Steps of steepest ascent inside the ball, whose lengths are `step_lengths`."""

    def start(example, given):
        return Point(random_point(norm, example, example.key) if random_start else example.image)

    def learn(example, given, state, view):
        length = step_length(given, example)
        moved = state.point + length * norm.steepest(view.gradient, stopped(view.gradient, state.point, example))
        return Point(project(norm, moved, example))

    return Method(name, start, learn, by_gradient, loss, norm)


def step_lengths(step_size, relative):
    """What a method is given: a length of its own, or a part of each image's budget."""
    if step_size is None:
        return np.float32(0), np.float32(relative)
    if np.ndim(step_size) == 0:
        border.checked_positive(step_size=step_size)
    return np.asarray(step_size, np.float32), np.float32(0)


def step_length(given, example):
    """The length of a step, from `step_lengths`."""
    absolute, relative, *_ = given  # a method may be given more
    return absolute + jnp.where(relative > 0, relative * example.epsilon, 0)


def random_point(norm, example, key):
    """A uniform random point of the ball, brought into the box."""
    return project(norm, example.image + norm.uniform(key, example.image.shape, example.epsilon), example)


def stopped(gradient, point, example):
    """The elements that the box keeps from following their gradient."""
    return ((point >= example.upper) & (gradient > 0)) | ((point <= example.lower) & (gradient < 0))


def project(norm, point, example):
    """The nearest point of the image's ball and box."""
    return norm.project(point, example.image, example.epsilon, example.lower, example.upper)
