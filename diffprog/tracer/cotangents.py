"""How cotangents add up.

A cotangent is an array, None for zero, or a `Piece`: an array that is zero except for a part. A piece is
added into the sum in place, so that a thousand rows read one by one cost a thousand rows, not a thousand
arrays (the quadratic cost of JAX issues 10197, 15906 and 17640).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax

from diffprog.jax_internals import Tracer
from diffprog.jax_internals import add as add_arrays


@dataclass(frozen=True)
class Piece:
    """A part of an otherwise zero cotangent.

    Attributes:
      aval: shape and dtype of the whole.
      operands: the part, then whatever says where it goes (an index array, or nothing).
      dense: operands -> the whole array.
      add: (whole, *operands) -> the whole with the part added to it.
    """

    aval: object
    operands: tuple
    dense: Callable
    add: Callable


@dataclass
class _Sum:
    """Several cotangents of one value: the dense ones added already, the pieces waiting."""

    dense: object = None
    pieces: list[Piece] = field(default_factory=list)


def add(total, cotangent):
    """`total` and one more cotangent; both may be None, an array, a `Piece` or an earlier sum."""
    if cotangent is None:
        return total
    if total is None:
        return cotangent
    if type(total) is not _Sum:
        if type(total) is not Piece and type(cotangent) is not Piece:
            return add_arrays(total, cotangent)
        total = add(_Sum(), total)
    if type(cotangent) is Piece:
        total.pieces.append(cotangent)
    else:
        total.dense = cotangent if total.dense is None else add_arrays(total.dense, cotangent)
    return total


def materialize(total):
    """The sum as one array; None stays None."""
    if type(total) is Piece:
        return total.dense(*total.operands)
    if type(total) is not _Sum:
        return total
    first, *rest = total.pieces
    result = first.dense(*first.operands)
    for piece in rest:
        # `result` is ours alone, so outside of `jit` its memory can be reused.
        traced = any(isinstance(x, Tracer) for x in (result, *piece.operands))
        result = piece.add(result, *piece.operands) if traced else _donating(piece.add, result, *piece.operands)
    return result if total.dense is None else add_arrays(result, total.dense)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _donating(add, whole, *operands):
    return add(whole, *operands)
