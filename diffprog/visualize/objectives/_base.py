"""What a picture is scored by, and how such scores are added.

An objective is a linear combination of terms. It gives each picture of a batch a score, which is *maximized*, and it
keeps its terms: `a + b`, `a - b`, `-a`, `2 * a`, `a / 2` and `sum([a, b])` are exact arithmetic on their weights, and a
rendering reports each term's history beside the sum's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real

import jax
import jax.numpy as jnp

PICTURE = "image"  # the pseudo-layer that is the picture itself, before it is transformed


@dataclass(frozen=True)
class Term:
    """One measurement of a picture. Terms of equal `name`, `layers`, `measure` and `key` are the same.

    layers:  the names of the layers that it reads, or "image".
    measure: `measure(values, *numbers) -> (n,)`, where `values` maps each of those names to its batch of n values. Two
        terms of one measure, such as two channels of one layer, share a compiled program.
    numbers: `numbers(model, shapes)` -> a tuple of arrays that `measure` takes, say the channel's index; `shapes` are
        the layers' without the batch. Raises ValueError for what the model lacks.
    key:     what the numbers are made of, to tell terms apart.
    joint:   whether it looks at all pictures of a batch together; such a term takes no numbers.
    """

    name: str
    layers: tuple[str, ...]
    measure: Callable = field(repr=False)
    numbers: Callable = field(default=lambda model, shapes: (), compare=False, repr=False)
    key: tuple = field(default=(), repr=False)
    joint: bool = False


@dataclass(frozen=True)
class Objective:
    """A linear combination of terms: `weights` maps each to its factor; `constant` is added."""

    weights: dict[Term, float]
    constant: float = 0.0

    @property
    def name(self):
        """For captions."""
        parts = [term.name if weight == 1 else f"{weight:g} ({term.name})" for term, weight in self.weights.items()]
        return " + ".join(parts + [f"{self.constant:g}"] * (self.constant != 0 or not parts))

    @property
    def layers(self):
        """The names of the layers that it reads."""
        return frozenset(name for term in self.weights for name in term.layers)

    def check(self, model):
        """Itself; ValueError if `model` lacks a layer, a channel or a class that it names. Nothing is computed."""
        names = model.check_layers(sorted(self.layers - {PICTURE}))
        shapes = {name: model.layers[model.layer_name(name)] for name in names}
        self.measured(model, shapes | {PICTURE: (model.size, model.size, model.channels)})
        return self

    def measured(self, model, shapes):
        """The numbers of each term, for layers of these shapes; ValueError where a term does not fit them."""
        numbers = [term.numbers(model, shapes) for term in self.weights]
        for term, given in zip(self.weights, numbers, strict=True):
            values = {name: jax.ShapeDtypeStruct((2, *shapes[name]), jnp.float32) for name in term.layers}
            found = jax.eval_shape(term.measure, values, *given)
            if getattr(found, "shape", None) != (2,):
                shape = getattr(found, "shape", type(found).__name__)
                raise ValueError(f"{term.name} must give one score per picture, (2,) for two; found {shape}")
        return numbers

    def score(self, model, values):
        """(n,) scores of n pictures, from the values (n, ...) of the layers that it reads."""
        shapes = {name: value.shape[1:] for name, value in values.items()}
        scores = jnp.full(len(next(iter(values.values()))), self.constant, jnp.float32)
        for term, weight in self.weights.items():
            scores = scores + weight * term.measure(values, *term.numbers(model, shapes))
        return scores

    def __repr__(self):
        return f"Objective({self.name})"

    def __hash__(self):
        return hash((frozenset(self.weights.items()), self.constant))

    def __add__(self, other):
        other = _objective(other)
        if other is None:
            return NotImplemented
        weights = dict(self.weights)
        for term, weight in other.weights.items():
            weights[term] = weights.get(term, 0.0) + weight
        return Objective({term: w for term, w in weights.items() if w != 0}, self.constant + other.constant)

    def __mul__(self, factor):
        if not isinstance(factor, Real):
            return NotImplemented
        if not isfinite(factor):
            raise ValueError(f"an objective is multiplied by finite numbers; found {factor}")
        factor = float(factor)
        return Objective({t: factor * w for t, w in self.weights.items() if factor * w != 0}, factor * self.constant)

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
    """An objective, or a number as the objective that scores every picture so; None for anything else."""
    if isinstance(other, Objective):
        return other
    return Objective({}, float(other)) if isinstance(other, Real) else None


def of_term(*arguments, **how):
    """The objective of one term."""
    return Objective({Term(*arguments, **how): 1.0})


def objective(function, layers, name=None):
    """An objective of your own.

    function: `function(values) -> (n,)`, differentiable, where `values` maps each of the `layers` to its batch of n
        values (n, ...), and "image" to the pictures (n, height, width, channels).
    layers:   the names that it reads, in a list.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names:
        raise ValueError('an objective reads at least one layer, or "image"; found none')
    return of_term(name or getattr(function, "__name__", "objective"), names, function)
