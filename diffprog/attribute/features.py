"""Features: which elements of an input are taken away together, for `features=` of the methods without gradients.

A feature is a number, and features are an array of integers 0, 1, ... with one for each element of an example. Any such
array will do; these functions make the usual ones. All but `segments` and `words` return a function of the shape of an
example, so that they fit inputs of any size. Positions are the axes of an example but the last, of channels: (height,
width) of a picture, (length,) of embedded words. An example with one axis has its elements for positions.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from diffprog._util.factory import factory
from diffprog._util.numbers import check_count
from diffprog.attribute._perturbation.axes import per_axis
from diffprog.attribute._perturbation.regions import merge_regions

__all__ = ["columns", "grid", "patches", "pixels", "segments", "words"]

Maker = Callable[[tuple[int, ...]], np.ndarray]


@factory
def pixels() -> Maker:
    """Make each position a feature, with all its channels.

    Returns:
      A function of the shape of an example.
    """
    return lambda shape: _numbered([np.arange(length) for length in _positions(shape)])


@factory
def columns() -> Maker:
    """Make each index of the last axis a feature: each column of a table, each channel of a picture.

    Returns:
      A function of the shape of an example.
    """
    return lambda shape: np.arange(shape[-1]).reshape((1,) * (len(shape) - 1) + (-1,))


@factory
def patches(size: int | tuple[int, ...]) -> Maker:
    """Cut the positions into patches of one size; the last of an axis are smaller where it does not divide.

    Args:
      size: length of an edge, or one for each of the first axes: (16, 16) of pictures without channels.

    Returns:
      A function of the shape of an example.
    """

    def make(shape):
        edges = per_axis(size, shape, "size")
        return _numbered([np.arange(length) // edge for length, edge in zip(shape, edges, strict=False)])

    return make


@factory
def grid(cells: int | tuple[int, ...]) -> Maker:
    """Divide the positions into a number of cells along each axis, as even as can be.

    Args:
      cells: along an axis, or one number for each of the first axes.

    Returns:
      A function of the shape of an example.
    """

    def make(shape):
        counts = per_axis(cells, shape, "cells")
        for count, length in zip(counts, shape, strict=False):
            if count > length:
                raise ValueError(f"grid has {count} cells along an axis of {length}: give at most as many")
        return _numbered([np.arange(length) * count // length for length, count in zip(shape, counts, strict=False)])

    return make


def segments(images: jax.Array | np.ndarray, count: int = 50, *, compactness: float = 0.2) -> np.ndarray:
    """Divide pictures into connected regions of similar color, always as many as asked for.

    Small clusters of color and position (SLIC) are merged with their neighbors until `count` are left, those first that
    add least to the variance inside regions (Ward). The result depends on the picture alone.

    Args:
      images: one picture (height, width, channels), or a batch (n, height, width, channels), values in [0, 1].
      count: of regions in each picture.
      compactness: how much the distance of two regions counts beside their colors: a difference of color of this size
        weighs as much as the distance of two neighboring regions. More makes rounder regions.

    Returns:
      Integers (height, width), or (n, height, width, 1).

    Raises:
      ValueError: the shape is no picture's, or there are fewer pixels than regions.

    References:
      Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", 2012. Ward, "Hierarchical
      grouping to optimize an objective function", 1963.
    """
    pictures = np.asarray(images, np.float64)
    count = check_count(count, "count")
    if pictures.ndim not in (3, 4):
        raise ValueError(
            f"segments takes a picture (height, width, channels), or a batch of them; found {pictures.shape}: add the "
            "axis of channels, image[..., None]"
        )
    height, width = pictures.shape[-3:-1]
    if count > height * width:
        raise ValueError(f"count must be at most the number of pixels, {height * width}; found {count}")
    if not np.isfinite(pictures).all():
        raise ValueError("images must be finite; found NaN or infinity")
    if not (np.ndim(compactness) == 0 and np.isfinite(compactness) and compactness >= 0):
        raise ValueError(f"compactness must be 0 or more; found {compactness!r}")
    if pictures.ndim == 3:
        return merge_regions(pictures, count, float(compactness))
    return np.stack([merge_regions(each, count, float(compactness)) for each in pictures])[..., None]


def words(pieces: Sequence[str]) -> np.ndarray:
    """Put the pieces of one word together, as tokenizers cut them.

    Args:
      pieces: the text of each token, of one example. "##" continues a word (WordPiece); where any piece begins with "▁"
        (SentencePiece) or "Ġ" (bytes), those begin words and all others continue them.

    Returns:
      Integers (tokens,): the number of the word.

    Raises:
      ValueError: there are no pieces, or they are no texts.
    """
    if isinstance(pieces, str) or not len(pieces) or not all(isinstance(piece, str) for piece in pieces):
        raise ValueError(
            f"words takes the texts of an example's tokens, as ['un', '##like', '##ly']; found {pieces!r:.80}"
        )
    marks = ("▁", "Ġ")
    if any(piece.startswith(marks) for piece in pieces):
        begins = [piece.startswith(marks) or _is_special(piece) for piece in pieces]
        # What follows a special token begins too, with or without a mark.
        begins = [here or number == 0 or _is_special(pieces[number - 1]) for number, here in enumerate(begins)]
    else:
        begins = [number == 0 or not piece.startswith("##") for number, piece in enumerate(pieces)]
    return np.cumsum(begins) - 1


def _is_special(piece: str) -> bool:
    """Say whether a token stands for no text: [CLS], <s>, <|end|>."""
    return len(piece) > 2 and (piece[0], piece[-1]) in (("[", "]"), ("<", ">"))


def _positions(shape):
    return shape[:-1] if len(shape) > 1 else shape


def _numbered(along):
    """Give numbers to the combinations of numbers along several axes."""
    total = np.zeros((), np.int64)
    for numbers in along:
        _, dense = np.unique(numbers, return_inverse=True)
        total = total[..., None] * (dense.max() + 1) + dense
    return total
