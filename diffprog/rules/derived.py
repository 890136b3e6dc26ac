"""Rules by way of a program: the derivative of an operation is that of an equal program of simpler operations."""

from collections.abc import Callable

from jax import lax

from diffprog.tracer.transforms import vjp


def derived(primitive, wanted, args, params, program: Callable):
    """Run the primitive, and differentiate `program(*args)`, which computes the same, in the backward pass.

    Returns:
      what a rule returns.
    """
    results = primitive.bind(*args, **params)

    def pull(cotangent):
        def of_wanted(*chosen):
            chosen = iter(chosen)
            return program(*(next(chosen) if want else x for x, want in zip(args, wanted, strict=True)))

        found = vjp(of_wanted, *(x for x, want in zip(args, wanted, strict=True) if want))[1](cotangent)
        found = iter(found)
        return [next(found) if want else None for want in wanted]

    if not primitive.multiple_results:
        return results, pull

    def pull_all(cotangents):
        filled = [lax.full_like(y, 0) if g is None else g for g, y in zip(cotangents, results, strict=True)]
        return pull(filled)

    return results, [True] * len(results), pull_all
