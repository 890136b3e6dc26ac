"""Credit and the place of an object: the pointing game, energy in a mask, and mosaics of several pictures."""

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import ndimage

from diffprog._util.numbers import check_count
from diffprog._util.random_keys import random_key
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import AttributionWarning
from diffprog.attribute.measures._credit import enlarged, finite, values_of
from diffprog.attribute.measures._measured import Measured, measured


def pointing_game(attribution: Any, mask: Any, *, tolerance: float = 0) -> Measured:
    """Ask whether the place of the largest credit is in the object: 1 is a hit, 0 a miss.

    Args:
      attribution: an `Attribution` of images, or its values (n, height, width[, channels]); channels are added up.
      mask: where the object is, bool (n, height, width). A smaller map is brought to its size.
      tolerance: distance in pixels from the object that still counts; the paper's is 15.

    Returns:
      `Measured`: where several places share the largest credit, the part of them that hits; for a map that is the same
      everywhere that is the object's part of the picture.

    Raises:
      ValueError: a shape does not fit, or an object is nowhere.

    References:
      Zhang et al., "Top-down neural attention by excitation backprop", 2018, section 4.2.
    """
    maps, masks = _maps_and_masks(attribution, mask)
    if not (np.ndim(tolerance) == 0 and np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be 0 pixels or more; found {tolerance!r}")
    hits = []
    for each, inside in zip(maps, masks, strict=True):
        near = ndimage.distance_transform_edt(~inside) <= tolerance if tolerance else inside
        hits.append(near[each == each.max()].mean())
    return measured("pointing_game", hits, len(maps))


def energy(attribution: Any, mask: Any) -> Measured:
    """Compute the share of the positive credit that is in the object: 1 is best.

    Args:
      attribution: an `Attribution` of images, or its values (n, height, width[, channels]); channels are added up.
      mask: where the object is, bool (n, height, width). A smaller map is brought to its size.

    Returns:
      `Measured`: NaN, with a warning, where no credit is positive. A map that is the same everywhere has the object's
      part of the picture.

    Raises:
      ValueError: a shape does not fit, or an object is nowhere.

    References:
      Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", 2020, section 4.3.
    """
    return _share_inside("energy", *_maps_and_masks(attribution, mask))


def grid_pointing(attribution: Any, cells: Any, *, side: int = 2) -> Measured:
    """Compute the share of the positive credit that is in the right picture of a mosaic: 1 is best.

    What is explained is the class of one of the pictures. Evenly spread credit has 1 / side^2.

    Args:
      attribution: an `Attribution` of mosaics, or its values (n, height, width[, channels]); channels are added up.
      cells: int (n,), the number of the right picture, row by row from 0.
      side: pictures in a row, and rows.

    Returns:
      `Measured`: NaN, with a warning, where no credit is positive.

    Raises:
      ValueError: a shape does not fit.

    References:
      Boehle et al., "Convolutional dynamic alignment networks for interpretable classifications", 2021, section 4.2.
      Rao et al., "Towards better understanding attribution methods", 2022.
    """
    maps, side = _maps(attribution), check_count(side, "side")
    numbers = np.asarray(cells)
    if (
        numbers.dtype.kind not in "iu"
        or numbers.shape != (len(maps),)
        or not ((0 <= numbers) & (numbers < side**2)).all()
    ):
        raise ValueError(
            f"cells must be one number of 0 to {side**2 - 1} for each of {len(maps)} mosaics; found {cells!r:.80}"
        )
    height, width = maps.shape[1:]
    rows, columns = (np.arange(length) * side // length for length in (height, width))
    which = rows[:, None] * side + columns[None]
    return _share_inside("grid_pointing", maps, which[None] == numbers[:, None, None])


class Mosaics(NamedTuple):
    """Pictures of several pictures.

    Attributes:
      images: float32 (m, side * height, side * width, channels).
      pictures: int (m, side^2), which picture is in which cell, row by row.
      classes: int (m, side^2), what it shows.
    """

    images: np.ndarray
    pictures: np.ndarray
    classes: np.ndarray


def mosaics(images: Any, labels: Any, *, count: int, side: int = 2, key: Any = 0) -> Mosaics:
    """Put pictures of different classes together in a square, each in a random cell.

    Args:
      images: (n, height, width, channels).
      labels: int (n,), what each shows.
      count: number of mosaics, m.
      side: pictures in a row, and rows.
      key: a JAX random key, or a seed.

    Returns:
      `Mosaics`. For `grid_pointing`, explain `classes[:, cell]` of `images`.

    Raises:
      ValueError: there are fewer classes than cells.
    """
    pictures, classes = np.asarray(images, np.float32), np.asarray(labels)
    side, count = check_count(side, "side", 2), check_count(count, "count")
    if pictures.ndim != 4 or classes.shape != (len(pictures),) or classes.dtype.kind not in "iu":
        raise ValueError(
            f"mosaics take images (n, height, width, channels) and labels (n,); found {pictures.shape} and "
            f"{classes.shape}"
        )
    found = len(set(classes.tolist()))
    if found < side**2:
        raise ValueError(
            f"a mosaic of {side} x {side} needs as many classes; found {found}: give more pictures, or a smaller side"
        )
    chosen = np.stack([_different(classes, side**2, jax.random.fold_in(random_key(key), i)) for i in range(count)])
    height, width, channels = pictures.shape[1:]
    cells = pictures[chosen].reshape(count, side, side, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return Mosaics(cells.reshape(count, side * height, side * width, channels), chosen, classes[chosen])


def _different(classes: np.ndarray, number: int, key: jax.Array) -> np.ndarray:
    """Choose pictures of different classes, in random order."""
    order = np.asarray(jax.random.permutation(key, len(classes)))
    _, first = np.unique(classes[order], return_index=True)
    return order[np.sort(first)[:number]]


def _maps(attribution: Any) -> np.ndarray:
    """Take maps (n, height, width) of an attribution of images."""
    leaves = jax.tree.leaves(values_of(attribution))
    shape = np.shape(leaves[0]) if len(leaves) == 1 else ()
    if len(shape) not in (3, 4):
        raise ValueError(
            f"the attribution must be of images, (n, height, width[, channels]); found {shape or leaves!r:.80}"
        )
    maps = finite(np.asarray(leaves[0], np.float64))
    return maps.sum(axis=-1) if maps.ndim == 4 else maps


def _maps_and_masks(attribution: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    maps, masks = _maps(attribution), np.asarray(mask)
    if masks.dtype != bool or masks.ndim != 3 or len(masks) != len(maps):
        raise ValueError(
            f"mask must be bool (n, height, width), for {len(maps)} images; found {masks.dtype} {masks.shape}: compare "
            "it with a number"
        )
    if not masks.any(axis=(1, 2)).all():
        raise ValueError(
            f"mask of example {int((~masks.any(axis=(1, 2))).argmax())} is empty: there is no object to hit"
        )
    return enlarged(maps, *masks.shape[1:]), masks


def _share_inside(measure: str, maps: np.ndarray, masks: np.ndarray) -> Measured:
    """Divide the positive credit inside by all of it."""
    positive = np.maximum(maps, 0)
    totals = np.array([each.sum() for each in positive])
    inside = np.array([each[mask].sum() for each, mask in zip(positive, masks, strict=True)])
    if not (totals > 0).all():
        warn(
            f"{measure}: no credit is positive for {int((totals <= 0).sum())} of {len(maps)} examples",
            AttributionWarning,
        )
    return measured(measure, np.where(totals > 0, inside / np.where(totals > 0, totals, 1), np.nan), len(maps))
