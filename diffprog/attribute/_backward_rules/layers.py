"""Layers: products with weights and what is affine behind them, as one map with a positive and a negative part.

LRP's rules weigh the positive and the negative contributions to a unit differently. Both are linear programs made of
the layer's own operations: the products with the positive and the negative parts of its weights, followed by the same
scalings and biases, up to whatever is not affine any more. So batch normalization is part of the layer before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._tracer.linearity import is_linear_program
from diffprog.attribute._backward_rules.operations import Operation
from diffprog.attribute._backward_rules.signals import Constant, Signal, is_float

PRODUCTS = frozenset({"dot_general", "conv_general_dilated", "custom_vjp_call"})
_FOLLOWS = frozenset(
    "add add_any sub mul div neg convert_element_type copy broadcast_in_dim expand_dims reshape squeeze "
    "transpose".split()
)


@dataclass(frozen=True)
class First:
    """A value that is an affine function, element by element, of the points.

    Attributes:
      share: the points' shares, in the place of their elements.
      x: the points times their factors.
      low, high: the bounds of the points times their factors, in the order of size; None without bounds.
    """

    share: Any
    x: Any
    low: Any = None
    high: Any = None

    def after(self, operation: Operation) -> "First | None":
        """Follow an affine operation; None if it is not element by element."""
        if operation.name in ("add", "add_any", "sub") and operation.positions == [0]:
            return self
        if operation.name in ("mul", "div", "neg", "sub"):
            factor = _factor(operation)
            if self.low is None:
                return First(self.share, self.x * factor)
            low, high = self.low * factor, self.high * factor
            return First(self.share, self.x * factor, jnp.minimum(low, high), jnp.maximum(low, high))
        if operation.name in ("add", "add_any", "convert_element_type", "copy"):
            return self
        if operation.name in _FOLLOWS | {"pad", "rev", "slice"}:
            moved = lambda array: None if array is None else operation.bind([array, *operation.at("value")[1:]])[0]
            return First(*map(moved, (self.share, self.x, self.low, self.high)))
        return None


def _factor(operation):
    """Find the number that each element is multiplied by."""
    if operation.name == "neg" or operation.name == "sub":
        return -1
    (constant,) = [x.value for x in operation.args if isinstance(x, Constant)]
    return constant if operation.name == "mul" else 1 / constant


@dataclass(frozen=True)
class Layer:
    """A product with weights and the affine operations behind it.

    Attributes:
      origin: what is multiplied.
      product: the operation.
      steps: those behind it.
      index: its number in the program.
    """

    origin: Signal
    product: Operation
    steps: tuple[Operation, ...]
    index: int

    def followed_by(self, operation: Operation) -> "Layer | None":
        """Add an operation; None if it is none that belongs to a layer."""
        if operation.name in _FOLLOWS and operation.is_linear and len(operation.positions) == 1:
            return Layer(self.origin, self.product, (*self.steps, operation), self.index)
        return None

    def linear(self, x: Any, one: float, change: Callable[[Any], Any] = lambda weights: weights) -> Any:
        """Run the layer on an array.

        Args:
          x: like the origin.
          one: what biases are multiplied by.
          change: applied to the weights and the factors.
        """
        z = self._multiply(x, change)
        for step in self.steps:
            z = _linear_step(step, z, one, change)
        return z

    def parts(self, x_positive: Any, x_negative: Any, one: float) -> tuple[Any, Any]:
        """Add up positive and negative contributions apart, of elements of either sign.

        Args:
          x_positive: like the origin, zero where that is not positive.
          x_negative: likewise.
          one: what biases are multiplied by.
        """
        up, down = (lambda w: jnp.maximum(w, 0)), (lambda w: jnp.minimum(w, 0))
        positive = self._multiply(x_positive, up) + self._multiply(x_negative, down)
        negative = self._multiply(x_positive, down) + self._multiply(x_negative, up)
        for step in self.steps:
            positive, negative = _step(step, positive, negative, one)
        return positive, negative

    def parts_of(self, x: Any, split: Any, one: float) -> tuple[Any, Any]:
        """Apply `parts` to the elements of `x`, divided by the sign of those of `split`."""
        zero = jnp.zeros_like(x)
        return self.parts(jnp.where(split > 0, x, zero), jnp.where(split < 0, x, zero), one)

    def _multiply(self, x, change):
        (position,) = self.product.positions
        operands = [x if i == position else change(w) for i, w in enumerate(self.product.at("value"))]
        return self.product.bind(operands)[0]


def is_layer(operation: Operation) -> bool:
    """Whether an operation multiplies one value that depends on the points by weights."""
    if not (operation.name in PRODUCTS and len(operation.positions) == 1 and len(operation.args) == 2):
        return False
    if not (operation.is_linear and all(is_float(jnp.asarray(x.value)) for x in operation.args)):
        return False
    in_weights = tuple(i not in operation.positions for i in range(2))
    return all(is_linear_program(body, in_weights) for body in jaxprs_in(operation.params))


def _linear_step(step, z, one, change):
    (position,) = step.positions
    constants = [x.value for x in step.args if isinstance(x, Constant)]
    if step.name in ("add", "add_any"):
        return z + one * constants[0]
    if step.name == "sub":
        return z - one * constants[0] if position == 0 else one * constants[0] - z
    if step.name in ("mul", "div"):
        return z * change(constants[0]) if step.name == "mul" else z * change(1 / constants[0])
    return step.bind([z])[0]


def _step(step, positive, negative, one):
    (position,) = step.positions
    constants = [x.value for x in step.args if isinstance(x, Constant)]
    if step.name == "neg":
        return -negative, -positive
    if step.name in ("add", "add_any", "sub"):
        bias = constants[0]
        if step.name == "sub" and position == 0:
            bias = -bias
        elif step.name == "sub":
            positive, negative = -negative, -positive
        return positive + one * jnp.maximum(bias, 0), negative + one * jnp.minimum(bias, 0)
    if step.name in ("mul", "div"):
        factor = constants[0] if step.name == "mul" else 1 / constants[0]
        up, down = jnp.maximum(factor, 0), jnp.minimum(factor, 0)
        return up * positive + down * negative, up * negative + down * positive
    return step.bind([positive])[0], step.bind([negative])[0]
