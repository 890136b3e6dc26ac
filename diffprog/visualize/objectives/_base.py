"""Objectives: what a picture is scored by, and how scores are added.

An objective is a linear combination of terms. It gives each picture of a batch a score, which is *maximized*, and it
keeps its terms: `a + b`, `a - b`, `-a`, `2 * a`, `a / 2` and `sum([a, b])` are exact arithmetic on their weights, and a
rendering reports each term's history beside the sum's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._util.promotion import callers_promotion, own_promotion
from diffprog.models import Model

PICTURE = "image"  # the pseudo-layer that is the picture itself, before it is transformed


def _no_arguments(model, shapes):
    return ()


@dataclass(frozen=True)
class Term:
    """One measurement of a picture. Terms of equal `name`, `layers`, `measure` and `key` are the same.

    Attributes:
      name: For captions.
      layers: Names of the layers that it reads; "image" is the picture.
      measure: `measure(values, *arguments) -> (n,)`, where `values` maps each layer's name to its n values. Terms of
        one measure, such as two channels of one layer, share a compiled program.
      arguments: `arguments(model, shapes)` makes the arrays that `measure` takes, such as a channel's index. `shapes`
        are the layers', without the batch. Raises ValueError for what the model lacks.
      key: What the arguments are made of, to tell terms apart.
      joint: Whether it compares the pictures of a batch; such a term takes no arguments.
    """

    name: str
    layers: tuple[str, ...]
    measure: Callable = field(repr=False)
    arguments: Callable[..., tuple] = field(default_factory=lambda: _no_arguments, compare=False, repr=False)
    key: tuple = field(default=(), repr=False)
    joint: bool = False


@dataclass(frozen=True)
class Objective:
    """A linear combination of terms, which is maximized.

    Attributes:
      weights: Maps each term to its factor.
      constant: A number that is added.
    """

    weights: dict[Term, float]
    constant: float = 0.0

    @property
    def name(self) -> str:
        """A formula, for captions."""
        parts = [term.name if weight == 1 else f"{weight:g} ({term.name})" for term, weight in self.weights.items()]
        return " + ".join(parts + [f"{self.constant:g}"] * (self.constant != 0 or not parts))

    @property
    def layers(self) -> frozenset[str]:
        """The names of the layers that it reads."""
        return frozenset(name for term in self.weights for name in term.layers)

    @own_promotion()
    def check(self, model: Model) -> "Objective":
        """Check that a model has what the objective names; nothing is computed.

        Args:
          model: The network.

        Returns:
          The objective itself.

        Raises:
          ValueError: The model lacks a layer, a channel or a class.
        """
        names = model.check_layers(sorted(self.layers - {PICTURE}))
        shapes = {name: model.layers[model.layer_name(name)] for name in names}
        self.term_arguments(model, shapes | {PICTURE: model.shape})
        return self

    @own_promotion()
    def term_arguments(self, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple]:
        """Make the arguments of each term's measure.

        Args:
          model: The network.
          shapes: Maps each layer that the objective reads to the shape of one value.

        Returns:
          A tuple of arrays for each term, in the order of `weights`.

        Raises:
          ValueError: A term does not fit the model or the shapes.
        """
        arguments = [term.arguments(model, shapes) for term in self.weights]
        for term, term_arguments in zip(self.weights, arguments, strict=True):
            values = {name: jax.ShapeDtypeStruct((2, *shapes[name]), jnp.float32) for name in term.layers}
            scores = jax.eval_shape(term.measure, values, *term_arguments)
            if getattr(scores, "shape", None) != (2,):
                shape = getattr(scores, "shape", type(scores).__name__)
                raise ValueError(f"{term.name} must give one score per picture, (2,) for two; found {shape}")
        return arguments

    @own_promotion()
    def score(self, model: Model, values: Mapping[str, jax.Array]) -> jax.Array:
        """Score pictures by what the layers say.

        Args:
          model: The network.
          values: Maps each layer that the objective reads to its values (n, ...).

        Returns:
          Scores (n,).
        """
        shapes = {name: value.shape[1:] for name, value in values.items()}
        scores = jnp.full(len(next(iter(values.values()))), self.constant, jnp.float32)
        for term, weight in self.weights.items():
            scores = scores + weight * term.measure(values, *term.arguments(model, shapes))
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
    """Turn a number into the objective that scores every picture so; give None for what is no objective."""
    if isinstance(other, Objective):
        return other
    return Objective({}, float(other)) if isinstance(other, Real) else None


def of_term(*arguments: Any, **options: Any) -> Objective:
    """Make the objective of one term, from the arguments of `Term`."""
    return Objective({Term(*arguments, **options): 1.0})


def objective(
    function: Callable[[Mapping[str, jax.Array]], jax.Array], layers: str | Sequence[str], name: str | None = None
) -> Objective:
    """Make an objective of your own.

    Args:
      function: `function(values) -> (n,)`, differentiable. `values` maps each of the `layers` to its n values (n, ...),
        and "image" to the pictures (n, height, width, channels).
      layers: Names of the layers that the function reads; "image" is the picture.
      name: For captions; the function's name by default.

    Returns:
      An `Objective`.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names:
        raise ValueError('an objective reads at least one layer, or "image"; found none')
    return of_term(name or getattr(function, "__name__", "objective"), names, UserMeasure(function))


@dataclass(frozen=True)
class UserMeasure:
    """A measure that a user wrote, which runs under the user's settings of JAX.

    Attributes:
      function: The user's.
    """

    function: Callable

    def __call__(self, values: Mapping[str, jax.Array]) -> jax.Array:
        """Measure."""
        with callers_promotion():
            return self.function(values)
