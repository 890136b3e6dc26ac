"""Estimates of bytes and seconds of a program, from types alone.

The two constants of a machine need not be right: a plan depends on the ratios of times, and whether it is within its
budget is measured.
"""

from collections import Counter
from itertools import count
from math import comb, prod
from typing import Any

from diffprog._jax_internals import weakref_lru_cache
from diffprog._jax_internals.jaxprs import jaxprs_in

_FLOPS, _BANDWIDTH, _OVERHEAD = 6e10, 8e9, 2e-7  # per second; bytes per second; seconds of an operation
_WHILE = 100  # iterations of a loop of unknown length

_WEIGHTS = {
    **dict.fromkeys("reshape squeeze broadcast_in_dim expand_dims convert_element_type".split(), 0.3),
    **dict.fromkeys("exp exp2 log log1p expm1".split(), 4),
    **dict.fromkeys("tanh logistic erf erf_inv sin cos tan atan2 digamma lgamma".split(), 6),
    "pow": 8,
}
_LOOPS = ("scan", "while")  # every iteration reads their operands
# What they return is computed where it is used, by any compiler.
_FUSED = frozenset(
    "add add_any broadcast_in_dim convert_element_type div eq expand_dims ge gt le lt mul ne neg reshape select_n "
    "squeeze sub".split()
)


def bytes_of(aval) -> int:
    """Count the bytes of a value of this type; those of a random key are few."""
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 16)


@weakref_lru_cache
def seconds(jaxpr) -> float:
    """Estimate the time of a closed jaxpr."""
    return sum(map(seconds_of, jaxpr.eqns))


def seconds_of(eqn) -> float:
    """Estimate the time of an operation."""
    name, inner = eqn.primitive.name, list(jaxprs_in(eqn.params))
    if name == "scan":
        return eqn.params["length"] * seconds(inner[0])
    if name == "while":
        return _WHILE * sum(map(seconds, inner))
    if inner:  # of a `cond` the dearest branch; of a call its body, which may be there for several purposes
        return max(map(seconds, inner))
    moved = sum(bytes_of(v.aval) for v in (*eqn.invars, *eqn.outvars)) / _BANDWIDTH
    products = _products(eqn)
    if products:
        return max(2 * products / _FLOPS, moved) + _OVERHEAD
    return _WEIGHTS.get(name, 1) * moved / 2 + _OVERHEAD


def reruns(states: int) -> int:
    """Say how often, at most, the gradient of a loop of unknown length that stores so many states runs an iteration.

    See `diffprog._rules.loop_checkpoints`.
    """
    return next(r for r in count(1) if comb(states + r, r) >= _WHILE)


def _products(eqn) -> float:
    """Count the multiplications of a contraction or a convolution; 0 for another operation."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        terms = prod(eqn.invars[0].aval.shape[d] for d in contracted)
    elif eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        terms = prod(kernel) / max(kernel[eqn.params["dimension_numbers"].rhs_spec[0]], 1)
    else:
        return 0
    return float(terms) * float(prod(eqn.outvars[0].aval.shape))


def views_of_arguments(jaxpr) -> set:
    """Find the variables of a closed jaxpr that hold an argument in another shape, which takes no memory."""
    views = set(jaxpr.jaxpr.invars)
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("reshape", "squeeze", "expand_dims") and eqn.invars[0] in views:
            views.update(eqn.outvars)
    return views


@weakref_lru_cache
def peak_bytes(jaxpr, dying: tuple[bool, ...] = ()) -> int:
    """Estimate the most bytes that a closed jaxpr holds at once, beyond its arguments.

    Args:
      jaxpr: the closed jaxpr.
      dying: the arguments that nobody needs afterwards, whose bytes are free after their last use in it.
    """
    eqns, last = jaxpr.eqns, dict[Any, int]()
    for i, eqn in enumerate(eqns):
        last |= {v: i for v in eqn.invars if not hasattr(v, "val")}
    last |= {v: len(eqns) for v in jaxpr.jaxpr.outvars if not hasattr(v, "val")}
    held = most = 0
    sizes = {v: bytes_of(v.aval) for v, dies in zip(jaxpr.jaxpr.invars, dying, strict=False) if dies}
    for i, eqn in enumerate(eqns):
        gone = {v for v in eqn.invars if not hasattr(v, "val") and v in sizes and last[v] == i}
        within = _peak_within(eqn, gone)
        if eqn.primitive.name not in _LOOPS:  # the results of a call or a branch are counted within
            most, within = max(most, held + within), 0
        for v in eqn.outvars:
            fused = eqn.primitive.name in _FUSED and last.get(v, i) == i + 1
            sizes[v] = bytes_of(v.aval) if v in last and not fused else 0
            held += sizes[v]
        most = max(most, held + within)
        held -= sum(map(sizes.pop, gone))
    return most


def _peak_within(eqn, gone: set) -> int:
    """Estimate the most bytes that the programs in an operation hold, beyond its operands; some are gone after it."""
    programs, most = list(jaxprs_in(eqn.params)), 0
    if programs and eqn.primitive.name not in _LOOPS:
        times = Counter(v for v in eqn.invars if not hasattr(v, "val"))
        once = {v for v in gone if times[v] == 1}  # what it reads twice has two names inside
        dying = [not hasattr(v, "val") and v in once for v in eqn.invars]
    else:
        dying = []
    for program in programs:
        skipped = max(len(dying) - len(program.in_avals), 0)  # the index of a `cond`
        most = max(most, peak_bytes(program, tuple(dying[skipped:])))
    return most
