"""What a network sees at each place of a photograph: every activation vector as a small picture.

After Olah et al. 2018, "The Building Blocks of Interpretability".
"""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from diffprog.visualize._deepdream.dream import resized
from diffprog.visualize._rendering.render import render
from diffprog.visualize.objectives._units import direction
from diffprog.visualize.parameterizations import fourier
from diffprog.visualize.transforms import Transform, chain, jitter, pad, rotate, scale

SMALL: Transform = chain(pad(4), jitter(8), scale(0.9, 1.1), rotate(10), jitter(2))  # for pictures of 64 to 100 pixels
MARGIN = 8  # pixels of an icon's border, mostly without a shape of their own, that are cut off


class Grid(NamedTuple):
    """picture: (height, width, 3), the icons side by side. icons: (rows, columns, side, side, 3), white where a vector
    is zero. vectors: (rows, columns, channels), what was drawn."""

    picture: np.ndarray
    icons: np.ndarray
    vectors: np.ndarray

    @property
    def magnitudes(self):
        """(rows, columns): the lengths of the vectors."""
        return np.linalg.norm(self.vectors, axis=-1)


def activation_grid(
    model,
    photograph,
    layer,
    *,
    key,
    cells=None,
    sized=False,
    side=64,
    cosine_power=2,
    steps=96,
    learning_rate=0.08,
    batch_size=16,
    engine="diffprog",
    progress=None,
):
    """A small picture for each position of a layer, of the direction in which its activation vector points there.

    photograph: (height, width, 3) in [0, 1], of any size that the network takes.
    cells:   (rows, columns) of a coarser grid, whose cells stand for the mean of the positions in them; one cell for
             each position unless given.
    sized:   draw an icon the smaller, the shorter its vector is against the longest.
    side:    of an icon in pixels, as shown; it is drawn 8 pixels larger on each side, which must be enough for the
             network.
    cosine_power: how strictly an icon is to be of its vector's direction and of nothing else (see `direction`).
    batch_size: how many icons are drawn at a time, by one compiled program.
    progress: a caption, which switches on a progress bar with the time left.

    Raises ValueError for a layer without positions, more cells than positions, and what `render` refuses.
    """
    (layer,) = model.check_layers([layer])
    values = np.asarray(model.activations(model.check_image(photograph)[None], layer)[layer])[0]
    vectors = block_means(values, layer, cells)
    drawn = icons(
        model,
        layer,
        vectors,
        key=key,
        side=side,
        cosine_power=cosine_power,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        engine=engine,
        progress=progress,
    )
    lengths = np.linalg.norm(vectors, axis=-1)
    shown = shrunk(drawn, lengths / max(lengths.max(), 1e-12)) if sized else drawn
    return Grid(assembled(shown), drawn, vectors)


def icons(
    model,
    layer,
    vectors,
    *,
    key,
    side=64,
    cosine_power=2,
    steps=96,
    learning_rate=0.08,
    batch_size=16,
    engine="diffprog",
    progress=None,
):
    """A picture (side, side, 3) of each direction in an array (..., channels): (..., side, side, 3).

    White where a vector is zero or not finite. Icon i is drawn from `key` and i, whatever the batch_size.
    """
    if batch_size < 1 or side < 1:
        raise ValueError(f"batch_size and side must be at least 1; found batch_size={batch_size}, side={side}")
    flat = vectors.reshape(-1, vectors.shape[-1])
    numbers = np.flatnonzero(np.isfinite(flat).all(axis=1) & flat.any(axis=1))
    found = np.ones((len(flat), side, side, model.channels), np.float32)
    batch_size = min(batch_size, max(len(numbers), 1))
    with tqdm(total=steps * -(-len(numbers) // batch_size), desc=progress, disable=progress is None) as bar:
        for first in range(0, len(numbers), batch_size):
            some = numbers[first : first + batch_size]
            full = np.concatenate(
                [some, np.repeat(some[-1:], batch_size - len(some))]
            )  # one size of batch_size: one program
            goals = [direction(layer, flat[number], cosine_power) for number in full]
            rendering = render(
                model,
                goals,
                key=key,
                parameterization=fourier(side + 2 * MARGIN, channels=model.channels),
                transform=SMALL,
                steps=steps,
                learning_rate=learning_rate,
                image_ids=full,
                engine=engine,
                progress=bar,
            )
            found[some] = rendering.images[: len(some), MARGIN:-MARGIN, MARGIN:-MARGIN]
    return found.reshape(*vectors.shape[:-1], *found.shape[1:])


def block_means(values, layer, cells=None):
    """(h, w, channels) to (rows, columns, channels): the means over blocks as equal as can be."""
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


def assembled(icons):
    """(rows, columns, h, w, 3) side by side: (rows * h, columns * w, 3)."""
    rows, columns, height, width, channels = icons.shape
    return icons.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def shrunk(icons, shares):
    """Each icon scaled by its share (rows, columns) in [0, 1], in the middle of a white square of its old size."""
    found = np.ones_like(icons)
    side = icons.shape[2]
    for place in np.ndindex(shares.shape):
        size = round(side * float(shares[place]))
        if size:
            start = (side - size) // 2
            found[place][start : start + size, start : start + size] = resized(icons[place], (size, size)).clip(0, 1)
    return found
