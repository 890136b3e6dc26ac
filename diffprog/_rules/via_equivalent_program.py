"""Rules by an equivalent program: the derivative of an operation is that of an equal program of simpler operations."""

from collections.abc import Callable, Sequence

import jax
from jax import typeof

from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.vjp import vjp
from diffprog._util.lists import expand, select


def pullback_of(program: Callable, needs_grad: Sequence[bool], args: Sequence) -> Callable:
    """Make the pullback of `program`, which runs it when it is called.

    Returns:
      Function from the cotangent of the program's result to one cotangent per argument, None for those that need none.
    """

    def pull(cotangent):
        def of_some(*chosen):
            chosen = iter(chosen)
            return program(*(next(chosen) if want else x for x, want in zip(args, needs_grad, strict=True)))

        _, pullback = vjp(of_some, *select(args, needs_grad))
        return expand(pullback(cotangent), needs_grad)

    return pull


def via_program(primitive, needs_grad: Sequence[bool], args: Sequence, params: dict, program: Callable):
    """Run a primitive, and take the pullback of `program`, which computes equal results: the outcome of a rule."""
    results = primitive.bind(*args, **params)
    pull = pullback_of(program, needs_grad, args)
    if not primitive.multiple_results:
        return results, pull
    avals = list(map(typeof, results))
    return results, [True] * len(results), lambda cotangents: pull(fill_zeros(cotangents, avals))


def on_arrays(scalar_function: Callable) -> Callable:
    """Apply a function of scalars to a list of scalars elementwise, to arrays of one shape."""

    def apply(*arrays):
        function = scalar_function
        for _ in range(arrays[-1].ndim):
            function = jax.vmap(function)
        return function(*arrays)

    return apply
