"""DeepLIFT's RevealCancel: positive and negative parts of a difference are passed on apart."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from diffprog.attribute._backward_rules.deeplift import DeepLift, shapley
from diffprog.attribute._backward_rules.elementwise import replay, secant
from diffprog.attribute._backward_rules.following import Following
from diffprog.attribute._backward_rules.layers import Layer, is_layer
from diffprog.attribute._backward_rules.operations import MOVES, Operation, tangent
from diffprog.attribute._backward_rules.signals import Constant, Signal, is_float

_SUMS = frozenset("add add_any sub neg mul div convert_element_type copy".split())


class RevealCancel(DeepLift):
    """Rescale, but where a sum goes into a nonlinearity: its positive and negative terms are two players there."""

    def elementwise(self, state: Following, operation: Operation, result: Signal) -> None:
        """Keep the parts of sums apart, and share a nonlinearity between them by Shapley's formula."""
        super().elementwise(state, operation, result)
        root = result.parent
        if not is_float(result.value):
            return
        if operation.is_linear and operation.name in _SUMS:
            result.passes(operation.signals, lambda: _kept(result, _summed(operation)))
        elif operation.name == "exp" or result.notes.get("reduced") or result.notes.get("statistic"):
            return  # of parts that cancel, an exponential explodes; a part of a variance alone is no variance
        elif not operation.is_linear and root is not None and is_float(root.value):
            result.passes([root], lambda: _kept(result, _shared(root, result)))

    def other(self, state: Following, operation: Operation, results: Sequence[Signal]) -> None:
        """Keep the parts of what layers, moves and sums over axes make apart."""
        super().other(state, operation, results)
        if len(results) != 1 or not is_float(results[0].value):
            return
        (result,) = results
        if is_layer(operation):
            result.passes(operation.signals, lambda: _kept(result, _multiplied(operation)))
        elif operation.is_linear and operation.name in MOVES | {"reduce_sum"} and len(operation.signals) == 1:
            result.passes(operation.signals, lambda: _kept(result, _moved(operation)))

    def larger(self, operation: Operation, result: Signal) -> Any:
        """Share the maximum or minimum of two values by Shapley's formula."""
        return shapley(operation, result)


def _kept(result, parts):
    """Remember parts (difference up, down, signal up, down), and return the signal."""
    result.notes["parts"] = parts
    return parts[2] + parts[3]


def _parts(signal: Signal) -> tuple:
    if "parts" not in signal.notes:
        moved, passed = signal.value - signal.base, tangent(signal)
        up, down = moved > 0, moved < 0
        only = lambda array, where: jnp.where(where, array, 0)
        signal.notes["parts"] = only(moved, up), only(moved, down), only(passed, up), only(passed, down)
    return signal.notes["parts"]


def _flipped(parts):
    up, down, signal_up, signal_down = parts
    return -down, -up, -signal_down, -signal_up


def _summed(operation):
    if operation.name in ("mul", "div"):
        (signal,) = operation.signals
        (factor,) = [x.value for x in operation.args if isinstance(x, Constant)]
        factor = factor if operation.name == "mul" else 1 / factor
        return _times(factor, _parts(signal))
    total = None
    for i, signal in zip(operation.positions, operation.signals, strict=True):
        parts = _parts(signal)
        if operation.name == "neg" or (operation.name == "sub" and i == 1):
            parts = _flipped(parts)
        total = parts if total is None else tuple(a + b for a, b in zip(total, parts, strict=True))
    dtype = operation.results[0].dtype
    return tuple(part.astype(dtype) for part in total)


def _times(factor, parts):
    rise, fall = jnp.maximum(factor, 0), jnp.minimum(factor, 0)
    up, down, signal_up, signal_down = parts
    mix = lambda first, second: rise * first + fall * second
    return mix(up, down), mix(down, up), mix(signal_up, signal_down), mix(signal_down, signal_up)


def _multiplied(operation):
    (signal,) = operation.signals
    up, down, signal_up, signal_down = _parts(signal)
    layer = Layer(signal, operation, (), 0)
    return (*layer.parts(up, down, 0.0), *layer.parts(signal_up, signal_down, 0.0))


def _moved(operation):
    (signal,), (position,) = operation.signals, operation.positions
    run = lambda array: operation.bind([array if i == position else x for i, x in enumerate(_zeros(operation))])[0]
    return tuple(map(run, _parts(signal)))


def _zeros(operation):
    return [jnp.zeros_like(x.value) for x in operation.args]


def _shared(root, result):
    up, down, signal_up, signal_down = _parts(root)
    start = root.base
    f = lambda z: replay(root, result, z)
    here, risen, fallen, there = f(start), f(start + up), f(start + down), f(start + (up + down))
    rise = ((risen - here) + (there - fallen)) / 2
    fall = ((fallen - here) + (there - risen)) / 2
    over = lambda change, by: jnp.where(by == 0, 0, change / jnp.where(by == 0, 1, by)).astype(change.dtype)
    defined = jnp.isfinite(risen) & jnp.isfinite(fallen)  # one part alone may leave the domain, as of a square root
    slope = secant(root, result)
    rising, falling = (jnp.where(defined, over(*pair), slope) for pair in ((rise, up), (fall, down)))
    return rising * up, falling * down, rising * signal_up, falling * signal_down
