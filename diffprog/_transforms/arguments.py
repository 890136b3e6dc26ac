"""Checks of functions, arguments and results, each with a message of one sentence."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import dtypes

from diffprog._jax_internals import canonical, hides_engine, is_array_type, is_reference, typeof


class PositionError(TypeError, ValueError):
    """`argnums` does not fit the call. Of both classes, for JAX raises now one and now the other."""


def indices(argnums: Any) -> int | tuple[int, ...]:
    """Turn `argnums`, any kind of integer or a sequence of them, into an int or a tuple of ints."""
    try:
        return operator.index(argnums)
    except TypeError:
        pass
    try:
        return tuple(map(operator.index, argnums))
    except TypeError:
        raise TypeError(f"argnums must be an integer or a sequence of integers; found {argnums!r}") from None


def choose(fun: Callable, argnums: int | Sequence[int], args: tuple, kwargs: dict[str, Any]) -> tuple[Callable, tuple]:
    """Make `fun` a function of the chosen positional arguments alone; return it with these arguments.

    Raises:
      PositionError: there is no such argument, or it is chosen twice.
    """
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    if not chosen:
        raise PositionError("argnums is empty, and at least one argument to differentiate with respect to is needed")
    for index in chosen:
        if not -len(args) <= index < len(args):
            raise PositionError(
                f"differentiating with respect to argnums={argnums} takes an argument at position {index}, "
                f"but the function was called with {len(args)} positional arguments"
            )
    positions = [index % len(args) for index in chosen]
    if len(set(positions)) < len(positions):
        raise PositionError(f"argnums={argnums} names one of {len(args)} arguments twice: give each once")

    def partial_fun(*chosen):
        full = list(args)
        for position, value in zip(positions, chosen, strict=True):
            full[position] = value
        return fun(*full, **kwargs)

    return partial_fun, tuple(args[position] for position in positions)


def wraps(fun: Callable, kind: str) -> Callable[[Callable], Callable]:
    """Name and document the decorated function after `fun`, as "the `kind` `fun`"."""

    def decorate(wrapped):
        name = getattr(fun, "__name__", type(fun).__name__)
        functools.update_wrapper(wrapped, fun, assigned=("__module__",), updated=())
        wrapped.__name__ = f"{wrapped.__name__.removesuffix('_fun')}({name})"
        wrapped.__doc__ = f"The {kind} `{name}`, with the same arguments."
        return hides_engine(wrapped)

    return decorate


def check_callable(fun: Any) -> None:
    """Raise TypeError if `fun` is not a function."""
    if not callable(fun):
        raise TypeError(f"the function to differentiate must be callable; found {fun!r}")


def check_inputs(name: str, args: Any, holomorphic: bool, allow_int: bool) -> tuple[list, Any]:
    """Check that arguments have a gradient.

    Returns:
      Their leaves as JAX sees them, and their structure.

    Raises:
      TypeError: a leaf is no array, or an integer, or not complex though the function is promised to be holomorphic.
    """
    leaves, structure = jax.tree.flatten(args)
    for i, x in enumerate(leaves):
        try:
            leaves[i] = canonical(x)
            aval = typeof(leaves[i])
        except TypeError:
            raise TypeError(f"{name} takes arrays; found {x!r} of type {type(x)} among the arguments") from None
        if is_reference(x):
            raise TypeError(
                f"{name} takes values; found a mutable array (Ref) among the arguments: pass its value, ref[...], "
                "close over it, or use vjp, whose pullback adds to a mutable array: pullback.with_refs(gradient)(1.0)"
            )
        dtype = getattr(aval, "dtype", None)
        if dtype is None:  # a type of the user's own (hijax)
            continue
        if holomorphic and not dtypes.issubdtype(dtype, np.complexfloating):
            raise TypeError(f"{name} with holomorphic=True takes complex inputs; found {dtype}")
        if not dtypes.issubdtype(dtype, np.inexact) and not allow_int:
            raise TypeError(
                f"{name} takes real or complex inputs; found {dtype}: convert it to a float, "
                "or pass allow_int=True for a float0 gradient"
            )
    return leaves, structure


def check_scalar(value: Any) -> None:
    """Raise TypeError if a function's result has no gradient because it is not a single number."""
    if is_array_type(value) and np.shape(value) == ():
        return
    description = f"an array of shape {np.shape(value)}" if is_array_type(value) else f"a {type(value).__name__}"
    raise TypeError(
        f"a gradient is defined for functions with a scalar result; this one returned {description}: "
        "sum it, take the part that counts, or use jacrev"
    )


def check_outputs(name: str, result: Any, holomorphic: bool) -> None:
    """Raise TypeError if a result is not real, or not complex though the function is promised to be holomorphic."""
    for x in jax.tree.leaves(result):
        dtype = typeof(x).dtype
        if holomorphic and not dtypes.issubdtype(dtype, np.complexfloating):
            raise TypeError(f"{name} with holomorphic=True takes functions with a complex result; found {dtype}")
        if not holomorphic and not dtypes.issubdtype(dtype, np.floating):
            raise TypeError(
                f"{name} takes functions with a real result; found {dtype}: "
                "for a holomorphic function pass holomorphic=True, else use vjp"
            )
