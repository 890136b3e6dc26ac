"""What a question is traced to: the program of its scores, and how many rows of it the model sees at once.

A function is traced in each call, because what it reads may have changed, and its compiled programs are found again by
its operations. Of a `Model` that reads nothing but its parameters, and of scores that are classes, the trace is kept
with the model; the parameters, which may be changed, are an argument of it.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import trace_context
from diffprog._jax_internals.interception import is_intercepted
from diffprog._jax_internals.jaxprs import jaxprs_in
from diffprog._jax_internals.structure import Structure
from diffprog._transforms.closures import Bound, Lifted, lift
from diffprog.attribute._core.places import Moved, moved
from diffprog.attribute._core.scores import Explained
from diffprog.graph import Selector

LARGEST_BLOCK = 256
VALUES_AT_ONCE = (
    2**20
)  # numbers that a forward pass of a block computes: enough to be busy, little enough to stay in cache
NUM_KNOWN = 256

_blocks: dict[Structure, int] = {}  # of the latest functions, traced with as many rows as their block has
_guesses: dict[Hashable, int] = {}  # blocks of the latest functions, by what is known before they are traced


class Traced(NamedTuple):
    """A question's function.

    Attributes:
      block: rows that the model sees at once.
      scores: (points, context) -> scores (block,), or (block, k).
      place: the places inside the model to which credit goes; None if it goes to inputs.
    """

    block: int
    scores: Lifted | Bound
    place: Moved | None


def trace(
    model: Any,
    explained: Explained,
    at: Selector | list[Selector] | None,
    context: Any,
    points: Any,
    join: Callable[[Any, Any], Any] | None,
    joined_by: Hashable,
) -> Traced:
    """Trace scores as a function of what credit goes to.

    Args:
      model: the user's function, or a `Model`.
      explained: it and its scores.
      at: selectors; None if credit goes to inputs.
      context: (inputs, classes), pytrees of arrays (n, ...).
      points: what credit goes to, where it is a part of the inputs.
      join: (points, inputs) -> inputs; None if credit goes elsewhere.
      joined_by: what `join` is known by.
    """
    selected = at if at is None or isinstance(at, str) else tuple(at) if isinstance(at, list | tuple) else (at,)
    rows = _types(context, 1)
    is_text = selected is None or all(isinstance(each, str) for each in selected)
    if explained.kept_by is None or not is_text or is_intercepted():
        guess = getattr(model, "__code__", type(model)), selected, rows, joined_by
        return _trace((), lambda inputs, classes: explained.function(inputs, classes), at, context, points, join, guess)
    first = (model.parameters,)
    key = "attribute", explained.kept_by, selected, rows, joined_by, _types(first), trace_context()
    found = model.programs.get(key) or _trace(first, explained.of_parameters, at, context, points, join)
    if not found.scores.reads_arrays:
        model.kept(key, lambda: found)
    return Traced(found.block, Bound(found.scores, first), found.place and found.place.bound(first))


def _types(tree, first_axis=0):
    """Describe arrays, without their first axes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf)[first_axis:], _type(leaf)) for leaf in leaves)


def _type(leaf):
    return leaf.dtype if isinstance(leaf, jax.Array | np.ndarray) else jnp.result_type(leaf)


def _trace(first, function, at, context, points, join, guess=None):
    """Trace a function of (*first, inputs, classes)."""
    place = None if at is None else moved(function, at, context, first)

    def scores_of(*arguments):
        *first, points, context = arguments
        if place is None:
            return function(*first, join(points, context[0]), context[1])
        return place.scores(points, *first, *context)

    like = points if place is None else place.shapes
    scores_at = lambda count: lift(scores_of, *first, zero_rows(like, count), zero_rows(context, count))
    block, scores = _in_blocks(scores_at, guess)
    if place is not None:
        place = place.traced(lift(place.values, *first, *zero_rows(context, block)))
    return Traced(block, scores, place)


def zero_rows(rows: Any, count: int) -> Any:
    """Make as many rows of zeros like these."""
    return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), rows)


def _in_blocks(traced_at, guess):
    """Choose how many rows the model sees at once, and trace it with as many.

    The number is found from a trace with two rows. Where a trace with the number of an earlier call gives a function
    that is known to have this number, that is the only one.
    """
    if guess in _guesses:
        lifted = traced_at(_guesses[guess])
        if lifted.can_be_kept and _blocks.get(lifted.structure) == _guesses[guess]:
            return _guesses[guess], lifted
    lifted = traced_at(2)
    block = _rows_at_once(lifted)
    if block != 2:
        lifted = traced_at(block)
    if lifted.can_be_kept and guess is not None:
        _remember(_guesses, guess, block)
        _remember(_blocks, lifted.structure, block)
    return block, lifted


def _remember(known, key, block):
    while len(known) >= NUM_KNOWN:
        known.pop(next(iter(known)))
    known[key] = block


def _rows_at_once(of_two) -> int:
    """Choose the rows of a block by the numbers that a forward pass computes for one of two rows."""
    numbers = _computed(of_two.jaxpr.jaxpr) / 2
    return int(np.clip(VALUES_AT_ONCE // max(numbers, 1), 1, LARGEST_BLOCK))


def _computed(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = sum(_computed(closed.jaxpr) for closed in jaxprs_in(equation.params))
        own = sum(int(np.prod(variable.aval.shape)) for variable in equation.outvars if hasattr(variable.aval, "shape"))
        total += max(inner * equation.params.get("length", 1), own)
    return total
