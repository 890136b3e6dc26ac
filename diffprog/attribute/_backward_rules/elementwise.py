"""Elementwise functions of one value: their secants, and their derivatives with a bound of their rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attribute._backward_rules.signals import Constant, Signal, as_float, is_float

# More than one to each side of zero: a shifted or a smooth function is no ReLU.
_PROBES = (-3.0, -1.0, -0.25, 0.25, 0.5, 1.0)


def cluster(root: Signal, result: Signal) -> list[Signal]:
    """List the values between `root` and an elementwise function of it, which comes last, without `root`."""
    found: dict[int, Signal] = {}
    stack = [result]
    while stack:
        signal = stack.pop()
        if signal is not root and signal.serial not in found:
            found[signal.serial] = signal
            stack += signal.operation.signals
    return [found[serial] for serial in sorted(found)]


def replay(root: Signal, result: Signal, z: Any) -> Any:
    """Evaluate an elementwise function of a value at other values of it."""
    found = {root.serial: z}
    for signal in cluster(root, result):
        operands = [found[x.serial] if isinstance(x, Signal) else x.value for x in signal.operation.args]
        found[signal.serial] = signal.operation.bind(operands)[0]
    return found[result.serial]


def ride(root: Signal, result: Signal, end: str) -> tuple[Any, Any]:
    """Differentiate an elementwise function of a value by forward mode.

    At a kink it is the slope on the left, in every spelling of the function: the derivative is taken a few units in
    the last place below the value.

    Returns:
      The derivative at one end, and a bound of the rounding error of the function there, to first order: each
      operation rounds its result, and multiplies the errors of its operands by its derivatives.
    """
    memo = root.notes.setdefault(("ride", end), {})
    if not memo:
        z = root.at(end)
        memo[root.serial] = below(z), jnp.ones_like(z), None
    for signal in cluster(root, result):
        if signal.serial not in memo:
            memo[signal.serial] = _ride_one(signal, memo, end)
    _, slope, doubt = memo[result.serial]
    return slope, doubt


def below(z: Any) -> Any:
    """Go a few units in the last place down."""
    eps, tiny = jnp.finfo(z.dtype).eps, float(jnp.finfo(z.dtype).tiny)
    return z - 4 * eps * jnp.maximum(abs(z), tiny**0.5)


def slope_in(operation: Any, operands: list, i: int, x: Any) -> Any:
    """Differentiate an operation in one operand, at a value of it; on the left of a kink."""
    operands = [below(x) if k == i else operand for k, operand in enumerate(operands)]
    return _along(operation, operands, {i: jnp.ones_like(x)})


def _ride_one(signal, memo, end):
    operation = signal.operation
    operands = [memo[x.serial][0] if isinstance(x, Signal) else x.at(end) for x in operation.args]
    traced = [i for i in operation.positions if is_float(operands[i])]
    y = operation.bind(operands)[0]
    if not is_float(y):
        return y, None, None
    slope = _along(operation, operands, {i: memo[operation.args[i].serial][1] for i in traced})
    doubt = jnp.finfo(y.dtype).eps * abs(y)
    for i in traced:
        error = memo[operation.args[i].serial][2]
        if error is not None:
            doubt = doubt + abs(_along(operation, operands, {i: error}))
    return y, slope, doubt


def _along(operation, operands, tangents):
    tangents = {i: t for i, t in tangents.items() if t is not None}
    if not tangents:
        return jnp.zeros_like(operation.results[0])
    moving = list(tangents)

    def run(*changed):
        new = dict(zip(moving, changed, strict=True))
        return operation.bind([new.get(i, x) for i, x in enumerate(operands)])[0]

    return jax.jvp(run, [operands[i] for i in moving], [tangents[i].astype(operands[i].dtype) for i in moving])[1]


def secant(root: Signal, result: Signal) -> Any:
    """Compute the multiplier of an elementwise function: the difference of its values over that of its arguments.

    Where the derivative (the mean of those at both ends) explains the difference up to its rounding, it is the
    derivative: the error of the sum is then at most the rounding of the function itself, whatever the difference.
    """
    dtype = root.value.dtype if is_float(root.value) else jnp.zeros(()).dtype
    z, z0, y, y0 = (as_float(x, dtype) for x in (root.value, root.base, result.value, result.base))
    over, up = z - z0, y - y0
    quotient = jnp.where(over == 0, 0, up.astype(dtype) / jnp.where(over == 0, 1, over))
    if not (is_float(root.value) and is_float(result.value)):
        return quotient
    (slope, doubt), (slope0, doubt0) = (ride(root, result, end) for end in ("value", "base"))
    slope = (slope + slope0) / 2
    explained = abs(up - slope * over) <= 2 * (doubt + doubt0)
    return jnp.where(explained & jnp.isfinite(slope), slope, quotient)


def probed(root: Signal, result: Signal) -> np.ndarray | None:
    """Evaluate an elementwise function of a value at a few numbers; None if its constants are not known yet."""
    memo = root.notes.setdefault("probed", {root.serial: np.asarray(_PROBES, np.float32)})
    for signal in cluster(root, result):
        if signal.serial not in memo:
            memo[signal.serial] = _probe_one(signal, memo)
    return memo[result.serial]


def _probe_one(signal, memo):
    with jax.ensure_compile_time_eval():
        operands = []
        for x in signal.operation.args:
            known = x.uniform if isinstance(x, Constant) else memo[x.serial]
            if known is None:
                return None
            shape = () if isinstance(x, Constant) and jnp.ndim(x.value) == 0 else (len(_PROBES),)
            operands.append(jnp.broadcast_to(jnp.asarray(known, x.value.dtype), shape))
        return np.asarray(signal.operation.bind(operands)[0])


def rectifier_slope(root: Signal, result: Signal) -> float | None:
    """Find the slope of an elementwise function that behaves as a ReLU: zero below zero, straight above it.

    It may saturate behind the numbers that are tried, as ReLU6 does.

    Returns:
      The slope above zero; None for any other function, and where its constants are not known yet.
    """
    values = probed(root, result)
    if values is None or not is_float(result.value):
        return None
    values = np.asarray(values, np.float64)
    slope = float(values[3] / _PROBES[3])
    straight = np.allclose(values[3:], slope * np.asarray(_PROBES[3:]), rtol=1e-3)
    return slope if slope > 0 and straight and (values[:3] == 0).all() else None
