"""What a picture is to excite: a unit, a channel, a layer, a direction, a class; and sums and multiples of these.

An objective gives each image of a batch a score, which is *maximised*. Objectives form a vector space: `a + b`,
`a - b`, `-a`, `2 * a`, `a / 2` and `sum([a, b])` score images by the same arithmetic on the scores of a and b.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Objective:
    """A score for each image, from the values of some layers.

    name: for captions. layers: the names of the layers that it reads.
    score: `score(model, values) -> (n,)`, where `values` maps each of those names to its batch of values.
    """

    name: str
    layers: frozenset[str]
    score: Callable

    def checked(self, model):
        """Itself; ValueError if `model` lacks a layer, a channel or a class that it names. Nothing is computed."""
        shapes = {name: model.layers[name] for name in model.checked_layers(sorted(self.layers))}
        jax.eval_shape(lambda: self.score(model, {name: jnp.zeros((1, *shape)) for name, shape in shapes.items()}))
        return self

    def __add__(self, other):
        other = _objective(other)
        if other is None:
            return NotImplemented
        both = lambda model, values: self.score(model, values) + other.score(model, values)
        return Objective(f"{self.name} + {other.name}", self.layers | other.layers, both)

    def __mul__(self, factor):
        if not isinstance(factor, Real):
            return NotImplemented
        multiple = lambda model, values: factor * self.score(model, values)
        return Objective(f"{factor:g} ({self.name})", self.layers, multiple)

    def __neg__(self):
        return -1 * self

    def __sub__(self, other):
        return NotImplemented if _objective(other) is None else self + (-1 * _objective(other))

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, divisor):
        return self * (1 / divisor) if isinstance(divisor, Real) else NotImplemented

    __radd__ = __add__
    __rmul__ = __mul__


def _objective(other):
    """An objective, or a number as the objective that scores every image so; None for anything else."""
    if isinstance(other, Objective):
        return other
    if isinstance(other, Real):
        return Objective(f"{other:g}", frozenset(), lambda model, values: jnp.asarray(other, jnp.float32))
    return None


def channel(layer, index):
    """The mean of one channel over all positions (of the logits: one logit)."""
    name = f"{layer}:{index}"
    return _reading(name, layer, lambda values: _over_positions(_channel(values, layer, index)))


def neuron(layer, index, row=None, column=None):
    """One channel at one position; the central one unless a row and a column are given."""

    def score(values):
        grid = _channel(values, layer, index)
        if grid.ndim != 3:
            raise ValueError(f"{layer} has no positions; use channel({layer!r}, {index})")
        position = [size // 2 if at is None else at for at, size in zip((row, column), grid.shape[1:], strict=True)]
        if not all(-size <= at < size for at, size in zip(position, grid.shape[1:], strict=True)):
            raise ValueError(f"{layer} has {grid.shape[1]} x {grid.shape[2]} positions here; found {row}, {column}")
        return grid[:, position[0], position[1]]

    place = "centre" if row is None and column is None else f"{row}, {column}"
    return _reading(f"{layer}:{index} at {place}", layer, score)


def layer(name):
    """The mean square of a whole layer: whatever it sees, more of it (DeepDream, Mordvintsev et al. 2015)."""
    return _reading(name, name, lambda values: jnp.mean(_flat(values) ** 2, axis=1))


def direction(layer, vector, cosine_power=0):
    """The mean over positions of dot(value, vector) * max(0.1, cosine(value, vector)) ** cosine_power.

    vector: one number per channel. A power above 0 asks for values that point that way and nowhere else (Carter et
    al. 2019, Activation Atlas).
    """
    vector = np.asarray(vector, np.float32)

    def score(values):
        if vector.shape != values.shape[-1:]:
            raise ValueError(f"a direction in {layer} has {values.shape[-1]} numbers; found shape {vector.shape}")
        dot = values @ vector
        if cosine_power == 0:
            return _over_positions(dot)
        norms = jnp.sqrt(jnp.sum(values**2, axis=-1) + 1e-12) * max(float(np.linalg.norm(vector)), 1e-6)
        return _over_positions(dot * jnp.maximum(0.1, dot / norms) ** cosine_power)

    return _reading(f"direction in {layer}", layer, score)


def logit(label):
    """The logit of a class, by name ("volcano"), synonym or number."""
    score = lambda model, values: values["logits"][:, model.label_index(label)]
    return Objective(str(label), frozenset(["logits"]), score)


def _reading(name, layer, score):
    return Objective(name, frozenset([layer]), lambda model, values: score(values[layer]))


def _channel(values, layer, index):
    if not 0 <= index < values.shape[-1]:
        raise ValueError(f"{layer} has channels 0 to {values.shape[-1] - 1}; found {index}")
    return values[..., index]


def _flat(values):
    return values.reshape(values.shape[0], -1)


def _over_positions(values):
    return jnp.mean(_flat(values), axis=1)
