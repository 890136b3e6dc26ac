"""The order in which a program uses its parameters: what is used last is nearest to the output."""

from collections.abc import Callable
from typing import Any

import jax

from diffprog._jax_internals.jaxprs import jaxprs_in

Place = tuple[int, ...]


def places_of_use(function: Callable[..., Any], parameters: Any, inputs: Any) -> list[Place | None]:
    """Find where each parameter first meets a value that depends on the inputs.

    Args:
      function: of parameters and inputs.
      parameters: pytree of arrays.
      inputs: pytree of arrays.

    Returns:
      For each leaf of the parameters the number of the operation, behind that of each call it is in; None if it is not
      used. Places are compared as tuples.
    """
    count = len(jax.tree.leaves(parameters))
    jaxpr = jax.make_jaxpr(function)(parameters, inputs).jaxpr
    found: list[Place | None] = [None] * count
    arguments = [({number}, False) if number < count else (set(), True) for number in range(len(jaxpr.invars))]
    _walk(jaxpr, arguments, (), found)
    return found


def _walk(jaxpr, arguments, prefix, found):
    """Follow which parameters values are made of, and whether they depend on the inputs; say so of the results."""
    known = dict(zip(jaxpr.invars, arguments, strict=True))
    read = lambda variable: known.get(variable, (set(), False)) if not hasattr(variable, "val") else (set(), False)
    for number, equation in enumerate(jaxpr.eqns):
        taken = [read(variable) for variable in equation.invars]
        parameters = set().union(*(each for each, _ in taken)) if taken else set()
        depends = any(is_input for _, is_input in taken)
        inner = [closed.jaxpr for closed in jaxprs_in(equation.params)]
        inner = [
            each for each in inner if len(each.invars) == len(taken) and len(each.outvars) == len(equation.outvars)
        ]
        results = [(parameters, depends)] * len(equation.outvars)
        if len(inner) == 1:
            results = _walk(inner[0], taken, (*prefix, number), found)
        elif depends:
            for each in parameters:
                found[each] = (*prefix, number) if found[each] is None else found[each]
        # What has met the inputs is a value of the network, no parameter any more.
        known |= zip(
            equation.outvars, ((set() if is_input else made, is_input) for made, is_input in results), strict=True
        )
    return [read(variable) for variable in jaxpr.outvars]
