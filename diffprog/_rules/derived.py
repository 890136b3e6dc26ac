"""Rules by way of a program: the derivative of an operation is that of an equal program of simpler operations."""

from collections.abc import Callable

import jax
from jax import lax

from diffprog._tracer.vjp import vjp


def pullback_of(program: Callable, wanted, args) -> Callable:
    """cotangent -> cotangents of the wanted arguments of `program`, which is run and differentiated there and then."""

    def pull(cotangent):
        def of_wanted(*chosen):
            chosen = iter(chosen)
            return program(*(next(chosen) if want else x for x, want in zip(args, wanted, strict=True)))

        _, pullback = vjp(of_wanted, *(x for x, want in zip(args, wanted, strict=True) if want))
        found = iter(pullback(cotangent))
        return [next(found) if want else None for want in wanted]

    return pull


def derived(primitive, wanted, args, params, program: Callable):
    """A rule's outcome: the primitive's own results, and the pullback of `program`, which computes the same."""
    results = primitive.bind(*args, **params)
    pull = pullback_of(program, wanted, args)
    if not primitive.multiple_results:
        return results, pull

    def pull_all(cotangents):
        return pull([lax.full_like(y, 0) if g is None else g for g, y in zip(cotangents, results, strict=True)])

    return results, [True] * len(results), pull_all


def on_arrays(scalar_function: Callable) -> Callable:
    """A function of scalars to a list of scalars, applied elementwise to arrays of one shape."""

    def apply(*arrays):
        function = scalar_function
        for _ in range(arrays[-1].ndim):
            function = jax.vmap(function)
        return function(*arrays)

    return apply
