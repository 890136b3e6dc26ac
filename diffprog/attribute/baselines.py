"""Baselines: functions from inputs to what these are compared with, for `baseline=` of every method.

A number or an array will do as well: 0 is black, 0.5 gray. What a baseline says nothing about is credited with nothing:
a black pixel has no credit where the baseline is black (Sturmfels et al. 2020).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter1d

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog._util.numbers import check_positive
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.attribute._core.baseline import Data
from diffprog.images._filters import gaussian_blur, separable_blur

__all__ = ["Data", "blurred", "data", "mean", "noise", "rise_blur"]

CUT = 3  # standard deviations at which a Gaussian is cut off


@factory
def blurred(deviation: float = 10.0) -> Callable[[jax.Array], jax.Array]:
    """Compare with the same picture, blurred.

    Args:
      deviation: standard deviation of the Gaussian, in pixels.

    Returns:
      A function of images (n, height, width, channels).

    References:
      Fong & Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", 2017.
    """
    radius = max(1, round(CUT * float(check_positive(deviation, "deviation"))))

    @own_promotion()
    def blur(images):
        _check_images(images, "blurred")
        return gaussian_blur(images, deviation, radius)

    return blur


@factory
def rise_blur() -> Callable[[jax.Array], jax.Array]:
    """Compare with the blurred picture from which RISE's insertion starts: 11 x 11 pixels, deviation 5.

    The kernel is the one of the authors' code, a Gaussian whose tails are folded back into the 11 pixels. Beyond the
    edge the last pixels are repeated; the authors take the mean color of ImageNet there.

    Returns:
      A function of images (n, height, width, channels).

    References:
      Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018.
    """
    one = np.zeros(11)
    one[5] = 1
    weights = gaussian_filter1d(one, 5)

    @own_promotion()
    def blur(images):
        _check_images(images, "rise_blur")
        return separable_blur(images, jnp.asarray(weights, images.dtype))

    return blur


def _check_images(images, name):
    if images.ndim != 4:
        raise ValueError(
            f"{name} takes images (n, height, width, channels); found {images.shape}: give another baseline"
        )


@factory
def mean() -> Callable[[jax.Array], jax.Array]:
    """Compare with each picture's mean color, or the mean over all positions of each channel.

    Returns:
      A function of arrays (n, ..., channels).
    """

    @own_promotion()
    def average(inputs):
        axes = tuple(range(1, inputs.ndim - 1))
        return jnp.broadcast_to(inputs.mean(axis=axes, keepdims=True), inputs.shape)

    return average


def noise(key: jax.Array | int, low: float = 0.0, high: float = 1.0) -> Callable[[jax.Array], jax.Array]:
    """Compare with uniform noise, the same for every example, so that none depends on the others.

    Args:
      key: a JAX random key, or a seed.
      low: the lowest value.
      high: the highest value.

    Returns:
      A function of arrays (n, ...).
    """
    key = random_key(key)

    @own_promotion()
    def draw(inputs):
        drawn = draws.uniform(key, inputs.shape[1:], low, high).astype(inputs.dtype)
        return jnp.broadcast_to(drawn, inputs.shape)

    return draw


def data(rows: Any) -> Data:
    """Compare with each row of a data set, and average the scores: what is missing is drawn from the data.

    For methods without gradients. An array with another number of rows than the inputs is taken for a data set anyway;
    one with as many rows is a baseline for each example, unless it is marked by this function.

    Args:
      rows: a pytree like the inputs, with any number m of rows. Each coalition of features is evaluated m times.

    Returns:
      A value for `baseline=`.

    References:
      Lundberg & Lee, "A unified approach to interpreting model predictions", 2017 (the marginal expectation).
    """
    return Data(rows)
