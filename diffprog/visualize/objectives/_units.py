"""What a picture is to excite: a neuron, a channel, a layer, a direction, a class."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.fingerprint import fingerprint
from diffprog.visualize.objectives._base import of_term

FLOOR = 0.1  # of the cosine, below which a direction's score stops falling (Carter et al. 2019)


def channel(layer, index):
    """The mean of one channel over all positions (of the logits: one logit)."""
    return of_term(f"{layer}:{index}", (layer,), _channel_of(layer), _index(layer, index), key=(index,))


@cache
def _channel_of(layer):
    return lambda values, index: over_positions(values[layer][..., index])


def neuron(layer, index, row=None, column=None):
    """One channel at one position; the central one unless a row and a column are given.

    Of a layer of tokens (n, tokens, channels), `row` is the token.
    """
    place = "center" if row is None and column is None else f"{row}, {column}"
    position = _position(layer, row, column, f"channel({layer!r}, {index})")
    numbers = lambda model, shapes: (*_index(layer, index)(model, shapes), position(model, shapes))
    return of_term(f"{layer}:{index} at {place}", (layer,), _neuron_of(layer), numbers, key=(index, row, column))


@cache
def _neuron_of(layer):
    return lambda values, index, position: at_position(values[layer], position)[:, index]


def layer(name):
    """The mean square of a whole layer: whatever it sees, more of it (DeepDream, Mordvintsev et al. 2015)."""
    return of_term(name, (name,), _layer_of(name))


@cache
def _layer_of(layer):
    return lambda values: over_positions(values[layer] ** 2)


def direction(layer, vector, cosine_power=0):
    """The mean over positions of dot(value, vector) * max(0.1, cosine(value, vector)) ** cosine_power.

    vector: one number per channel; a weighted group of channels, for example. A power above 0 asks for values that
    point that way and nowhere else (Carter et al. 2019, Activation Atlas).
    """
    measure = _direction_of(layer, check_power(cosine_power))
    return _towards(f"direction in {layer}", layer, vector, measure)


@cache
def _direction_of(layer, power):
    return lambda values, vector: over_positions(along(values[layer], vector, power))


def direction_at(layer, vector, row=None, column=None, cosine_power=0):
    """`direction` at one position alone; the central one unless a row and a column are given."""
    place = "center" if row is None and column is None else f"{row}, {column}"
    position = _position(layer, row, column, f"direction({layer!r}, ...)")
    measure = _direction_at_of(layer, check_power(cosine_power))
    return _towards(f"direction in {layer} at {place}", layer, vector, measure, position, (row, column))


@cache
def _direction_at_of(layer, power):
    return lambda values, vector, position: along(at_position(values[layer], position), vector, power)


def cosine(layer, vector):
    """The mean over positions of cosine(value, vector): -1 .. 1, whatever the values' lengths."""
    return _towards(f"cosine in {layer}", layer, vector, _cosine_of(layer))


@cache
def _cosine_of(layer):
    return lambda values, vector: over_positions(cosines(values[layer], vector))


def logit(label, layer="logits"):
    """The logit of a class, by name ("volcano"), synonym or number."""
    return of_term(str(label), (layer,), _logit_of(layer), _label(label), key=(label,))


@cache
def _logit_of(layer):
    return lambda values, index: values[layer][:, index]


def log_probability(label, layer="logits"):
    """The logarithm of the probability of a class: at the other classes' expense, where `logit` ignores them."""
    return of_term(f"log p({label})", (layer,), _log_probability_of(layer), _label(label), key=(label,))


@cache
def _log_probability_of(layer):
    return lambda values, index: jax.nn.log_softmax(values[layer])[:, index]


def class_of(objective):
    """The class that an objective names, as it was given, if it is the logit or log-probability of one; else None."""
    term, *others = objective.weights or [None]
    kinds = (_logit_of(term.layers[0]), _log_probability_of(term.layers[0])) if term else ()
    return term.key[0] if not others and term and term.measure in kinds else None


# ---------------------------------------------------------------- numbers, for a given model


def _index(layer, index):
    def numbers(model, shapes):
        if not 0 <= index < shapes[layer][-1]:
            raise ValueError(f"{layer} has channels 0 to {shapes[layer][-1] - 1}; found {index}")
        return (np.int32(index),)

    return numbers


def _label(label):
    return lambda model, shapes: (np.int32(model.label_index(label)),)


def _position(layer, row, column, instead):
    def numbers(model, shapes):
        sizes = shapes[layer][:-1]
        if len(sizes) not in (1, 2):
            raise ValueError(f"{layer} has no positions; use {instead}")
        wanted = (row, column)[: len(sizes)]
        if len(sizes) == 1 and column is not None:
            raise ValueError(f"{layer} has {sizes[0]} positions in a row; give a row and no column")
        place = [size // 2 if at is None else at for at, size in zip(wanted, sizes, strict=True)]
        if not all(-size <= at < size for at, size in zip(place, sizes, strict=True)):
            raise ValueError(f"{layer} has {' x '.join(map(str, sizes))} positions here; found {row}, {column}")
        return np.array([at % size for at, size in zip(place, sizes, strict=True)], np.int32)

    return numbers


def _towards(name, layer, vector, measure, position=None, place=()):
    vector = np.asarray(vector, np.float32)

    def numbers(model, shapes):
        if vector.shape != shapes[layer][-1:]:
            raise ValueError(f"a direction in {layer} has {shapes[layer][-1]} numbers; found shape {vector.shape}")
        return (vector, *([position(model, shapes)] if position else []))

    if not np.isfinite(vector).all() or not vector.any():
        raise ValueError("a direction is made of finite numbers, not all of them zero; found something else")
    return of_term(name, (layer,), measure, numbers, key=(fingerprint(vector), *place))


def check_power(power):
    if not power >= 0:
        raise ValueError(f"a power of the cosine is 0 or more; found {power}")
    return float(power)


# ---------------------------------------------------------------- arithmetic on a layer's values


def over_positions(values):
    """The mean of all but the first axis."""
    return jnp.mean(values.reshape(values.shape[0], -1), axis=1)


def at_position(values, position):
    """(n, ..., channels) at one position, which may be traced -> (n, channels)."""
    for at in position:
        values = jax.lax.dynamic_index_in_dim(values, at, axis=1, keepdims=False)
    return values


def cosines(values, vector):
    """The cosines of the last axis with `vector`."""
    norms = jnp.sqrt(jnp.sum(values**2, axis=-1) + 1e-12) * jnp.maximum(jnp.linalg.norm(vector, axis=-1), 1e-6)
    return jnp.sum(values * vector, axis=-1) / norms


def along(values, vector, power):
    """dot * max(FLOOR, cosine) ** power over the last axis."""
    dot = jnp.sum(values * vector, axis=-1)
    return dot if power == 0 else dot * jnp.maximum(FLOOR, cosines(values, vector)) ** power
