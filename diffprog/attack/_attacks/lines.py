"""Searches along one line: how far must an image go towards noise, gray, a blur or another image to be mistaken?"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Method, smaller
from diffprog.attack._engine.queries import by_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, search
from diffprog.attack._norms import Norm, l2
from diffprog.images._filters import gaussian_blur as blurred


def blended(
    model: Callable,
    images,
    labels,
    *,
    towards,
    key=None,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest blend image + t (towards - image) that succeeds: t rises in `parts` equal steps until one does, and
    the last step is halved `halvings` times.

    towards:  "noise", an image of uniform noise that `key` decides; a number, for a constant gray; or images, of the
              shape of one or of all of `images`.
    norm:     in which the smallest is meant, of several `restarts`: any.
    """
    images = border.checked_images(images, options.get("bounds", (0.0, 1.0)))
    if isinstance(towards, str):
        if towards != "noise":
            raise ValueError(f"towards must be 'noise', a number or images; found {towards!r}: give one of them")
        border.checked_key(key)
        return _walk(
            "blended_noise", _noise, model, images, labels, key, norm, linear_search_steps, binary_search_steps, options
        )
    try:
        end = np.broadcast_to(np.asarray(towards, np.float32), images.shape)
    except ValueError:
        raise ValueError(
            f"towards must be a number or have the shape of the images, {images.shape}, or of one; found "
            f"{np.shape(towards)}: resize them"
        ) from None
    return _walk(
        "blended",
        _blend,
        model,
        images,
        labels,
        key,
        norm,
        linear_search_steps,
        binary_search_steps,
        options,
        extra=end,
    )


def contrast_reduction(
    model: Callable,
    images,
    labels,
    *,
    key=None,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest loss of contrast that succeeds: `blended` towards the gray in the midst of the bounds."""
    low, high = border.checked_bounds(options.get("bounds", (0.0, 1.0)))
    images = border.checked_images(images, (low, high))
    gray = np.full_like(images, (low + high) / 2)
    return _walk(
        "contrast_reduction",
        _blend,
        model,
        images,
        labels,
        key,
        norm,
        linear_search_steps,
        binary_search_steps,
        options,
        extra=gray,
    )


def salt_and_pepper(
    model: Callable,
    images,
    labels,
    *,
    key: jax.Array,
    norm: Norm = l2,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[Options],
) -> AttackResult:
    """The smallest part of the elements that must become the lowest or the highest value, in equal chances. The
    elements come in a random order that `key` decides: a larger part contains every smaller one."""
    border.checked_key(key)
    return _walk(
        "salt_and_pepper", _pepper, model, images, labels, key, norm, linear_search_steps, binary_search_steps, options
    )


def gaussian_blur(
    model: Callable,
    images,
    labels,
    *,
    key=None,
    norm: Norm = l2,
    max_sigma: float = 8.0,
    linear_search_steps: int = 50,
    binary_search_steps: int = 12,
    **options: Unpack[Options],
) -> AttackResult:
    """The weakest Gaussian blur that succeeds, of images [n, height, width, channels]: its standard deviation rises to
    `deviation` pixels. At the edge the last pixels go on."""
    border.checked_positive(max_sigma=max_sigma)
    images = border.checked_images(images, options.get("bounds", (0.0, 1.0)))
    border.checked_pictures(images)
    path = _blur(float(max_sigma))
    return _walk(
        "gaussian_blur", path, model, images, labels, key, norm, linear_search_steps, binary_search_steps, options
    )


def _blend(example, part):
    return example.image + part * (example.extra - example.image)


def _noise(example, part):
    noise = example.lower + jax.random.uniform(example.key, example.image.shape) * (example.upper - example.lower)
    return example.image + part * (noise - example.image)


def _pepper(example, part):
    order_key, salt_key = jax.random.split(example.key)
    chosen = jax.random.uniform(order_key, example.image.shape) < part
    salt = jax.random.bernoulli(salt_key, 0.5, example.image.shape)
    return jnp.where(chosen, jnp.where(salt, example.upper, example.lower), example.image)


@lru_cache
def _blur(max_sigma):
    return lambda example, part: blurred(example.image, part * max_sigma, ceil(3 * max_sigma))


def _walk(name, path, model, images, labels, key, norm, linear_search_steps, binary_search_steps, options, extra=None):
    border.checked_counts(linear_search_steps=linear_search_steps, binary_search_steps=binary_search_steps)
    return search(
        model,
        images,
        labels,
        _method(name, path, norm),
        max_steps=linear_search_steps + binary_search_steps,
        key=key,
        extra=extra,
        given=(np.float32(linear_search_steps), np.int32(binary_search_steps)),
        **options,
    )


class State(NamedTuple):
    """Where on the line an image is: between `low`, which fails, and `high`, which succeeds (2: not seen yet)."""

    point: jax.Array
    part: jax.Array
    low: jax.Array
    high: jax.Array
    left: jax.Array  # int32, halvings
    done: jax.Array


@lru_cache
def _method(name, path, norm):
    """path: (example, part) -> the point of the line at `part` in [0, 1] of its length; 0 is the image."""

    def at(example, part):
        return jnp.clip(path(example, part), example.lower, example.upper)

    def start(example, given):
        part = 1 / given[0]
        return State(at(example, part), part, jnp.zeros(()), jnp.float32(2), given[1], jnp.array(False))

    def learn(example, given, state, view):
        low, high = jnp.where(view.hit, state.low, state.part), jnp.where(view.hit, state.part, state.high)
        bracketed = high <= 1
        part = jnp.where(bracketed, (low + high) / 2, jnp.round(low * given[0] + 1) / given[0])
        left = state.left - bracketed
        done = jnp.where(bracketed, left < 0, low >= 1)
        part = jnp.minimum(part, 1)
        return State(at(example, part), part, low, high, left, done)

    return Method(name, start, learn, by_logits, norm=norm, better=smaller)
