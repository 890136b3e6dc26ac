"""What a pullback keeps: which of the function's arguments, and what else."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax import tree_util

from diffprog._jax_internals import canonical, eval_jaxpr, same_type, trace_to_jaxpr, typeof
from diffprog._jax_internals.jaxprs import hoist, keep_outputs
from diffprog._jax_internals.pullbacks import NotNeeded, NotSaveable
from diffprog._util.lists import expand, select


class Program:
    """A staged backward pass; two are the same structure of a pytree only if they are the same object.

    Attributes:
      jaxpr: closed jaxpr, residuals + cotangents of the results in `ct_in` -> cotangents of the arguments in `ct_out`.
      ct_in: which leaves of the results have a cotangent.
      ct_out: which leaves of the arguments get one.
      places: where each residual is found: (whether among the leaves of the arguments, its position).
    """

    def __init__(self, jaxpr, ct_in: Sequence[bool], ct_out: Sequence[bool], places: Sequence[tuple[bool, int]]):
        self.jaxpr, self.ct_in, self.ct_out, self.places = jaxpr, ct_in, ct_out, places

    def __call__(self, residuals: Sequence, cotangents: Sequence, wanted: Sequence[bool]) -> list:
        """Run it: cotangents of the leaves of the results -> of those of the arguments, None for zero or not wanted."""
        returned = tuple(select(wanted, self.ct_out))
        jaxpr = self.jaxpr if all(returned) else keep_outputs(self.jaxpr, returned)
        sent = eval_jaxpr(jaxpr.jaxpr, (), *residuals, *select(cotangents, self.ct_in))
        return expand(expand(sent, returned), self.ct_out)


class Saved(NamedTuple):
    """A staged backward pass, and the values that it closes over.

    Attributes:
      program: the backward pass.
      args_res: what it reads of the arguments, in containers like theirs; `NotNeeded` in the place of the others.
      opaque_residuals: what else it reads.
    """

    program: Program
    args_res: list
    opaque_residuals: list

    def residuals(self, in_tree) -> list:
        """Find the residuals.

        Raises:
          ValueError: an argument was taken out of `args_res`, or replaced by a value of another type.
        """
        trees = in_tree.children()
        if len(self.args_res) != len(trees):
            raise ValueError(
                f"args_res has {len(self.args_res)} entries, and the function has {len(trees)} arguments: "
                "give one for each"
            )
        leaves = [x for entry, tree in zip(self.args_res, trees, strict=True) for x in _leaves(entry, tree)]
        expected = self.program.jaxpr.in_avals
        return [
            _checked(leaves[i], aval, in_tree, i) if of_argument else self.opaque_residuals[i]
            for (of_argument, i), aval in zip(self.program.places, expected, strict=False)
        ]


def save(pull: Callable, ct_in: Sequence[bool], cotangent_avals: Sequence, args: Sequence, in_tree, saveable) -> Saved:
    """Stage a backward pass.

    Args:
      pull: cotangents of the leaves of the results, None for zero -> of those of the arguments.
      ct_in: which leaves of the results have a cotangent.
      cotangent_avals: types of these cotangents.
      args: leaves of the arguments, to tell among the residuals.
      in_tree: their structure.
      saveable: which of them are kept.
    """
    ct_out: list[bool] = []

    def reverse(*cotangents):
        sent = pull(expand(cotangents, ct_in))
        ct_out[:] = [g is not None for g in sent]
        return select(sent, ct_out)

    jaxpr, residuals = trace_to_jaxpr(reverse, cotangent_avals, "pullback")
    before, after = hoist(jaxpr, len(residuals))
    if _size(before.out_avals) <= _size(before.in_avals):  # what needs no cotangent is computed once, if that fits
        jaxpr, residuals = after, eval_jaxpr(before.jaxpr, (), *residuals)
    position = {id(x): i for i, x in enumerate(args)}
    opaque = [x for x in residuals if id(x) not in position]
    opaque_position = {id(x): i for i, x in enumerate(opaque)}
    places = [(True, position[id(x)]) if id(x) in position else (False, opaque_position[id(x)]) for x in residuals]
    read = set(map(id, residuals))
    kept = [
        NotNeeded() if id(x) not in read else x if keep else NotSaveable()
        for x, keep in zip(args, saveable, strict=True)
    ]
    return Saved(Program(jaxpr, ct_in, ct_out, places), list(mirror(in_tree, iter(kept))), opaque)


def mirror(tree, leaves: Iterator) -> Any:
    """Put leaves into containers like those of `tree`: lists, dictionaries and None; tuples in the place of others."""
    data = tree.node_data()
    if data is None:
        return next(leaves)
    kind, keys = data
    children = [mirror(child, leaves) for child in tree.children()]
    if kind is list:
        return children
    if kind is dict:
        return dict(zip(keys, children, strict=True))
    return None if kind is type(None) else tuple(children)


def flags(prefix: Any, tree, name: str) -> list[bool]:
    """Spread flags over the leaves of `tree`.

    Args:
      prefix: a boolean, or a container like the one of `tree` at its place, of any kind, with flags of its children.
      tree: structure.
      name: of the setting, for the error.

    Raises:
      ValueError: a container has another number of children, or stands where there is an array.
    """
    if isinstance(prefix, bool):
        return [prefix] * tree.num_leaves
    level = tree_util.default_registry.flatten_one_level(prefix)
    children = None if level is None or tree.node_data() is None else list(level[0])
    if children is None or len(children) != len(tree.children()):
        raise ValueError(
            f"{name} must be a boolean, or booleans in containers like those of the arguments, {tree}; found {prefix!r}"
        )
    return [flag for child, sub in zip(children, tree.children(), strict=True) for flag in flags(child, sub, name)]


def _size(avals) -> int:
    """Count the bytes of arrays of these types; a symbolic dimension counts as 1."""
    known = [aval for aval in avals if isinstance(aval, jax.core.ShapedArray)]
    return sum(aval.dtype.itemsize * math.prod(n for n in aval.shape if isinstance(n, int)) for aval in known)


_MARKERS = (NotNeeded, NotSaveable)


def _leaves(entry, tree) -> list:
    """Get the leaves of what stands in the place of an argument; None for all of them if it has another structure."""
    for is_leaf in (lambda x: isinstance(x, _MARKERS), lambda x: x is None or isinstance(x, _MARKERS)):
        leaves = jax.tree.leaves(entry, is_leaf=is_leaf)
        if len(leaves) == tree.num_leaves:
            return leaves
    return [None] * tree.num_leaves


def _checked(value, aval, in_tree, index: int):
    if value is None or isinstance(value, _MARKERS):
        raise ValueError(
            f"the pullback reads {_name(in_tree, index)}, which was taken out: put the array back before the call"
        )
    value = canonical(value)
    if not same_type(typeof(value), aval):
        raise ValueError(
            f"the pullback reads {_name(in_tree, index)} as {aval.str_short()}, and a value of type "
            f"{typeof(value).str_short()} was put there: put back one of the former type"
        )
    return value


def _name(in_tree, index: int) -> str:
    paths = jax.tree.leaves_with_path(mirror(in_tree, iter(range(in_tree.num_leaves))))
    return "args_res" + tree_util.keystr(paths[index][0])
