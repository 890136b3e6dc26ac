"""Objectives that compare: a picture with given activations, pictures with each other, units with units."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.fingerprint import fingerprint
from diffprog.visualize.objectives._base import Objective, of_term
from diffprog.visualize.objectives._units import along, check_power, over_positions

# ---------------------------------------------------------------- with given activations


def tensor_direction(layer, tensor, cosine_power=0):
    """`direction` with a vector of its own at each position: the mean of dot * max(0.1, cosine) ** cosine_power.

    tensor: (height, width, channels), say a photograph's activations, which makes a caricature: what the layer sees in
    it, exaggerated (Olah et al. 2018, "The Building Blocks of Interpretability", and Lucid's recipe of that name).
    Where the layer is larger or smaller than the tensor, center meets center, and the rest does not count.
    """
    return _given(f"tensor direction in {layer}", layer, tensor, _tensor_direction_of(layer, check_power(cosine_power)))


@cache
def _tensor_direction_of(layer, power):
    def measure(values, tensor):
        values, tensor = _common_center(values[layer], tensor)
        return over_positions(along(values, tensor, power))

    return measure


def caricature(model, photograph, layer, cosine_power=1):
    """`tensor_direction` towards the activations of a photograph (height, width, 3) in [0, 1]."""
    return tensor_direction(layer, model.activations(np.asarray(photograph)[None], layer)[layer][0], cosine_power)


def guide(model, layer, image):
    """Move towards another image: the mean over positions of the largest dot product with any of its positions' values.

    This is the guided dream of Mordvintsev et al. 2015.

    Args:
      model: The network.
      layer: Name of a layer.
      image: Array (height, width, channels) in [0, 1].

    Returns:
      An `Objective`.
    """
    values = np.asarray(model.activations(model.check_image(image)[None], layer)[layer])
    examples = values.reshape(-1, values.shape[-1])
    numbers = lambda model, shapes: (examples,)
    return of_term(f"guided in {layer}", (layer,), _guided_in(layer), numbers, key=(fingerprint(examples),))


@cache
def _guided_in(layer):
    def best_matches(values, examples):
        dots = values[layer].reshape(len(values[layer]), -1, examples.shape[-1]) @ examples.T
        return jnp.mean(jnp.max(dots, axis=-1), axis=1)

    return best_matches


def difference(layer, target):
    """The mean square difference from `target` (the shape of one value of the layer; of "image": of a picture).

    Subtract it: `-difference(layer, activations)` inverts activations, `unit - 2 * difference("image", photograph)`
    keeps a picture close to a photograph.
    """
    return _given(f"difference in {layer}", layer, target, _difference_of(layer))


@cache
def _difference_of(layer):
    def measure(values, target):
        values, target = _common_center(values[layer], target)
        return over_positions((values - target) ** 2)

    return measure


def style_difference(layer, target):
    """The mean square difference between Gram matrices: of the layer, and of `target`, activations of that layer.

    A Gram matrix holds the mean over positions of each product of two channels (Gatys et al. 2016). Subtract it.
    """
    target = np.asarray(target, np.float32)
    matrix = np.tensordot(target, target, (range(target.ndim - 1),) * 2) / max(target[..., 0].size, 1)

    def numbers(model, shapes):
        if target.ndim < 2 or target.shape[-1] != shapes[layer][-1]:
            raise ValueError(
                f"a style of {layer} has positions of {shapes[layer][-1]} channels; found shape {target.shape}"
            )
        return (matrix.astype(np.float32),)

    return of_term(f"style of {layer}", (layer,), _style_of(layer), numbers, key=(fingerprint(target),))


@cache
def _style_of(layer):
    return lambda values, matrix: over_positions((gram(values[layer]) - matrix) ** 2)


# ---------------------------------------------------------------- pictures with each other


def diversity(layer):
    """Minus the mean cosine of each picture's Gram matrix with the other pictures': -1 .. 1, alike .. different.

    Add it to draw several sides of one unit (Olah et al. 2017, section "Diversity"): `channel(...) + 2 * diversity(
    layer)`, drawn with `num_images=4`. Alone, a picture has nothing to differ from and scores 0.
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


def alignment(layer="image", reach=4, decay=2.0):
    """The weighted mean square difference from the pictures next in the batch, which should be subtracted.

    The k-th neighbor to each side, up to `reach`, counts 1 / decay ** k: so that pictures of an interpolation (see
    `interpolate`) show the same thing in the same place, and can be compared (Lucid's objective of that name).
    """
    if not (isinstance(reach, int) and reach >= 1 and decay > 0):
        raise ValueError(f"alignment reaches 1 or more pictures, with a decay above 0; found {reach} and {decay}")
    return of_term(f"alignment in {layer}", (layer,), _alignment_of(layer, reach, float(decay)), joint=True)


@cache
def _alignment_of(layer, reach, decay):
    def measure(values):
        values = values[layer]
        total, weights = jnp.zeros(len(values)), np.zeros(len(values))
        for k in range(1, min(reach, len(values) - 1) + 1):
            apart = over_positions((values[k:] - values[:-k]) ** 2) / decay**k
            total = total.at[k:].add(apart).at[:-k].add(apart)
            weights[k:] += decay**-k
            weights[:-k] += decay**-k
        return total / np.maximum(weights, 1e-12)

    return measure


def interpolate(first, last, num_objectives):
    """A list of `num_objectives` objectives from one to another: (1 - t) * first + t * last at evenly spaced t."""
    if not isinstance(first, Objective) or not isinstance(last, Objective) or num_objectives < 2:
        raise ValueError(
            f"interpolate takes two objectives and num_objectives of 2 or more; found {first}, {last}, {num_objectives}"
        )
    return [(1 - t) * first + t * last for t in np.linspace(0, 1, num_objectives)]


# ---------------------------------------------------------------- arithmetic


def gram(values):
    """(n, ..., channels) -> (n, channels, channels): the mean over positions of the products of channels."""
    flat = values.reshape(values.shape[0], -1, values.shape[-1])
    return jnp.einsum("npc,npd->ncd", flat, flat) / flat.shape[1]


def _given(name, layer, target, measure):
    target = np.asarray(target, np.float32)
    if not target.ndim or not np.isfinite(target).all():
        raise ValueError(f"{name} needs an array of finite numbers; found {target.shape} with others")

    def numbers(model, shapes):
        if target.ndim != len(shapes[layer]) or target.shape[-1] != shapes[layer][-1]:
            wanted = " x ".join(map(str, shapes[layer]))
            raise ValueError(f"a target in {layer} is {wanted} (positions may differ); found shape {target.shape}")
        return (target,)

    return of_term(name, (layer,), measure, numbers, key=(fingerprint(target),))


def _common_center(values, target):
    """Both cropped to what they have in common when their centers meet."""
    for axis in range(target.ndim - 1):
        size = min(values.shape[axis + 1], target.shape[axis])
        values = _center(values, axis + 1, size)
        target = _center(target, axis, size)
    return values, target


def _center(array, axis, size):
    start = (array.shape[axis] - size) // 2
    return jax.lax.slice_in_dim(array, start, start + size, axis=axis)
