"""How many iterations a loop takes at most, where a counter tells: `while i < 30 and ...: i += 1`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from diffprog._jax_internals import concrete
from diffprog._rules.loop_checkpoints import Loop

_FEWEST = 4  # iterations: fewer are taken for as many
_REVERSED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
_TURNED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


def most_iterations(loop: Loop, args) -> int | None:
    """Find a number of iterations that a loop never exceeds.

    It is rounded up to a power of 2, so that loops with other limits share a program.

    Args:
      loop: the loop.
      args: its constants and its carry at the start; what is a tracer is not known.

    Returns:
      The number, or None where no counter bounds the loop by known numbers.
    """
    if loop.of_many:
        return None
    constants = dict(zip(loop.cond.jaxpr.invars[: loop.num_consts], args, strict=False))
    carry = dict(zip(loop.cond.jaxpr.invars[loop.num_consts :], args[loop.num_consts :], strict=True))
    bounds = []
    for counter, limit, comparison in _comparisons(loop):
        start, end, step = _number(counter, carry), _number(limit, constants), _step(loop, counter)
        towards = (step > 0) == (comparison in ("lt", "le"))
        if start is not None and end is not None and step and towards:
            away = (end - start) / step + (comparison in ("le", "ge"))  # of the first value at which the loop ends
            bounds.append(max(_FEWEST, int(np.ceil(away))))
    return 2 ** (min(bounds) - 1).bit_length() if bounds else None


class _Comparison(NamedTuple):
    """What holds as long as a loop goes on: `counter < limit`, or another comparison."""

    counter: Any
    limit: Any
    name: str


def _comparisons(loop) -> Iterator[_Comparison]:
    """Iterate over comparisons of integers, each of which holds as long as a loop goes on; in both orders."""
    made_by: dict[Any, Any] = {v: eqn for eqn in loop.cond.eqns for v in eqn.outvars}
    asked = [(loop.cond.jaxpr.outvars[0], True)]
    while asked:
        value, is_true = asked.pop()
        if _is_literal(value) or value not in made_by:
            continue
        eqn = made_by[value]
        name = eqn.primitive.name
        if name == "convert_element_type" and eqn.invars[0].aval.dtype == bool:
            asked.append((eqn.invars[0], is_true))
        elif name == "not":
            asked.append((eqn.invars[0], not is_true))
        elif name == ("and" if is_true else "or"):
            asked += [(v, is_true) for v in eqn.invars]
        elif name in _REVERSED and all(_is_count(v.aval) for v in eqn.invars):
            name = name if is_true else _REVERSED[name]
            a, b = eqn.invars
            yield _Comparison(a, b, name)
            yield _Comparison(b, a, _TURNED[name])


def _number(v, values) -> int | None:
    """Read a number off a literal or one of some values; None where it is not known."""
    value = v.val if _is_literal(v) else values.get(v)
    value = value if isinstance(value, int) or value is None else concrete(value)
    return None if value is None else int(value)


def _step(loop, counter) -> int:
    """Find what each iteration adds to a counter; 0 if that is not known."""
    arguments = loop.cond.jaxpr.invars
    place = -1 if _is_literal(counter) or counter not in arguments else arguments.index(counter)
    if place < loop.num_consts:
        return 0
    before, after = loop.body.jaxpr.invars[place], loop.body.jaxpr.outvars[place - loop.num_consts]
    eqn = next((eqn for eqn in loop.body.eqns if after in eqn.outvars), None)
    if eqn is None or eqn.primitive.name not in ("add", "sub"):
        return 0
    a, b = eqn.invars
    if b is before and eqn.primitive.name == "add":
        a, b = b, a
    if a is not before or not _is_literal(b):
        return 0
    return int(b.val) if eqn.primitive.name == "add" else -int(b.val)


def _is_count(aval) -> bool:
    return aval.shape == () and np.issubdtype(aval.dtype, np.integer)


def _is_literal(v) -> bool:
    return hasattr(v, "val")
