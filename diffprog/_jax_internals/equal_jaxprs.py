"""One object for staged programs that are equal.

A Python loop that calls a function three times stages the bodies of its `while_loop` three times. The programs are
equal equation by equation, but what is worked out of one, and remembered for the object, would be worked out anew.
"""

from collections.abc import Hashable
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

import numpy as np
from jax._src import core

_JAXPRS = core.Jaxpr, getattr(core, "ClosedJaxpr", core.Jaxpr)  # one and the same since JAX 0.11

_first: WeakValueDictionary = WeakValueDictionary()  # by what a jaxpr says
_seen: WeakKeyDictionary = WeakKeyDictionary()  # jaxpr -> weak reference to the first that says the same


def first_equal(jaxpr):
    """Find the first closed jaxpr, of those still in use, that is equal to this one; else this one itself.

    Equal means: the same operations on the same values, the same constants, from the same lines of source.
    """
    known = _seen.get(jaxpr, lambda: None)()
    if known is not None:
        return known
    try:
        first = _first.setdefault(_contents(jaxpr), jaxpr)
    except TypeError:  # it holds something that has no hash
        first = jaxpr
    _seen[jaxpr] = ref(first)
    return first


def _contents(jaxpr) -> Hashable:
    """List what a jaxpr says, its variables by number."""
    body = getattr(jaxpr, "jaxpr", jaxpr)
    number: dict = {}
    bind = lambda variables: tuple((number.setdefault(v, len(number)), v.aval) for v in variables)
    read = lambda x: (*_value(x.val), x.aval) if isinstance(x, core.Literal) else number[x]
    inputs = bind([*body.constvars, *body.invars])
    equations = tuple(
        (
            eqn.primitive,
            tuple(map(read, eqn.invars)),
            tuple((name, _value(value)) for name, value in sorted(eqn.params.items())),
            bind(eqn.outvars),
            eqn.ctx,
            eqn.source_info.traceback,
            eqn.source_info.name_stack,
        )
        for eqn in body.eqns
    )
    constants = tuple(map(id, getattr(jaxpr, "consts", ())))  # which live as long as the jaxpr
    return inputs, equations, tuple(map(read, body.outvars)), constants, body.debug_info


def _value(value) -> tuple:
    """Tell a value from all others, those of other types and the negative zero too."""
    if isinstance(value, (tuple, list)):
        return type(value), *map(_value, value)
    if isinstance(value, _JAXPRS):
        return type(value), _contents(value)
    if isinstance(value, (float, complex)):
        return type(value), repr(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return type(value), value.dtype, value.shape, value.tobytes()
    return type(value), value
