"""Objectives that compare a picture with given activations, or pictures with each other."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.fingerprint import fingerprint
from diffprog._util.promotion import own_promotion
from diffprog.models import Model
from diffprog.visualize._rendering.fitting import layer_values
from diffprog.visualize.objectives._base import Objective, of_term
from diffprog.visualize.objectives._units import along, check_power, over_positions

# ---------------------------------------------------------------- with given activations


def tensor_direction(layer: str, tensor: ArrayLike, cosine_power: float = 0) -> Objective:
    """Excite a direction at each position: the mean of dot * max(0.1, cosine) ** cosine_power.

    A photograph's activations make a caricature: what the layer sees in it, exaggerated. Where layer and tensor differ
    in size, their centers meet, and the rest does not count.

    Args:
      layer: Name of a layer.
      tensor: Array (height, width, channels), a vector for each position.
      cosine_power: The power of the cosine, 0 or more.

    Returns:
      An `Objective`.

    References:
      Olah et al. 2018, "The Building Blocks of Interpretability"; Lucid's recipe "caricature".
    """
    return _to_target(
        f"tensor direction in {layer}", layer, tensor, _tensor_direction_of(layer, check_power(cosine_power))
    )


@cache
def _tensor_direction_of(layer, power):
    def measure(values, tensor):
        values, tensor = _common_center(values[layer], tensor)
        return over_positions(along(values, tensor, power))

    return measure


@own_promotion()
def caricature(model: Model, photograph: ArrayLike, layer: str, cosine_power: float = 1) -> Objective:
    """Exaggerate what a layer sees in a photograph: `tensor_direction` towards the photograph's activations.

    Args:
      model: The network.
      photograph: Array (height, width, channels) in [0, 1].
      layer: Name of a layer.
      cosine_power: The power of the cosine, 0 or more.

    Returns:
      An `Objective`.
    """
    return tensor_direction(layer, layer_values(model, photograph, layer), cosine_power)


@own_promotion()
def guide(model: Model, layer: str, image: ArrayLike) -> Objective:
    """Move towards another image: the mean over positions of the largest dot product with any of the image's values.

    This is the guided dream of Mordvintsev et al. 2015.

    Args:
      model: The network.
      layer: Name of a layer.
      image: Array (height, width, channels) in [0, 1].

    Returns:
      An `Objective`.
    """
    values = layer_values(model, image, layer)
    examples = values.reshape(-1, values.shape[-1])
    arguments = lambda model, shapes: (examples,)
    return of_term(f"guided in {layer}", (layer,), _guided_in(layer), arguments, key=(fingerprint(examples),))


@cache
def _guided_in(layer):
    def best_matches(values, examples):
        dots = values[layer].reshape(len(values[layer]), -1, examples.shape[-1]) @ examples.T
        return jnp.mean(jnp.max(dots, axis=-1), axis=1)

    return best_matches


def difference(layer: str, target: ArrayLike) -> Objective:
    """Measure the mean square difference of a layer from a target; subtract it to make them alike.

    `-difference(layer, activations)` inverts activations, and `unit - 2 * difference("image", photograph)` keeps a
    picture close to a photograph.

    Args:
      layer: Name of a layer, or "image" for the picture.
      target: Array of the shape of one value of the layer. Numbers of positions may differ: the centers meet.

    Returns:
      An `Objective`.
    """
    return _to_target(f"difference in {layer}", layer, target, _difference_of(layer))


@cache
def _difference_of(layer):
    def measure(values, target):
        values, target = _common_center(values[layer], target)
        return over_positions((values - target) ** 2)

    return measure


def style_difference(layer: str, target: ArrayLike) -> Objective:
    """Measure the mean square difference between the Gram matrices of a layer and of a target; subtract it.

    A Gram matrix holds the mean over positions of each product of two channels.

    Args:
      layer: Name of a layer.
      target: Activations (..., channels) of that layer, with any number of positions.

    Returns:
      An `Objective`.

    References:
      Gatys et al. 2016, "Image style transfer using convolutional neural networks".
    """
    target = np.asarray(target, np.float32)
    matrix = np.tensordot(target, target, (range(target.ndim - 1),) * 2) / max(target[..., 0].size, 1)

    def arguments(model, shapes):
        if target.ndim < 2 or target.shape[-1] != shapes[layer][-1]:
            raise ValueError(
                f"a style of {layer} has positions of {shapes[layer][-1]} channels; found shape {target.shape}"
            )
        return (matrix.astype(np.float32),)

    return of_term(f"style of {layer}", (layer,), _style_of(layer), arguments, key=(fingerprint(target),))


@cache
def _style_of(layer):
    return lambda values, matrix: over_positions((gram(values[layer]) - matrix) ** 2)


# ---------------------------------------------------------------- pictures with each other


def diversity(layer: str) -> Objective:
    """Tell pictures of a batch apart: minus the mean cosine of a picture's Gram matrix with the others', -1 .. 1.

    Add it to draw several sides of one unit: `channel(...) + 2 * diversity(layer)`, drawn with `num_images=4`. A single
    picture scores 0.

    Args:
      layer: Name of a layer.

    Returns:
      An `Objective`.

    References:
      Olah et al. 2017, "Feature Visualization", section "Diversity".
    """
    return of_term(f"diversity of {layer}", (layer,), _diversity_of(layer), joint=True)


@cache
def _diversity_of(layer):
    def measure(values):
        flat = gram(values[layer]).reshape(len(values[layer]), -1)
        flat = flat / jnp.sqrt(jnp.sum(flat**2, axis=1, keepdims=True) + 1e-12)
        alike = flat @ flat.T
        return -(jnp.sum(alike, axis=1) - jnp.diagonal(alike)) / max(len(flat) - 1, 1)

    return measure


def alignment(layer: str = "image", reach: int = 4, decay: float = 2.0) -> Objective:
    """Measure the weighted mean square difference from the neighboring pictures of a batch; subtract it.

    Pictures of an interpolation then show one thing in one place and can be compared (Lucid's objective of that name).

    Args:
      layer: Name of a layer, or "image" for the pictures.
      reach: Number of neighbors to each side.
      decay: The k-th neighbor counts 1 / decay ** k.

    Returns:
      An `Objective`.
    """
    if not (isinstance(reach, int) and reach >= 1 and decay > 0):
        raise ValueError(f"alignment reaches 1 or more pictures, with a decay above 0; found {reach} and {decay}")
    return of_term(f"alignment in {layer}", (layer,), _alignment_of(layer, reach, float(decay)), joint=True)


@cache
def _alignment_of(layer, reach, decay):
    def measure(values):
        values = values[layer]
        total, weights = jnp.zeros(len(values), values.dtype), np.zeros(len(values), np.float32)
        for k in range(1, min(reach, len(values) - 1) + 1):
            distance = over_positions((values[k:] - values[:-k]) ** 2) / decay**k
            total = total.at[k:].add(distance).at[:-k].add(distance)
            weights[k:] += decay**-k
            weights[:-k] += decay**-k
        return total / np.maximum(weights, 1e-12)

    return measure


def interpolate(first: Objective, last: Objective, num_objectives: int) -> list[Objective]:
    """Interpolate between two objectives: (1 - t) * first + t * last at evenly spaced t.

    Args:
      first: The objective at t = 0.
      last: The objective at t = 1.
      num_objectives: Number of objectives, both ends included; 2 or more.

    Returns:
      A list of objectives.
    """
    if not isinstance(first, Objective) or not isinstance(last, Objective) or num_objectives < 2:
        raise ValueError(
            f"interpolate takes two objectives and num_objectives of 2 or more; found {first}, {last}, {num_objectives}"
        )
    return [(1 - t) * first + t * last for t in np.linspace(0, 1, num_objectives)]


# ---------------------------------------------------------------- arithmetic


def gram(values: jax.Array) -> jax.Array:
    """Average the products of channels over positions: (n, ..., channels) -> (n, channels, channels)."""
    flat = values.reshape(values.shape[0], -1, values.shape[-1])
    return jnp.einsum("npc,npd->ncd", flat, flat) / flat.shape[1]


def _to_target(name, layer, target, measure):
    target = np.asarray(target, np.float32)
    if not target.ndim or not np.isfinite(target).all():
        raise ValueError(f"{name} needs an array of finite numbers; found {target.shape} with others")

    def arguments(model, shapes):
        if target.ndim != len(shapes[layer]) or target.shape[-1] != shapes[layer][-1]:
            shape = " x ".join(map(str, shapes[layer]))
            raise ValueError(f"a target in {layer} is {shape} (positions may differ); found shape {target.shape}")
        return (target,)

    return of_term(name, (layer,), measure, arguments, key=(fingerprint(target),))


def _common_center(values, target):
    """Crop both to what they have in common when their centers meet."""
    for axis in range(target.ndim - 1):
        size = min(values.shape[axis + 1], target.shape[axis])
        values = _center(values, axis + 1, size)
        target = _center(target, axis, size)
    return values, target


def _center(array, axis, size):
    start = (array.shape[axis] - size) // 2
    return jax.lax.slice_in_dim(array, start, start + size, axis=axis)
