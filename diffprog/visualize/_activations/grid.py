"""Activation grids: what a layer detects at each position of a photograph, every vector as a small picture.

After Olah et al. 2018, "The Building Blocks of Interpretability".
"""

from typing import NamedTuple, TypedDict, Unpack

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.batches import in_batches
from diffprog._util.promotion import own_promotion
from diffprog.models import Model
from diffprog.visualize._deepdream.dream import resized
from diffprog.visualize._rendering.fitting import layer_values
from diffprog.visualize._rendering.render import render
from diffprog.visualize.objectives._units import direction
from diffprog.visualize.parameterizations import fourier
from diffprog.visualize.transforms import Transform, chain, jitter, pad, rotate, scale

SMALL: Transform = chain(pad(4), jitter(8), scale(0.9, 1.1), rotate(10), jitter(2))  # for pictures of 64 to 100 pixels
MARGIN = 8  # pixels of an icon's border, mostly without a shape of their own, that are cut off


class Grid(NamedTuple):
    """An activation grid.

    Attributes:
      picture: (height, width, 3), the icons side by side.
      icons: (rows, columns, side, side, 3), white where a vector is zero.
      vectors: (rows, columns, channels), what was drawn.
    """

    picture: np.ndarray
    icons: np.ndarray
    vectors: np.ndarray

    @property
    def magnitudes(self) -> np.ndarray:
        """The lengths of the vectors, (rows, columns)."""
        return np.linalg.norm(self.vectors, axis=-1)


class IconOptions(TypedDict, total=False):
    """How icons are drawn; see `activation_grid`."""

    side: int
    cosine_power: float
    steps: int
    learning_rate: float
    batch_size: int
    engine: str
    progress: str | None


@own_promotion()
def activation_grid(
    model: Model,
    photograph: np.ndarray,
    layer: str,
    *,
    key: jax.Array,
    cells: tuple[int, int] | None = None,
    sized: bool = False,
    **icon_options: Unpack[IconOptions],
) -> Grid:
    """Draw what a layer detects at each position of a photograph.

    Each icon excites the direction of its position's activation vector.

    Args:
      model: The network.
      photograph: Array (height, width, 3) in [0, 1], of any size that the network takes.
      layer: Name of a layer with positions.
      key: A JAX random key.
      cells: (rows, columns) of a coarser grid, whose cells stand for the mean of the positions in them; a cell for each
        position by default.
      sized: Shrink an icon in the measure in which its vector is shorter than the longest.
      side: Side of an icon in pixels, 64 by default. It is drawn 8 pixels larger on each side, which must be enough for
        the network.
      cosine_power: How strictly an icon shows its vector's direction and nothing else, 2 by default; see `direction`.
      steps: Number of ascent steps, 96 by default.
      learning_rate: Adam's learning rate, 0.08 by default.
      batch_size: Icons drawn at a time, by one compiled program, 16 by default. It changes speed and memory only.
      engine: Gradients by "diffprog", the default, or by "jax".
      progress: A caption, which switches on a progress bar with the time left.

    Returns:
      A `Grid`.

    Raises:
      ValueError: For a layer without positions, more cells than positions, and what `render` refuses.

    References:
      Olah et al. 2018, "The Building Blocks of Interpretability".
    """
    (layer,) = model.check_layers([layer])
    vectors = block_means(layer_values(model, photograph, layer), layer, cells)
    drawn = icons(model, layer, vectors, key=key, **icon_options)
    lengths = np.linalg.norm(vectors, axis=-1)
    shown = shrunk(drawn, lengths / max(lengths.max(), 1e-12)) if sized else drawn
    return Grid(assembled(shown), drawn, vectors)


def icons(
    model: Model,
    layer: str,
    vectors: np.ndarray,
    *,
    key: jax.Array,
    side: int = 64,
    cosine_power: float = 2,
    steps: int = 96,
    learning_rate: float = 0.08,
    batch_size: int = 16,
    engine: str = "diffprog",
    progress: str | None = None,
) -> np.ndarray:
    """Draw a picture of each direction in an array (..., channels): (..., side, side, 3).

    White where a vector is zero or not finite. Icon i is drawn from `key` and i, whatever the batch.
    """
    if batch_size < 1 or side < 1:
        raise ValueError(f"batch_size and side must be at least 1; found batch_size={batch_size}, side={side}")
    flat = vectors.reshape(-1, vectors.shape[-1])
    indices = np.flatnonzero(np.isfinite(flat).all(axis=1) & flat.any(axis=1))
    drawn = np.ones((len(flat), side, side, model.channels), np.float32)
    batch_size = min(batch_size, max(len(indices), 1))
    with tqdm(total=steps * -(-len(indices) // batch_size), desc=progress, disable=progress is None) as bar:

        def draw(batch):
            rendering = render(
                model,
                [direction(layer, flat[index], cosine_power) for index in batch],
                key=key,
                parameterization=fourier(side + 2 * MARGIN, channels=model.channels),
                transform=SMALL,
                steps=steps,
                learning_rate=learning_rate,
                image_ids=batch,
                engine=engine,
                progress=bar,
            )
            return rendering.images[:, MARGIN:-MARGIN, MARGIN:-MARGIN]

        if len(indices):
            drawn[indices] = in_batches(draw, indices, batch_size)
    return drawn.reshape(*vectors.shape[:-1], *drawn.shape[1:])


def block_means(values: np.ndarray, layer: str, cells: tuple[int, int] | None = None) -> np.ndarray:
    """Average over blocks as equal as can be: (h, w, channels) -> (rows, columns, channels)."""
    if values.ndim != 3:
        raise ValueError(f"{layer} has no rows and columns of positions; choose a layer before the network's last mean")
    rows, columns = cells or values.shape[:2]
    if not (1 <= rows <= values.shape[0] and 1 <= columns <= values.shape[1]):
        raise ValueError(
            f"{layer} has {values.shape[0]} x {values.shape[1]} positions here, so cells go from (1, 1) to that; "
            f"found {cells}"
        )
    split = [np.array_split(band, columns, axis=1) for band in np.array_split(values, rows)]
    return np.array([[block.mean((0, 1)) for block in band] for band in split])


def assembled(icons: np.ndarray) -> np.ndarray:
    """Set icons side by side: (rows, columns, h, w, 3) -> (rows * h, columns * w, 3)."""
    rows, columns, height, width, channels = icons.shape
    return icons.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def shrunk(icons: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Scale each icon by its share (rows, columns) in [0, 1], in the middle of a white square of its old size."""
    result = np.ones_like(icons)
    side = icons.shape[2]
    for place in np.ndindex(shares.shape):
        size = round(side * float(shares[place]))
        if size:
            start = (side - size) // 2
            result[place][start : start + size, start : start + size] = resized(icons[place], (size, size)).clip(0, 1)
    return result
