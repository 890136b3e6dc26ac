"""The rules of `diffprog.attribute.rules`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from diffprog._util.numbers import check_positive
from diffprog.attribute._backward_rules.layers import First, Layer
from diffprog.attribute._backward_rules.signals import Signal
from diffprog.graph import Selector


@dataclass(frozen=True)
class Rule:
    """How a layer's relevance is divided; make one with the functions of `diffprog.attribute.rules`.

    Attributes:
      name: which rule.
      numbers: its parameters.
      box: bounds of the inputs, for the rule that has them.
    """

    name: str
    numbers: tuple[float, ...] = ()
    box: tuple[Any, Any] | None = field(default=None, compare=False)

    @property
    def reads_inputs(self) -> bool:
        """Whether it is for layers that read the inputs alone."""
        return self.name in ("z_box", "w_square", "flat")

    def __repr__(self) -> str:
        return f"rules.{self.name}({', '.join(map(str, self.box or self.numbers))})"


def zero() -> Rule:
    """Divide in proportion to the terms (LRP-0): of a network of ReLUs, gradient times input.

    Returns:
      A `Rule`.
    """
    return Rule("zero")


def epsilon(epsilon: float = 1e-6) -> Rule:
    """Divide in proportion, and let units near zero absorb (LRP-epsilon).

    Args:
      epsilon: what is added to the size of a unit's value, in units of that value.

    Returns:
      A `Rule`.
    """
    return Rule("epsilon", (check_positive(epsilon, "epsilon"),))


def gamma(gamma: float = 0.25) -> Rule:
    """Favor terms that have the sign of their sum (LRP-gamma), for inputs of any sign.

    Args:
      gamma: how much more these count.

    Returns:
      A `Rule`.
    """
    return Rule("gamma", (check_positive(gamma, "gamma"),))


def z_plus() -> Rule:
    """Divide among positive terms alone (z+, alpha-beta with 1 and 0).

    Returns:
      A `Rule`.
    """
    return Rule("alpha_beta", (1.0, 0.0))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Rule:
    """Divide among positive and negative terms apart. A unit without one of the two divides among the other.

    Args:
      alpha: weight of the positive terms.
      beta: weight of the negative terms, alpha - 1.

    Returns:
      A `Rule`.

    Raises:
      ValueError: alpha - beta is not 1.
    """
    if not (beta >= 0 and abs(alpha - beta - 1) < 1e-6):
        raise ValueError(f"alpha - beta must be 1 and beta not negative; found {alpha} and {beta}: try 2 and 1")
    return Rule("alpha_beta", (float(alpha), float(beta)))


def z_box(low: Any, high: Any) -> Rule:
    """Divide among inputs by how far they are from the bound that would speak least for the unit (z^B).

    Args:
      low: least value that an input can have: a number, or an array that broadcasts to the inputs, (1, h, w, c).
      high: largest value.

    Returns:
      A `Rule` for layers that read the inputs, in the inputs' own units.
    """
    return Rule("z_box", (), (low, high))


def w_square() -> Rule:
    """Divide among inputs by their squared weights (w^2).

    Returns:
      A `Rule` for layers that read the inputs.
    """
    return Rule("w_square")


def flat() -> Rule:
    """Divide among inputs alike.

    Returns:
      A `Rule` for layers that read the inputs.
    """
    return Rule("flat")


@dataclass(frozen=True)
class Composite:
    """Rules by kind of layer, depth and selector; make one with `composite`.

    Attributes:
      default: for layers that nothing else is said of.
      dense, convolution, first: for these kinds; None for the default.
      depths: (part of the layers that lie below, rule for layers from there on), in order.
      overrides: selector -> rule, which come first.
    """

    default: Rule
    dense: Rule | None = None
    convolution: Rule | None = None
    first: Rule | None = None
    depths: tuple[tuple[float, Rule], ...] = ()
    overrides: tuple[tuple[Selector, Rule], ...] = ()

    @property
    def box(self) -> tuple[Any, Any] | None:
        """The bounds of the inputs, where a rule has them."""
        rules = [self.default, self.dense, self.convolution, self.first, *(rule for _, rule in self.overrides)]
        return next((rule.box for rule in rules if rule is not None and rule.box is not None), None)

    def of(self, layer: Layer, total: int | None) -> Rule:
        """Choose the rule of a layer by what it is; overrides are not looked at."""
        if self.first is not None and "first" in layer.origin.notes:
            return self.first
        kind = self.convolution if _is_convolution(layer) else self.dense
        if kind is not None:
            return kind
        below = layer.index / (total or 1)
        return next((rule for start, rule in reversed(self.depths) if below >= start), self.default)


def _is_convolution(layer):
    """Take a product with each pixel of images for the convolution of size 1 that it is."""
    return layer.product.name != "dot_general" or layer.origin.value.ndim > 3


def composite(
    default: Rule | None = None,
    *,
    dense: Rule | None = None,
    convolution: Rule | None = None,
    first: Rule | None = None,
    depths: Sequence[tuple[float, Rule]] = (),
    overrides: Mapping[Selector, Rule] | None = None,
) -> Composite:
    """Choose rules by kind of layer, by depth, and by selector, the last first.

    Args:
      default: for layers that nothing else is said of; `epsilon()` if not given.
      dense: for products with a matrix.
      convolution: for convolutions, products with each pixel of images (n, h, w, c) among them.
      first: for layers that read the inputs, before any other layer and nonlinearity.
      depths: pairs (d, rule): the rule for layers of which at least the part d of all layers lies below, in [0, 1).
      overrides: from selectors, as of `dp.grad_at`, of the products (by path, line, primitive or a function) to rules.

    Returns:
      A `Composite`.

    Raises:
      ValueError: depths are not in order.
    """
    starts = [start for start, _ in depths]
    if starts != sorted(starts) or not all(0 <= start < 1 for start in starts):
        raise ValueError(f"depths must be pairs (d, rule) with growing d in [0, 1); found {starts}")
    if starts and (dense is not None or convolution is not None):
        raise ValueError("give rules by kind (dense=, convolution=) or by depth (depths=), not both")
    chosen = epsilon() if default is None else default
    return Composite(chosen, dense, convolution, first, tuple(depths), tuple((overrides or {}).items()))


def epsilon_plus(spare: float = 1e-6) -> Composite:
    """Use z+ for convolutions, and epsilon for dense layers.

    Args:
      spare: the epsilon of the epsilon rule.

    Returns:
      A `Composite`.
    """
    return composite(convolution=z_plus(), dense=epsilon(spare))


def epsilon_gamma_box(low: Any, high: Any, favor: float = 0.25, spare: float = 1e-6) -> Composite:
    """Use gamma for convolutions, epsilon for dense layers, and the box rule for the first.

    Args:
      low: least value that an input can have.
      high: largest value.
      favor: the gamma of the gamma rule.
      spare: the epsilon of the epsilon rule.

    Returns:
      A `Composite`.
    """
    return composite(convolution=gamma(favor), dense=epsilon(spare), first=z_box(low, high))


# ---------------------------------------------------------------- what they compute


def passed_on(rule: Rule, layer: Layer, result: Signal, with_bias: bool) -> Any:
    """Compute a layer's signal: the part of its value that each input is responsible for, times the input's share.

    Args:
      rule: the rule.
      layer: the layer.
      result: its value.
      with_bias: whether biases keep their part; otherwise it is divided among the inputs.
    """
    x, z = layer.origin, result.value
    signal = jnp.zeros_like(x.value) if x.tangent is None else x.tangent
    one = 1.0 if with_bias else 0.0
    if rule.reads_inputs:
        return _from_inputs(rule, layer, z)
    if rule.name in ("zero", "epsilon"):
        total = z if with_bias else layer.linear(x.value, 0.0)
        spare = rule.numbers[0] if rule.numbers else 0.0
        return _divided(z, total + jnp.where(total < 0, -spare, spare).astype(z.dtype)) * layer.linear(signal, one)
    positive, negative = layer.parts_of(x.value, x.value, one)
    up, down = layer.parts_of(signal, x.value, one)
    if rule.name == "gamma":
        favor = jnp.asarray(1 + rule.numbers[0], z.dtype)
        total = positive + negative
        a, b = jnp.where(total > 0, favor, 1), jnp.where(total > 0, 1, favor)
        return _divided(z, a * positive + b * negative) * (a * up + b * down)
    alpha, beta = (jnp.asarray(number, z.dtype) for number in rule.numbers)
    if rule.numbers[1] == 0:
        return _divided(z, positive) * up
    alpha_, beta_ = jnp.where(negative == 0, 1, alpha), jnp.where(negative == 0, 0, beta)
    alpha_, beta_ = jnp.where(positive == 0, 0, alpha_), jnp.where(positive == 0, -1, beta_)
    return alpha_ * _divided(z, positive) * up - beta_ * _divided(z, negative) * down


def _from_inputs(rule, layer, z):
    first: First | None = layer.origin.notes.get("first")
    if first is None:
        raise ValueError(
            f"{rule} is for layers that read the inputs, and {layer.product} reads what other layers compute: give it "
            "as rules.composite(first=...)"
        )
    if rule.name == "z_box":
        zero = jnp.zeros_like(first.x)
        bounds = lambda low, high: layer.parts(low, zero, 0.0)[0] + layer.parts(high, zero, 0.0)[1]
        total = layer.linear(first.x, 0.0) - bounds(first.low, first.high)
        part = layer.linear(first.x * first.share, 0.0) - bounds(first.low * first.share, first.high * first.share)
        return _divided(z, total) * part
    change = jnp.square if rule.name == "w_square" else jnp.ones_like
    total = layer.linear(jnp.ones_like(first.share), 0.0, change)
    return _divided(z, total) * layer.linear(first.share, 0.0, change)


def _divided(z, by):
    return jnp.where(by == 0, 0, z / jnp.where(by == 0, 1, by))
