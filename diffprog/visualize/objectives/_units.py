"""Objectives that excite a neuron, a channel, a layer, a direction or a class."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.fingerprint import fingerprint
from diffprog._util.numbers import whole_number
from diffprog.visualize.objectives._base import Objective, of_term

FLOOR = 0.1  # of the cosine, below which a direction's score stops falling (Carter et al. 2019)


def channel(layer: str, index: int) -> Objective:
    """Excite one channel: its mean over all positions.

    Args:
      layer: Name of a layer, from `model.layers`; "logits" for the logit of a class.
      index: The channel, from 0.

    Returns:
      An `Objective`.
    """
    _check_name(layer)
    index = _whole(index, f"the channel of {layer}")
    return of_term(f"{layer}:{index}", (layer,), _channel_of(layer), _channel_index(layer, index), key=(index,))


@cache
def _channel_of(layer):
    return lambda values, index: over_positions(values[layer][..., index])


def neuron(layer: str, index: int, row: int | None = None, column: int | None = None) -> Objective:
    """Excite one channel at one position.

    Args:
      layer: Name of a layer with positions. Of more than two axes of positions, as (frames, height, width, channels),
        all but the last two are in the middle.
      index: The channel, from 0.
      row: The position's row, or the token in a layer (tokens, channels); the middle one by default.
      column: The position's column; the middle one by default. A layer of tokens has none.

    Returns:
      An `Objective`.
    """
    _check_name(layer)
    index = _whole(index, f"the channel of {layer}")
    place, position = _position(layer, row, column, f"channel({layer!r}, {index})")
    arguments = lambda model, shapes: (*_channel_index(layer, index)(model, shapes), position(model, shapes))
    return of_term(f"{layer}:{index} at {place}", (layer,), _neuron_of(layer), arguments, key=(index, place))


@cache
def _neuron_of(layer):
    return lambda values, index, position: at_position(values[layer], position)[:, index]


def layer(name: str) -> Objective:
    """Excite a whole layer: the mean square of its values (DeepDream, Mordvintsev et al. 2015).

    Args:
      name: Name of a layer.

    Returns:
      An `Objective`.
    """
    _check_name(name)
    return of_term(name, (name,), _layer_of(name))


@cache
def _layer_of(layer):
    return lambda values: over_positions(values[layer] ** 2)


def direction(layer: str, vector: ArrayLike, cosine_power: float = 0) -> Objective:
    """Excite a direction: the mean over positions of dot(value, vector) * max(0.1, cosine(value, vector)) ** power.

    Args:
      layer: Name of a layer.
      vector: One number per channel, such as the weights of a group of channels.
      cosine_power: The power, 0 or more. Above 0, values should point that way and nowhere else.

    Returns:
      An `Objective`.

    References:
      Carter et al. 2019, "Activation Atlas".
    """
    measure = _direction_of(layer, check_power(cosine_power))
    return _towards(f"direction in {layer}", layer, vector, measure)


@cache
def _direction_of(layer, power):
    return lambda values, vector: over_positions(along(values[layer], vector, power))


def direction_at(
    layer: str, vector: ArrayLike, row: int | None = None, column: int | None = None, cosine_power: float = 0
) -> Objective:
    """Excite a direction at one position; see `direction`.

    Args:
      layer: Name of a layer with positions.
      vector: One number per channel.
      row: The position's row, or the token; the middle one by default.
      column: The position's column; the middle one by default.
      cosine_power: The power of the cosine, 0 or more.

    Returns:
      An `Objective`.
    """
    place, position = _position(layer, row, column, f"direction({layer!r}, ...)")
    measure = _direction_at_of(layer, check_power(cosine_power))
    return _towards(f"direction in {layer} at {place}", layer, vector, measure, position, (place,))


@cache
def _direction_at_of(layer, power):
    return lambda values, vector, position: along(at_position(values[layer], position), vector, power)


def cosine(layer: str, vector: ArrayLike) -> Objective:
    """Align a layer with a direction: the mean over positions of their cosine, -1 .. 1.

    Args:
      layer: Name of a layer.
      vector: One number per channel.

    Returns:
      An `Objective`.
    """
    return _towards(f"cosine in {layer}", layer, vector, _cosine_of(layer))


@cache
def _cosine_of(layer):
    return lambda values, vector: over_positions(cosines(values[layer], vector))


def logit(label: str | int, layer: str = "logits") -> Objective:
    """Excite the logit of a class.

    Args:
      label: The class by name ("volcano"), synonym or index.
      layer: Name of the layer of logits.

    Returns:
      An `Objective`.
    """
    _check_name(layer)
    label = _label(label)
    return of_term(str(label), (layer,), _logit_of(layer), _class_index(label, layer), key=(label,))


@cache
def _logit_of(layer):
    return lambda values, index: values[layer][:, index]


def log_probability(label: str | int, layer: str = "logits") -> Objective:
    """Excite the log-probability of a class, at the expense of the other classes, which `logit` ignores.

    Args:
      label: The class by name, synonym or index.
      layer: Name of the layer of logits.

    Returns:
      An `Objective`.
    """
    _check_name(layer)
    label = _label(label)
    return of_term(f"log p({label})", (layer,), _log_probability_of(layer), _class_index(label, layer), key=(label,))


@cache
def _log_probability_of(layer):
    return lambda values, index: jax.nn.log_softmax(values[layer])[:, index]


def class_of(objective: Objective) -> str | int | None:
    """Find the class that an objective excites.

    Args:
      objective: Any objective.

    Returns:
      The label that was given to `logit` or `log_probability`; None for any other objective.
    """
    term, *others = objective.weights or [None]
    measures = (_logit_of(term.layers[0]), _log_probability_of(term.layers[0])) if term else ()
    return term.key[0] if term and not others and term.measure in measures else None


# ---------------------------------------------------------------- arguments, for a given model


def _check_name(layer):
    if not isinstance(layer, str):
        raise ValueError(f"a layer is given by its name; found {layer!r}")


def _whole(value, what):
    number = whole_number(value)
    if number is None:
        raise ValueError(f"{what} is a whole number; found {value!r}")
    return number


def _label(label):
    """Read a class's name or index; of numbers, only whole ones are one."""
    return label if isinstance(label, str) else _whole(label, "a class that is not given by name")


