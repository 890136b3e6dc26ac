"""Attacks that follow the gradient inside a ball: FGSM and PGD, on the one descent loop."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffprog.attack import border
from diffprog.attack.losses import cross_entropy
from diffprog.attack.norms import Norm, linf
from diffprog.optimize import Descent


class Result(NamedTuple):
    """What an attack found: NumPy arrays with one row per image.

    `success` and `after` come from the images as they are returned. An image that was misclassified to begin with
    counts as a success of an untargeted attack; compare `before` with the labels to tell such images apart.
    """

    images: np.ndarray  # float32 [n, ...] in [0, 1], each within epsilon of its original
    success: np.ndarray  # bool [n]
    norms: np.ndarray  # float64 [n], size of the perturbation
    before: np.ndarray  # int [n], predicted class of the original
    after: np.ndarray  # int [n], predicted class of the returned image
    first_success: np.ndarray  # int [n], updates until the first success, random start not counted; -1 without one


def fgsm(model: Callable, images, labels, *, norm: Norm = linf, epsilon: float = 8 / 255, targeted: bool = False,
         loss: Callable = cross_entropy, engine: str = "diffprog") -> Result:
    """The fast gradient sign method (Goodfellow et al. 2015, section 4): one step of length epsilon from the image.

    With `norm=l2` the step goes along the gradient itself. Arguments and errors are those of `pgd`; nothing is random.
    """
    border.checked_search(norm, epsilon, 1, epsilon)
    search = Search(model, norm, targeted, loss, None, None, engine)
    return _attack(search, images, labels, epsilon=epsilon, step_size=epsilon, steps=1)


def pgd(model: Callable, images, labels, *, key: jax.Array, norm: Norm = linf, epsilon: float = 8 / 255,
        steps: int = 40, step_size: float | None = None, targeted: bool = False, loss: Callable = cross_entropy,
        first: int = 0, engine: str = "diffprog", progress: str | None = None) -> Result:
    """Projected gradient descent (Madry et al. 2018, eq. 3) from a uniform random point of the ball.

    Unlike in the paper, the best iterate of each image is returned, not the last: a success before a failure, then the
    larger loss.

    model:      any differentiable callable, images [n, ...] in [0, 1] -> logits [n, classes].
    labels:     int [n]; the classes to leave, or with `targeted` those to reach.
    norm:       `linf` or `l2`; `epsilon` is in its units, for pixels in [0, 1], and is never exceeded.
    step_size:  length of a step in that norm; epsilon / 4 if left out, which is long, because the best iterate is kept.
    loss:       `loss(logits, labels) -> [n]`, raised, or with `targeted` lowered: `cross_entropy` or `margin`.
    first:      number of the first image in its data set. Randomness is drawn per number, so that splitting a set into
                batches does not change what becomes of an image.

    Raises ValueError on images outside [0, 1], labels that are no classes, a target that is predicted already, a model
    that returns probabilities or NaN, or lengths that are not positive. A model that cannot be hashed compiles anew in
    each call.
    """
    step_size = epsilon / 4 if step_size is None else step_size
    border.checked_search(norm, epsilon, steps, step_size)
    search = Search(model, norm, targeted, loss, norm.uniform, _better, engine)
    return _attack(search, images, labels, epsilon=epsilon, step_size=step_size, steps=steps, key=key, first=first,
                   progress=progress)


class Search(NamedTuple):
    """What a compiled search depends on; the rest, budget and step size included, is data."""

    model: Callable
    norm: Norm
    targeted: bool
    loss: Callable
    start: Callable | None  # a random perturbation, as in `Norm.uniform`; None starts at the image
    keep: Callable | None  # which iterate to return; None returns the last
    engine: str


class Candidates(NamedTuple):
    """Perturbed images and what the model makes of each."""

    images: jax.Array  # [n, ...]
    value: jax.Array  # [n], what the search raises
    hit: jax.Array  # bool [n]


class Programs(NamedTuple):
    """The compiled parts of a search."""

    logits: Callable  # images -> [n, classes]
    start: Callable  # images, epsilon, key, first -> images
    judge: Callable  # images, logits, labels -> Candidates
    loop: Descent


def _attack(search, images, labels, *, epsilon, step_size, steps, key=None, first=0, progress=None) -> Result:
    images = border.checked_images(images)
    labels = border.checked_labels(labels, len(images))
    programs = _programs(search) if _hashable(search.model) else _programs.__wrapped__(search)
    before = border.checked_logits(programs.logits(images), labels).argmax(axis=1)
    if search.targeted:
        border.checked_targets(labels, before)

    epsilon = _float32_at_most(epsilon)
    start = programs.start(images, epsilon, key, first)
    nothing = Candidates(start, jnp.full(len(images), -jnp.inf), jnp.zeros(len(images), bool))
    state = programs.loop.start(start, kept=nothing)._replace(optimizer=jnp.float32(step_size))
    state, history = programs.loop.run(state, steps, data=(images, labels, epsilon), block=5, progress=progress)
    last = programs.judge(state.parameters, programs.logits(state.parameters), labels)
    found = np.asarray((search.keep(state.kept, last) if search.keep else last).images)

    logits = np.asarray(programs.logits(found))  # judged anew: as returned, and outside the loop's fused code
    hits = np.concatenate([history.aux[1], last.hit[None]])
    return Result(found, np.asarray(_hit(logits, labels, search.targeted)), search.norm.measure(found - images), before,
                  logits.argmax(axis=1), np.where(hits.any(axis=0), hits.argmax(axis=0), -1))


@lru_cache(maxsize=16)
def _programs(search: Search) -> Programs:
    model, norm, targeted, loss, uniform, keep, engine = search

    def judge(images, logits, labels):
        value = loss(logits, labels)
        return Candidates(images, -value if targeted else value, _hit(logits, labels, targeted))

    def objective(images, step):
        _, value, hit = judge(images, model(images), step.data[1])
        return value.sum(), (value, hit)  # a sum: no image's gradient is scaled by how many others there are

    def project(candidates, step):
        images, _, epsilon = step.data
        return jax.vmap(norm.project, (0, 0, None))(candidates, images, epsilon)

    def start(images, epsilon, key, first):
        if uniform is None:
            return images
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(first + jnp.arange(len(images)))
        noise = jax.vmap(lambda key: uniform(key, images.shape[1:], epsilon))(keys)
        return jax.vmap(norm.project, (0, 0, None))(images + noise, images, epsilon)

    keep_images = keep and (lambda kept, images, value, aux: keep(kept, Candidates(images, *aux)))
    loop = Descent(objective, _steepest_descent(norm), project=project, keep=keep_images, maximise=True, has_aux=True,
                   engine=engine)
    return Programs(jax.jit(lambda images: model(images)), jax.jit(start), jax.jit(judge), loop)


def _steepest_descent(norm: Norm) -> optax.GradientTransformation:
    """Steps of one length in `norm`, per image. The length is the state, so that another length is no other program."""

    def update(gradient, length, parameters=None):
        return -length * jax.vmap(norm.steepest)(gradient), length

    return optax.GradientTransformation(lambda parameters: jnp.float32(0), update)


def _better(kept: Candidates, new: Candidates) -> Candidates:
    """Per image the better of two candidates: a success before a failure, then the larger value."""
    wins = (new.hit & ~kept.hit) | ((new.hit == kept.hit) & (new.value > kept.value))
    return jax.tree.map(lambda k, n: jnp.where(wins.reshape(-1, *[1] * (n.ndim - 1)), n, k), kept, new)


def _hit(logits, labels, targeted):
    """Whether each image is where the attack wants it; a logit that is not finite is no success."""
    return jnp.isfinite(logits).all(axis=-1) & ((jnp.argmax(logits, axis=-1) == labels) == targeted)


def _float32_at_most(epsilon):
    """The largest float32 that is not above `epsilon`: float32(8 / 255) itself is."""
    nearest = np.float32(epsilon)
    return nearest if float(nearest) <= float(epsilon) else np.nextafter(nearest, np.float32(0))


def _hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True
