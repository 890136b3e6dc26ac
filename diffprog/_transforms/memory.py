"""A budget of memory for a gradient, as the user names it."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import numpy as np

from diffprog._jax_internals import is_array_type, trace_to_jaxpr, typeof
from diffprog._rules.budget.operation import Budget, Planned, planned
from diffprog._transforms.arguments import check_callable

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SPELLED = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgt]?)(i?b)?\s*", re.IGNORECASE)


def budget_of(memory: Any) -> Budget:
    """Read a budget: "512MB", a number of bytes, or a fraction of what the plain gradient holds."""
    if isinstance(memory, str) and (spelled := _SPELLED.fullmatch(memory)):
        memory = int(float(spelled[1]) * _UNITS[spelled[2].lower()])
    if isinstance(memory, int | np.integer) and not isinstance(memory, bool) and memory > 0:
        return Budget(bytes=int(memory))
    if isinstance(memory, float | np.floating) and 0 < memory <= 1:
        return Budget(fraction=float(memory))
    raise ValueError(
        f"memory must be a text like '512MB', a number of bytes, or a fraction of what the plain gradient holds, as "
        f"0.25; found {memory!r}"
    )


def checkpoint(fun: Callable, *, memory: str | int | float) -> Callable:
    """Make a function whose gradient holds no more than so much memory, by running parts of it again.

    Which values are kept and which are computed again is planned from the program, without annotations, and confirmed
    by the compiler: forward and backward pass of `fun`, compiled alone, hold at most `memory` beyond their arguments
    and results. Of all plans that do, the one with the least estimated time is taken. This takes effect where the
    gradient is compiled: under `jax.jit`, or by `diffprog.grad(fun, memory=...)`.

    Args:
      fun: function of arrays, or pytrees of them, that `jax.jit` can compile.
      memory: the budget: "512MB" (of 2^20 bytes; kB, GB), a number of bytes, or a fraction, between 0 and 1, of what
        the gradient holds if nothing is computed again.

    Returns:
      A function of the same arguments with the same results and gradients.

    Raises:
      ValueError: `memory` is no budget; or, when the gradient is taken, no plan is within it. The message says the
        least that was reached.
    """
    check_callable(fun)
    return within(fun, budget_of(memory))


def within(fun: Callable, budget: Budget) -> Callable:
    """Make a function whose gradient stays within a budget (see `checkpoint`)."""

    def checkpointed(*args, **kwargs):
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = [i for i, x in enumerate(leaves) if is_array_type(x)]
        result_tree: Any = None

        def run(*values):
            nonlocal result_tree
            full = list(leaves)
            for i, x in zip(arrays, values, strict=True):
                full[i] = x
            args, kwargs = tree.unflatten(full)
            results, result_tree = jax.tree.flatten(fun(*args, **kwargs))
            return results

        values = [leaves[i] for i in arrays]
        program, reads = trace_to_jaxpr(run, list(map(typeof, values)), "checkpoint")
        return result_tree.unflatten(planned([*reads, *values], Planned(program, budget)))

    return wraps(fun)(checkpointed) if hasattr(fun, "__name__") else checkpointed
