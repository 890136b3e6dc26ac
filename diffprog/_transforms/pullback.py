"""The backward pass as a value: what `vjp` returns."""

import jax
from jax import tree_util

from diffprog._jax_internals import (
    canonical,
    cotangent_dtype,
    eval_jaxpr,
    float0,
    instantiate,
    same_type,
    trace_to_jaxpr,
    typeof,
)
from diffprog._jax_internals.watching import unwatched
from diffprog._tracer.backward import backward


@tree_util.register_pytree_node_class
class Pullback:
    """Maps a cotangent of a function's result to the tuple of cotangents of its arguments.

    A pytree: its leaves are the residual arrays, its structure is the backward program. So it can be returned
    from `jax.jit`, mapped by `jax.vmap`, called any number of times and kept.
    """

    def __init__(self, send, in_avals, in_tree, out_avals, out_tree):
        self._send = send
        self._types = (tuple(in_avals), in_tree, tuple(out_avals), out_tree)
        self._program = None

    def __call__(self, cotangent):
        """Args: cotangent: pytree like the function's result (float0 for integers). Returns: a tuple of pytrees.

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
            found, expected = typeof(leaf), aval.to_tangent_aval()
            ignored = cotangent_dtype(aval) == float0 and found.shape == aval.shape  # JAX takes any dtype there
            if not (ignored or same_type(found, expected)):
                raise ValueError(
                    f"the cotangent passed to a pullback has type {found.str_short()}, but a result of type "
                    f"{aval.str_short()} takes {expected.str_short()}: convert it"
                )
        sent = self._send(leaves)
        return jax.tree.unflatten(in_tree, [_full(g, aval) for g, aval in zip(sent, in_avals, strict=True)])

    def tree_flatten(self):
        if self._program is None:
            out_avals = [aval.to_tangent_aval() for aval in self._types[2]]
            live = [cotangent_dtype(aval) != float0 for aval in self._types[2]]
            reached: list = []

            def reverse(*cotangents):
                given = iter(cotangents)
                sent = self._send([next(given) if alive else None for alive in live])
                reached[:] = [g is not None for g in sent]
                return [g for g in sent if g is not None]

            avals = [aval for aval, alive in zip(out_avals, live, strict=True) if alive]
            program, residuals = trace_to_jaxpr(reverse, avals, "pullback")
            self._program = _Program(program, live, reached), residuals
        program, residuals = self._program
        return residuals, (program, self._types)

    @classmethod
    def tree_unflatten(cls, structure, residuals):
        program, types = structure
        pullback = cls(None, *types)
        pullback._program = program, residuals
        pullback._send = lambda leaves: program(residuals, leaves)
        return pullback


class _Program:
    """A staged backward pass; two are the same structure only if they are the same object."""

    def __init__(self, jaxpr, live, reached):
        self.jaxpr, self.live, self.reached = jaxpr, live, reached

    def __call__(self, residuals, cotangents):
        given = [g for g, alive in zip(cotangents, self.live, strict=True) if alive]
        found = iter(eval_jaxpr(self.jaxpr.jaxpr, (), *residuals, *given))
        return [next(found) if there else None for there in self.reached]


def pullback_of_tape(places, inputs, in_avals, in_tree, out_avals, out_tree) -> Pullback:
    """The pullback over a recorded tape.

    Args:
      places: (node, output number) of each result leaf, None for one that has no gradient.
      inputs: input node of each argument leaf, None for one that has no gradient.
    """
    nodes = [node for node in inputs if node is not None]

    def send(cotangents):
        seeds = [(place, g) for place, g in zip(places, cotangents, strict=True) if place is not None]
        with unwatched():  # the operations of a backward pass are nobody's source
            found = iter(backward(seeds, nodes))
        return [None if node is None else next(found) for node in inputs]

    return Pullback(send, in_avals, in_tree, out_avals, out_tree)


def _full(cotangent, aval):
    return instantiate(aval) if cotangent is None else cotangent
