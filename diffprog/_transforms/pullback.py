"""The backward pass as a value: what `vjp` returns."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax import tree_util

from diffprog._jax_internals import (
    binding,
    canonical,
    cotangent_dtype,
    eval_jaxpr,
    float0,
    same_type,
    trace_to_jaxpr,
    typeof,
)
from diffprog._tracer.backward import Taped
from diffprog._tracer.cotangents import fill_zeros
from diffprog._util.lists import expand, select


def send(taped: Taped, needs_grad: Sequence[bool], cotangents: Iterable) -> list:
    """Send cotangents of result leaves back: one per argument leaf, None for zero.

    Args:
      taped: the tape from the arguments to the results.
      needs_grad: which argument leaves are inputs of the tape.
      cotangents: one per result leaf, None for zero.
    """
    with binding.not_intercepting():
        return expand(taped.pull(cotangents), needs_grad)


@tree_util.register_pytree_node_class
class Pullback:
    """Maps a cotangent of a function's result to the tuple of cotangents of its arguments.

    A pytree: its leaves are the residual arrays, its structure is the backward program. So it can be returned
    from `jax.jit`, mapped by `jax.vmap`, called any number of times and kept.
    """

    def __init__(self, taped: Taped, needs_grad, in_avals, in_tree, out_avals, out_tree):
        self._send = lambda cotangents: send(taped, needs_grad, cotangents)
        self._types = (tuple(in_avals), in_tree, tuple(out_avals), out_tree)
        self._program = None

    def __call__(self, cotangent: Any) -> tuple:
        """Send a cotangent back.

        Args:
          cotangent: pytree like the function's result, with float0 for integers.

        Returns:
          A tuple of pytrees like the function's arguments.

        Raises:
          ValueError: the cotangent's structure, a shape or a dtype differs from the result's.
        """
        in_avals, in_tree, out_avals, out_tree = self._types
        leaves, tree = jax.tree.flatten(cotangent)
        if tree != out_tree:
            raise ValueError(
                f"the cotangent passed to a pullback has the structure {tree}, "
                f"but the function's result has {out_tree}: pass a cotangent of that structure"
            )
        leaves = list(map(canonical, leaves))
        for leaf, aval in zip(leaves, out_avals, strict=True):
            actual, expected = typeof(leaf), aval.to_ct_aval()
            ignored = cotangent_dtype(aval) == float0 and actual.shape == aval.shape  # JAX takes any dtype there
            if not (ignored or same_type(actual, expected)):
                raise ValueError(
                    f"the cotangent passed to a pullback has type {actual.str_short()}, but a result of type "
                    f"{aval.str_short()} takes {expected.str_short()}: convert it"
                )
        return in_tree.unflatten(fill_zeros(self._send(leaves), in_avals))

    def tree_flatten(self):
        """Stage the backward pass; the residuals are the leaves."""
        if self._program is None:
            has_cotangent = [cotangent_dtype(aval) != float0 for aval in self._types[2]]
            reached: list = []

            def reverse(*cotangents):
                sent = self._send(expand(cotangents, has_cotangent))
                reached[:] = [g is not None for g in sent]
                return select(sent, reached)

            avals = [aval.to_ct_aval() for aval in select(self._types[2], has_cotangent)]
            program, residuals = trace_to_jaxpr(reverse, avals, "pullback")
            self._program = _Program(program, has_cotangent, reached), residuals
        program, residuals = self._program
        return residuals, (program, self._types)

    @classmethod
    def tree_unflatten(cls, structure, residuals):
        """Put the residuals, or whatever JAX has in their place, back."""
        program, types = structure
        pullback = cls.__new__(cls)
        pullback._types, pullback._program = types, (program, residuals)
        pullback._send = lambda leaves: program(residuals, leaves)
        return pullback


class _Program:
    """A staged backward pass; two are the same structure only if they are the same object."""

    def __init__(self, jaxpr, has_cotangent, reached):
        self.jaxpr, self.has_cotangent, self.reached = jaxpr, has_cotangent, reached

    def __call__(self, residuals, cotangents):
        cotangents = select(cotangents, self.has_cotangent)
        return expand(eval_jaxpr(self.jaxpr.jaxpr, (), *residuals, *cotangents), self.reached)
