"""Reverse mode without checks and messages, for rules and for `diffprog._transforms`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import typeof

from diffprog._jax_internals import take_current_trace
from diffprog._tracer.backward import Taped
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.tape import Tape


def run_taped(
    fun: Callable, args: Sequence, needs_grad: Sequence[bool], make: Callable[..., Tape] = Tape
) -> tuple[list, Taped]:
    """Run a function of arrays on a fresh tape.

    Args:
      fun: function of arrays to a sequence of arrays.
      args: where to run it.
      needs_grad: which arguments are inputs of the tape.
      make: makes the tape from the trace around.

    Returns:
      The results, free of the tape, and what the reverse pass needs.
    """
    with take_current_trace() as parent:
        return make(parent).run(fun, args, needs_grad)


def vjp(fun: Callable, *args) -> tuple[Any, Callable]:
    """Run a function of differentiable arrays.

    Returns:
      The result, any pytree of arrays, and its pullback: cotangent like the result -> tuple of cotangents.
    """
    structure: Any = None

    def run(*args):
        nonlocal structure
        results, structure = jax.tree.flatten(fun(*args))
        return results

    results, taped = run_taped(run, args, [True] * len(args))
    avals = list(map(typeof, args))

    def pull(cotangent):
        return tuple(fill_zeros(taped.pull(structure.flatten_up_to(cotangent)), avals))

    return structure.unflatten(results), pull
