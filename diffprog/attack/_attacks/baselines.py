"""Baselines that look for nothing: noise within a budget, and lines along which an image goes until it is mistaken."""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._attacks.random_search import random_search, run_random_search
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, Example, smaller_norm
from diffprog.attack._engine.options import QueryOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import margin
from diffprog.attack._norms import Norm, l1, l2, linf
from diffprog.images._filters import gaussian_blur as blurred

# ---------------------------------------------------------------- noise

DISTRIBUTIONS = {"gaussian": draws.normal, "uniform": partial(draws.uniform, minval=-1.0)}


@documents_options
def additive_noise(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = l2,
    epsilon: ArrayLike = 0.5,
    num_samples: int = 10,
    distribution: str = "gaussian",
    loss: Callable[..., jax.Array] = margin,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Attack by noise as large as the budget allows.

    Each noise is scaled so that what is left of it after clipping to the bounds has size epsilon; only where no pixel
    can go further does it stay smaller. With `linf` one element reaches epsilon; uniform noise fills the cube, nearly.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the noise.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      num_samples: draws per image.
      distribution: "gaussian" or "uniform", of each element by itself.
      loss: (logits, labels) -> (n,); decides among the draws.
      **options: shared options.

    Returns:
      The best draw for each image: a success before a failure, then the larger loss.

    References:
      Rauber & Bethge 2020 for the rescaling in L2; here it holds for any norm.
    """
    validation.check_norm(norm, (linf, l2, l1))
    validation.check_choice(distribution, tuple(DISTRIBUTIONS), "distribution")
    validation.check_counts(num_samples=num_samples)
    spec = random_search(f"{distribution}_noise", _noise_of_size(norm, distribution), norm)._replace(loss=loss)
    return run_random_search(model, images, labels, spec, parse_options(options), num_samples, key=key, epsilon=epsilon)


@factory
def _noise_of_size(norm, distribution):
    draw = DISTRIBUTIONS[distribution]
    return lambda example, hyperparameters, index, key: fill_budget(norm, draw(key, example.image.shape), example)


def fill_budget(norm: Norm, direction: jax.Array, example: Example) -> jax.Array:
    """Find the point of the box whose way from the image, clip(image + t direction) - image, has size epsilon.

    Where there is none, take the farthest. The size grows with t over many orders of magnitude: t is bisected in its
    logarithm.
    """
    direction = direction / jnp.maximum(jnp.max(jnp.abs(direction)), jnp.finfo(jnp.float32).tiny)
    moved = lambda t: example.clip(example.image + t * direction)
    scale = example.pixel_range + jnp.finfo(jnp.float32).tiny

    def halve(_, bracket):
        low, high = bracket
        middle = jnp.sqrt(low * high)
        inside = norm.size(moved(middle) - example.image) <= example.epsilon
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    low, _ = jax.lax.fori_loop(0, 36, halve, (1e-6 * scale, 1e6 * scale))
    return example.project(norm, moved(low))


# ---------------------------------------------------------------- lines


@documents_options
def blended(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    towards: str | ArrayLike,
    key: jax.Array | None = None,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Find the smallest blend image + t (towards - image) that is adversarial.

    t rises in equal steps until one succeeds; then the last step is halved.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      towards: "noise", an image of uniform noise; or a number, a constant gray; or images, of the shape of one or of
        all of `images`.
      key: random key, which decides the noise.
      norm: any; in it the smallest of several `restarts` is meant.
      linear_search_steps: equal steps from the image to the other end.
      binary_search_steps: halvings of the last step.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.
    """
    settings = parse_options(options)
    images = validation.check_images(images, settings.bounds)
    arguments = key, norm, linear_search_steps, binary_search_steps, settings
    if isinstance(towards, str):
        if towards != "noise":
            raise ValueError(f"towards must be 'noise', a number or images; found {towards!r}: give one of them")
        validation.check_key(key)
        validation.check_finite_bounds("blended, towards noise,", settings.bounds)
        return _search_line("blended_noise", _towards_noise, model, images, labels, *arguments)
    try:
        end = np.broadcast_to(np.asarray(towards, np.float32), images.shape)
    except ValueError:
        raise ValueError(
            f"towards must be a number or have the shape of the images, {images.shape}, or of one; found "
            f"{np.shape(towards)}: resize them"
        ) from None
    return _search_line("blended", _towards_extras, model, images, labels, *arguments, end)


@documents_options
def contrast_reduction(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Find the smallest loss of contrast that is adversarial: `blended` towards the gray amid the bounds.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: any; in it the smallest of several `restarts` is meant.
      linear_search_steps: equal steps from the image to the gray.
      binary_search_steps: halvings of the last step.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.
    """
    settings = parse_options(options)
    images = validation.check_images(images, settings.bounds)
    low, high = validation.check_finite_bounds("contrast_reduction", settings.bounds)
    gray = np.broadcast_to(np.float32(low) / 2 + np.float32(high) / 2, images.shape)
    arguments = key, norm, linear_search_steps, binary_search_steps, settings
    return _search_line("contrast_reduction", _towards_extras, model, images, labels, *arguments, gray)


@documents_options
def salt_and_pepper(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Find the smallest fraction of elements that must become the lowest or the highest value.

    Both are equally likely. The elements come in a random order: a larger fraction contains every smaller one.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides order and values.
      norm: any; in it the smallest of several `restarts` is meant.
      linear_search_steps: equal steps from no element to all.
      binary_search_steps: halvings of the last step.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.
    """
    validation.check_key(key)
    settings = parse_options(options)
    validation.check_finite_bounds("salt_and_pepper", settings.bounds)
    arguments = key, norm, linear_search_steps, binary_search_steps, settings
    return _search_line("salt_and_pepper", _salt_and_pepper, model, images, labels, *arguments)


@documents_options
def gaussian_blur(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = l2,
    max_sigma: float = 8.0,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Find the weakest Gaussian blur that is adversarial. The edge's pixels go on beyond it.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: any; in it the smallest of several `restarts` is meant.
      max_sigma: largest standard deviation, in pixels.
      linear_search_steps: equal steps from no blur to `max_sigma`.
      binary_search_steps: halvings of the last step.
      **options: shared options.

    Returns:
      The smallest success of each image, or the image itself.
    """
    validation.check_positive(max_sigma=max_sigma)
    settings = parse_options(options)
    images = validation.check_images(images, settings.bounds)
    validation.check_pictures(images)
    arguments = key, norm, linear_search_steps, binary_search_steps, settings
    return _search_line("gaussian_blur", _blur(float(max_sigma)), model, images, labels, *arguments)


def _towards_extras(example, fraction):
    return example.image + fraction * (example.extras - example.image)


def _towards_noise(example, fraction):
    noise = example.lower + draws.uniform(example.key, example.image.shape) * (example.upper - example.lower)
    return example.image + fraction * (noise - example.image)


def _salt_and_pepper(example, fraction):
    order_key, salt_key = jax.random.split(example.key)
    changed = draws.uniform(order_key, example.image.shape) < fraction
    is_salt = draws.coin(salt_key, 0.5, example.image.shape)
    return jnp.where(changed, jnp.where(is_salt, example.upper, example.lower), example.image)


@factory
def _blur(max_sigma):
    return lambda example, fraction: blurred(example.image, fraction * max_sigma, ceil(3 * max_sigma))


def _search_line(
    name, line, model, images, labels, key, norm, linear_search_steps, binary_search_steps, settings, extras=None
):
    validation.check_counts(linear_search_steps=linear_search_steps, binary_search_steps=binary_search_steps)
    spec, max_steps = line_search(name, line, norm), linear_search_steps + binary_search_steps
    hyperparameters = np.float32(linear_search_steps), np.int32(binary_search_steps)
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, extras=extras)


class LineState(NamedTuple):
    """Where on the line an image is: between `low`, which fails, and `high`, which succeeds (2: not seen yet)."""

    point: jax.Array
    fraction: jax.Array
    low: jax.Array
    high: jax.Array
    halvings_left: jax.Array  # int32
    done: jax.Array


@factory
def line_search(name: str, line: Callable[..., Any], norm: Norm) -> AttackSpec:
    """Make a search along a line: (example, fraction) -> its point at a fraction in [0, 1]; 0 is the image."""

    def point(example, fraction):
        return example.clip(line(example, fraction))

    def init(example, hyperparameters):
        linear_steps, halvings = hyperparameters
        fraction = 1 / linear_steps
        return LineState(point(example, fraction), fraction, jnp.zeros(()), jnp.float32(2), halvings, jnp.array(False))

    def update(example, hyperparameters, state, view):
        linear_steps, _ = hyperparameters
        low = jnp.where(view.is_adversarial, state.low, state.fraction)
        high = jnp.where(view.is_adversarial, state.fraction, state.high)
        bracketed = high <= 1
        fraction = jnp.where(bracketed, (low + high) / 2, jnp.round(low * linear_steps + 1) / linear_steps)
        halvings_left = state.halvings_left - bracketed
        done = jnp.where(bracketed, halvings_left < 0, low >= 1)
        fraction = jnp.minimum(fraction, 1)
        return LineState(point(example, fraction), fraction, low, high, halvings_left, done)

    return AttackSpec(name, init, update, query_logits, norm=norm, better=smaller_norm)
