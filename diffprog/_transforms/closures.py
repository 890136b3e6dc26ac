"""Functions of a user's whose closed-over arrays are data: by these, compiled programs are kept.

A compiled program that is kept for the next call must not keep what a user's function read when it was traced: weights
may be replaced in a dict, a closure or a module. So `lift` traces the function anew in each call, and divides it into
its operations, by which the program is found again, and the arrays that it reads, which the program takes as arguments:

    program = jax.jit(lambda model, images: ... model(images) ...)
    program(lift(model, images), images)

New weights compile nothing, other operations compile anew, and no program holds an array of a function's.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog._jax_internals import eval_jaxpr, trace_to_jaxpr, typeof
from diffprog._jax_internals.inlining import embeds_arrays, inline_embedded
from diffprog._jax_internals.structure import Structure, structure_of

_unstable: set[Structure] = set()  # of functions that read other arrays at other shapes: these are compiled each time


class _Source:
    """A function as it is now, what it read when it was traced, and that trace."""

    def __init__(self, function: Callable, reads: Sequence, tree: Any, jaxpr: Any):
        self.function, self.reads, self._tree, self.jaxpr = function, reads, tree, jaxpr

    def was_traced_for(self, leaves: Sequence, tree: Any) -> bool:
        """Whether the trace is that of a call with such arguments."""
        return tree == self._tree and list(map(typeof, leaves)) == self.jaxpr.in_avals[len(self.reads) :]


class _Key:
    """What a compiled program is found by: the operations, and the form of what the function returns.

    The function itself is for tracing, and not kept alive.
    """

    def __init__(self, structure: Structure, source: _Source, result_tree: Any):
        self.structure, self._source, self.result_tree = structure, weakref.ref(source), result_tree

    def __eq__(self, other):
        if self is other:
            return True
        alike = isinstance(other, _Key) and self.structure == other.structure
        return alike and self.result_tree == other.result_tree and self.structure not in _unstable

    def __hash__(self):
        return hash(self.structure)

    def source(self) -> _Source:
        source = self._source()
        if source is None:
            raise RuntimeError("a lifted function was traced after the call that it belongs to had ended")
        return source


@jax.tree_util.register_pytree_node_class
class Lifted:
    """A function that is called like the one it was made from, and whose reads are the leaves of a pytree.

    Attributes:
      result: pytree of `jax.ShapeDtypeStruct`, what the function returned when `lift` traced it.
      can_be_kept: whether programs may be found again by it. They may not where the function's operations are others
        in each trace, or hold arrays in the body of a function that has a derivative rule.
    """

    def __init__(self, key: _Key, reads: Sequence, source: _Source | None = None, result: Any = None):
        self._key, self._reads, self.result = key, reads, result
        self._source = source  # alive as long as the caller holds what `lift` returned

    def tree_flatten(self):
        return self._reads, self._key

    @classmethod
    def tree_unflatten(cls, key, reads):
        return cls(key, reads)

    @property
    def num_operations(self) -> int:
        """Count the operations of the trace; a call or a loop is one."""
        return len(self._key.source().jaxpr.jaxpr.eqns)

    @property
    def jaxpr(self) -> Any:
        """The trace, whose first inputs are what the function read."""
        return self._key.source().jaxpr

    @property
    def reads_arrays(self) -> bool:
        """Whether the function read arrays that are not among its arguments."""
        return bool(self._reads)

    @property
    def structure(self) -> Structure:
        """The operations, which can be compared and hashed."""
        return self._key.structure

    @property
    def can_be_kept(self) -> bool:
        return self._key.structure.is_comparable and self._key.structure not in _unstable

    def __call__(self, *args: Any) -> Any:
        if self._source is not None:
            return self._source.function(*args)
        source = self._key.source()
        leaves, tree = jax.tree.flatten(args)
        if source.was_traced_for(leaves, tree):
            results = eval_jaxpr(source.jaxpr.jaxpr, source.jaxpr.consts, *self._reads, *leaves)
            return jax.tree.unflatten(self._key.result_tree, results)
        jaxpr, found, result_tree = _trace(source.function, leaves, tree)
        results = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *self._given(source, found), *leaves)
        return jax.tree.unflatten(result_tree, results)

    def staged(self) -> "Staged":
        """Make a program of the operations as they are now, which outlives the call that the function belongs to.

        For rules that JAX calls later. It is found again by itself alone.
        """
        if self._source is None:
            raise RuntimeError("only what lift returns can be staged")
        return Staged(_Program(self._source.jaxpr, self._key.result_tree), self._reads)

    def _given(self, source, found) -> list:
        """Find the data that stand for what the function read in another trace."""
        if len(found) == len(source.reads) and all(map(_is_equal, found, source.reads)):
            return list(self._reads)
        given = {id(x): data for x, data in zip(source.reads, self._reads, strict=True)}
        if any(id(x) not in given for x in found):
            _unstable.add(self._key.structure)
        return [given.get(id(x), x) for x in found]


@jax.tree_util.register_pytree_node_class
class Bound:
    """A lifted function whose first arguments are given: they are leaves of a pytree, as what it read is."""

    def __init__(self, lifted: Lifted, first: tuple[Any, ...]):
        self._lifted, self._first = lifted, first

    def tree_flatten(self):
        return (self._lifted, self._first), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)

    @property
    def result(self) -> Any:
        """What the function returned when it was traced, a pytree of `jax.ShapeDtypeStruct`."""
        return self._lifted.result

    @property
    def structure(self) -> Structure:
        """The operations, which can be compared and hashed."""
        return self._lifted.structure

    @property
    def can_be_kept(self) -> bool:
        """Whether programs may be found again by it."""
        return self._lifted.can_be_kept

    @property
    def num_operations(self) -> int:
        """Count the operations of the trace; a call or a loop is one."""
        return self._lifted.num_operations

    def __call__(self, *args: Any) -> Any:
        return self._lifted(*self._first, *args)


class _Program(NamedTuple):
    """The operations of a function, and the form of what it returns."""

    jaxpr: Any
    result_tree: Any

    def __hash__(self):
        return id(self.jaxpr)


@jax.tree_util.register_pytree_node_class
class Staged:
    """The operations of a lifted function; what it read are the leaves of a pytree."""

    def __init__(self, program: _Program, reads: Sequence):
        self._program, self._reads = program, reads

    def tree_flatten(self):
        return self._reads, self._program

    @classmethod
    def tree_unflatten(cls, program, reads):
        return cls(program, reads)

    def __call__(self, *args: Any) -> Any:
        jaxpr, result_tree = self._program
        results = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *self._reads, *jax.tree.leaves(args))
        return jax.tree.unflatten(result_tree, results)


def lift(function: Callable, *args: Any) -> Lifted:
    """Trace a function, and make what it reads data.

    Args:
      function: of pytrees of arrays; it may close over arrays, modules and anything else, and be changed at any time.
      *args: arrays as the function is called with. It may then be called with others too.

    Returns:
      The function, a pytree whose leaves are what it reads, in an order that its operations decide.
    """
    leaves, tree = jax.tree.flatten(args)
    jaxpr, reads, result_tree = _trace(function, leaves, tree)
    source = _Source(function, reads, tree, jaxpr)
    result = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.out_avals]
    key = _Key(structure_of(jaxpr), source, result_tree)
    return Lifted(key, reads, source, jax.tree.unflatten(result_tree, result))


def _trace(function, leaves, tree):
    result_tree = None

    def flat(*leaves):
        nonlocal result_tree
        results, result_tree = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
        return results

    avals = list(map(typeof, leaves))
    jaxpr, reads = trace_to_jaxpr(flat, avals, getattr(function, "__name__", "function"))
    if embeds_arrays(jaxpr):
        jaxpr, reads = trace_to_jaxpr(lambda *leaves: inline_embedded(jaxpr, [*reads, *leaves]), avals, "function")
    return jaxpr, reads, result_tree


def _is_equal(found, read) -> bool:
    """Whether two traces read the same: an array that is the same, or a constant of equal numbers."""
    if found is read:
        return True
    constants = isinstance(found, np.ndarray | np.generic) and isinstance(read, np.ndarray | np.generic)
    return constants and found.dtype == read.dtype and np.array_equal(found, read, equal_nan=found.dtype.kind in "fc")
