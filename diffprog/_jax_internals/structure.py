"""What a staged program computes, as a value: programs that are traced twice have equal structures."""

import dataclasses
import functools
import weakref
from collections.abc import Hashable
from types import FunctionType
from typing import Any

import jax
import numpy as np
from jax._src import core, linear_util
from jax._src.util import weakref_lru_cache

from diffprog._jax_internals.hijax import HiPrimitive
from diffprog._util.content_digest import content_digest

# What JAX notes beside a derivative rule: where it leaves its results, and the trace that it is part of.
_NOTES = (linear_util.Store, linear_util.EqualStore, core.Trace, core.DebugInfo)


class Structure:
    """The operations of a program, compared by what they do, with a hash that is computed once.

    Attributes:
      is_comparable: whether another trace can be found equal: not where the program holds arrays in places that
        `inlining` does not reach, or functions that are made anew in each trace.
    """

    __slots__ = ("_hash", "content", "is_comparable")

    def __init__(self, content: Hashable, is_comparable: bool):
        self.content, self.is_comparable, self._hash = content, is_comparable, hash(content)

    def __eq__(self, other):
        return self is other or (
            isinstance(other, Structure) and self._hash == other._hash and self.content == other.content
        )

    def __hash__(self):
        return self._hash


@weakref_lru_cache
def structure_of(jaxpr) -> Structure:
    """Describe a closed jaxpr: its types, equations and constants, without names and source lines."""
    body = jaxpr.jaxpr
    described = _Description()
    names = {x: i for i, x in enumerate((*body.constvars, *body.invars))}
    equations = []
    for equation in body.eqns:
        operands = tuple(_operand(x, names) for x in equation.invars)
        params = tuple((name, described.of(value)) for name, value in sorted(equation.params.items()))
        names.update((x, len(names) + i) for i, x in enumerate(equation.outvars))
        results = tuple(x.aval for x in equation.outvars)
        equations.append((equation.primitive, operands, params, results, _context(equation)))
    constants = tuple(described.of(x) for x in jaxpr.consts)
    inputs, outputs = tuple(x.aval for x in body.invars), tuple(_operand(x, names) for x in body.outvars)
    return Structure((constants, inputs, tuple(equations), outputs), described.is_comparable)


def _operand(x, names):
    if isinstance(x, core.Literal):
        value = np.asarray(x.val)
        return ("literal", x.aval, value.tobytes())
    return names.get(x, x.aval)  # the latter of a result that nobody uses


def _context(equation):
    context = equation.ctx
    return context.compute_type, context.threefry_partitionable, str(context.xla_metadata)


class _Same:
    """An object that equals itself alone, and is not kept alive."""

    __slots__ = ("_hash", "_object")

    def __init__(self, value):
        self._object, self._hash = weakref.ref(value), id(value)

    def __eq__(self, other):
        return isinstance(other, _Same) and self._object() is not None and self._object() is other._object()

    def __hash__(self):
        return self._hash


class _Description:
    """Makes contents of parameters that can be compared."""

    def __init__(self):
        self.is_comparable = True

    def of(self, value: Any) -> Hashable:
        """Describe a parameter."""
        if value is None or isinstance(value, bool | int | str | bytes | type | np.dtype | np.ufunc):
            return value
        if isinstance(value, float | complex):
            return repr(value)
        if isinstance(value, core.Jaxpr):
            value = value if hasattr(value, "consts") else core.ClosedJaxpr(value, ())
        if hasattr(value, "jaxpr") and hasattr(value, "consts"):
            structure = structure_of(value)
            self.is_comparable &= structure.is_comparable
            return structure
        if isinstance(value, _NOTES) or type(value) is object:
            return type(value).__name__
        if isinstance(value, tuple | list):
            return type(value), tuple(map(self.of, value))
        if isinstance(value, dict):
            return dict, tuple((self.of(name), self.of(item)) for name, item in value.items())
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return value.shape, value.dtype, value.tobytes()
        if isinstance(value, linear_util.WrappedFun):
            steps = tuple((self.of(step), self.of(arguments)) for step, arguments in value.transforms)
            return self.of(value.f), steps
        if isinstance(value, functools.partial):
            return self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, FunctionType):
            return self._function(value)
        if type(value).__name__ == "Unhashable":  # an argument of a rule that is not differentiated
            return self.of(value.val)
        if isinstance(value, jax.Array):
            return self._unique()
        if isinstance(value, HiPrimitive) and type(value).__module__.startswith("jax."):  # made for each trace
            return type(value), self.of(value.params)
        if dataclasses.is_dataclass(value) and type(value).__module__.startswith("jax."):
            fields = dataclasses.fields(value)
            return type(value), tuple(self.of(getattr(value, field.name)) for field in fields)
        return self._object(value)

    def _function(self, function):
        """Describe a function: one that JAX makes for each trace by what it closes over, any other by itself."""
        if not (function.__module__ or "").startswith("jax.") or "<locals>" not in function.__qualname__:
            return self._rule(function)
        cells = (cell.cell_contents for cell in function.__closure__ or ())
        return function.__code__, tuple(map(self.of, cells))

    def _rule(self, function):
        """Describe a derivative rule that somebody wrote by itself and what it reads, which no trace forward shows."""
        if (function.__module__ or "").startswith("jax."):
            return _Same(function)
        digest = content_digest(function, function.__name__)
        return self._unique() if digest.unknown else (_Same(function), digest.key)

    def _object(self, value):
        if type(value).__eq__ is not object.__eq__:
            try:
                hash(value)
                return value
            except TypeError:
                return self._unique()
        try:
            return _Same(value)
        except TypeError:
            return self._unique()

    def _unique(self):
        self.is_comparable = False
        return object()
