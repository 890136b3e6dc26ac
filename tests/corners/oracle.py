"""Derivatives of a function of real numbers by mpmath, with 70 digits, also where they hold from one side only.

A derivative is taken as the limit of difference quotients on either side of a point, each at two distances from it. It
exists where the four agree; at the end of a domain where the two that are inside do.
"""

from collections.abc import Callable, Sequence
from itertools import product

import mpmath
from mpmath import mp

DIGITS = 70
DISTANCES = ("1e-15", "1e-20")  # from the point, relative to it if it is not 0
FAR = ("1e15", "1e20")  # stand for infinity
AGREE = mpmath.mpf("1e-12")


def value(fun: Callable, point: Sequence[float]) -> float:
    """The function's value, or its limit, as a float; NaN outside of its domain."""
    with mp.workdps(DIGITS):
        found = [_inside(fun, place) for place in _places(point)]
        limit = _limit(found)
        if limit is None and None not in found and abs(found[1]) > abs(found[0]):
            limit = mp.sign(found[1]) * mp.inf
        return float("nan") if limit is None else float(limit)


def derivative(fun: Callable, point: Sequence[float], along: Sequence[int]) -> float | None:
    """The partial derivative along these axes, once for each time that one is named; None if there is none.

    Args:
      fun: mpmath function of as many numbers as `point` has.
      point: where; may be infinite.
      along: the axes, (0, 1) for the mixed second derivative.
    """
    axes = sorted(set(along))
    orders = tuple(along.count(i) for i in range(len(point)))
    sides = [(-1, 1) if abs(point[i]) != float("inf") else (1,) for i in axes]
    with mp.workdps(DIGITS):
        values, limits = [], []
        for signs in product(*sides):
            places = list(_approach(point, axes, signs))
            quotients = [_quotient(fun, place, orders, steps) for place, steps in places]
            if all(q is not None for q in quotients):
                limits.append(_limit(quotients, any(abs(point[i]) == float("inf") for i in axes)))
                values.append(_inside(fun, places[-1][0]))
        if not limits or None in limits:
            return None
        continuous = all(_close(x, values[0]) for x in values)
        return float(limits[0]) if continuous and all(_close(x, limits[0]) for x in limits) else None


def _approach(point, axes, signs):
    """Places beside the point, nearer and nearer, and a step for differences there."""
    for near, far in zip(DISTANCES, FAR, strict=True):
        place, steps = [mp.mpf(x) for x in point], [mp.mpf(0)] * len(point)
        for i, sign in zip(axes, signs, strict=True):
            if mp.isinf(place[i]):
                place[i] = mp.sign(place[i]) * mp.mpf(far)
                steps[i] = mp.mpf(far) * mp.mpf("1e-12")
            else:
                distance = mp.mpf(near) * (abs(place[i]) or 1)
                place[i] += sign * distance
                steps[i] = distance / 1000
        for i, x in enumerate(place):
            if mp.isinf(x):
                place[i] = mp.sign(x) * mp.mpf(far)
        yield place, steps


def _places(point):
    for far in FAR:
        yield [mp.sign(x) * mp.mpf(far) if mp.isinf(x) else mp.mpf(x) for x in point]


def _quotient(fun, place, orders, steps):
    """The central difference quotient; None if the function is not real and finite at one of its nodes."""
    total = mp.mpf(0)
    nodes = [range(-n, n + 1, 2) for n in orders]
    for offsets in product(*nodes):
        there = [x + k * h for x, k, h in zip(place, offsets, steps, strict=True)]
        found = _inside(fun, there)
        if found is None:
            return None
        weight = 1
        for n, k in zip(orders, offsets, strict=True):
            weight *= (-1) ** ((n - k) // 2) * mp.binomial(n, (n - k) // 2)
        total += weight * found
    for n, h in zip(orders, steps, strict=True):
        total /= (2 * h) ** n if n else 1
    return total


def _inside(fun, place):
    try:
        found = fun(*place)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError, mpmath.libmp.libhyper.NoConvergence):
        return None
    if isinstance(found, mpmath.mpc):
        found = found.real if found.imag == 0 else mp.nan
    return found if mp.isfinite(found) else None


def _limit(found, vanishes=False):
    """What two values, the second nearer to the point, converge to; None if they do not, or not to a number."""
    first, second = found
    if first is None or second is None:
        return None
    if _close(first, second) and abs(second) < mp.mpf("1e15"):
        return second
    if vanishes and abs(second) < mp.mpf("1e-3") and abs(second) < abs(first) * mp.mpf("0.99"):
        return mp.mpf(0)  # on the way to 0
    return None


def _close(x, y):
    return abs(x - y) <= AGREE * max(abs(x), abs(y), 1)