def num_channels(layer: str, shape: tuple[int, ...]) -> int:
    """Give the number of channels of a layer with values of this shape; ValueError where it has none."""
    if not shape:
        raise ValueError(f"{layer} is one number for each image, without channels; use an objective of your own")
    return shape[-1]


def _channel_index(layer, index):
    def arguments(model, shapes):
        channels = num_channels(layer, shapes[layer])
        if not 0 <= index < channels:
            raise ValueError(f"{layer} has channels 0 to {channels - 1}; found {index}")
        return (np.int32(index),)

    return arguments


def _class_index(label, layer):
    def arguments(model, shapes):
        if len(shapes[layer]) != 1:
            raise ValueError(f"{layer} has values of shape {shapes[layer]}, not one for each class; use channel(...)")
        return (np.int32(model.label_index(label, layer)),)

    return arguments


def _position(layer, row, column, alternative):
    """Read a position: what to call it, and what makes its indices in a given layer."""
    asked = [None if index is None else _whole(index, f"a position in {layer}") for index in (row, column)]

    def position(model, shapes):
        sizes = shapes[layer][:-1]
        if not sizes:
            raise ValueError(f"{layer} has no positions; use {alternative}")
        if len(sizes) == 1 and column is not None:
            raise ValueError(f"{layer} has {sizes[0]} positions in a row; give a row and no column")
        indices = [None] * (len(sizes) - 2) + asked[: len(sizes)]
        place = [size // 2 if index is None else index for index, size in zip(indices, sizes, strict=True)]
        if not all(-size <= index < size for index, size in zip(place, sizes, strict=True)):
            raise ValueError(f"{layer} has {' x '.join(map(str, sizes))} positions here; found {row}, {column}")
        return np.array([index % size for index, size in zip(place, sizes, strict=True)], np.int32)

    return "center" if asked == [None, None] else f"{asked[0]}, {asked[1]}", position


def _towards(name, layer, vector, measure, position: Callable[..., Any] | None = None, place=()):
    vector = np.asarray(vector, np.float32)

    def arguments(model, shapes):
        channels = num_channels(layer, shapes[layer])
        if vector.shape != (channels,):
            raise ValueError(f"a direction in {layer} has {channels} numbers; found shape {vector.shape}")
        return (vector, *([position(model, shapes)] if position else []))

    if not np.isfinite(vector).all() or not vector.any():
        raise ValueError("a direction is made of finite numbers, not all of them zero; found something else")
    return of_term(name, (layer,), measure, arguments, key=(fingerprint(vector), *place))


def check_power(power: float) -> float:
    """Check the power of a cosine."""
    if not power >= 0:
        raise ValueError(f"a power of the cosine is 0 or more; found {power}")
    return float(power)


# ---------------------------------------------------------------- arithmetic on a layer's values


def over_positions(values: jax.Array) -> jax.Array:
    """Average over all axes but the first."""
    return jnp.mean(values.reshape(values.shape[0], -1), axis=1)


def at_position(values: jax.Array, position: jax.Array) -> jax.Array:
    """Take the values (n, ..., channels) at one position, which may be traced: (n, channels)."""
    for index in position:
        values = jax.lax.dynamic_index_in_dim(values, index, axis=1, keepdims=False)
    return values


def cosines(values: jax.Array, vector: jax.Array) -> jax.Array:
    """Compute the cosines of the last axis with a vector."""
    norms = jnp.sqrt(jnp.sum(values**2, axis=-1) + 1e-12) * jnp.maximum(jnp.linalg.norm(vector, axis=-1), 1e-6)
    return jnp.sum(values * vector, axis=-1) / norms


def along(values: jax.Array, vector: jax.Array, power: float) -> jax.Array:
    """Compute dot * max(FLOOR, cosine) ** power over the last axis."""
    dot = jnp.sum(values * vector, axis=-1)
    return dot if power == 0 else dot * jnp.maximum(FLOOR, cosines(values, vector)) ** power
