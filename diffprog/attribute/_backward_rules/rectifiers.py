"""Guided backpropagation and deconvnet: other derivatives for whatever behaves as a ReLU."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diffprog.attribute._backward_rules.elementwise import rectifier_slope, ride
from diffprog.attribute._backward_rules.following import Following
from diffprog.attribute._backward_rules.operations import Operation, ordinary, shared
from diffprog.attribute._backward_rules.signals import Signal, is_float

# Functions that are straight almost everywhere, or that choose: their derivative is all that can be passed on.
_CHOICES = frozenset("max min clamp select_n abs sign floor ceil round copy copy_p".split())

_FARTHEST = 8  # operations by which a ReLU is written, at most


class Rectifiers:
    """The derivative everywhere, but for ReLUs.

    Attributes:
      is_paired: no baseline is carried along.
      is_guided: whether a ReLU passes back what is positive where it is active (guided backpropagation), or what is
        positive anywhere (deconvnet).
      found: how many ReLUs there were.
    """

    is_paired = False

    def __init__(self, is_guided: bool):
        self.is_guided, self.found = is_guided, 0

    def elementwise(self, state: Following, operation: Operation, result: Signal) -> None:
        """Look for ReLUs; any other function passes on its derivative, and is noted if it is no choice or sum."""
        if not is_float(result.value):
            return
        straight = operation.is_linear and len(operation.signals) == 1
        for root in [] if straight else itertools.islice(result.chain(), 1, _FARTHEST):
            slope = rectifier_slope(root, result) if is_float(root.value) else None
            if slope is not None:
                result.passes([root], functools.partial(self._rectified, root, result, slope))
                return
        result.passes(operation.signals, lambda: self._derivative(state, operation))

    def other(self, state: Following, operation: Operation, results: Sequence[Signal]) -> None:
        """Pass on the derivative."""
        if operation.name == "stop_gradient":
            return
        one = shared(lambda: operation.on_signals() if operation.is_linear else ordinary(state, operation))
        for i, result in enumerate(results):
            if is_float(result.value):
                result.passes(operation.signals, one(i))

    def _rectified(self, root, result, slope):
        if root.tangent is None:
            return None
        self.found += 1
        if self.is_guided:
            return _rectified(root.tangent, ride(root, result, "value")[0])
        return _rectified(root.tangent, jnp.full_like(root.value, slope))

    def _derivative(self, state, operation):
        if all(signal.tangent is None for signal in operation.signals):
            return None
        if operation.is_linear:
            return operation.on_signals()[0]
        if operation.name not in _CHOICES and len(operation.signals) == 1:
            state.has_no_rule_for(operation, ", which is no ReLU: its derivative")
        return operation.derivative()[0]


@jax.custom_vjp
def _rectified(signal: Any, slope: Any) -> Any:
    return signal * slope


def _forward(signal, slope):
    return signal * slope, slope


def _backward(slope, g):
    return jnp.maximum(g, 0) * slope, None


_rectified.defvjp(_forward, _backward)
