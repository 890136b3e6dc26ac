"""Activation atlases: what a network sees in many images, laid out so that similar vectors lie together.

After Carter et al. 2019, "Activation Atlas".
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

import jax
import numpy as np

from diffprog._util.batches import by_shape
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.models import Model
from diffprog.visualize._activations.grid import IconOptions, assembled, icons
from diffprog.visualize._rendering.fitting import activations

BATCH_SIZE = 16  # images of one size that go through the network at a time


class Atlas(NamedTuple):
    """An activation atlas.

    Attributes:
      picture: (height, width, 3), the icons side by side, white where a cell is empty.
      icons: (rows, columns, side, side, 3).
      vectors: (rows, columns, channels), the mean in each cell, NaN in empty ones.
      counts: (rows, columns), the number of activation vectors in each cell.
      plane: (n, 2), where the layout put each sampled vector: x to the right, y downwards, both in [0, 1].
      sources: (n, 3), the index of a vector's image, and its row and column in the layer.
    """

    picture: np.ndarray
    icons: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    plane: np.ndarray
    sources: np.ndarray


def tsne(vectors: np.ndarray) -> np.ndarray:
    """Lay vectors (n, channels) out in a plane, (n, 2), by t-SNE on cosine distances (van der Maaten and Hinton 2008).

    It starts from principal components: equal vectors give an equal plane. Needs scikit-learn.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError("t-SNE needs scikit-learn: install diffprog[atlas], or give a layout of your own") from None
    if len(vectors) < 4:
        raise ValueError(f"t-SNE needs at least 4 vectors; found {len(vectors)}: give more images or more per image")
    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0).fit_transform(vectors)


@own_promotion()
def activation_atlas(
    model: Model,
    images: Sequence[np.ndarray],
    layer: str,
    *,
    key: jax.Array,
    grid: tuple[int, int] = (8, 8),
    per_image: int = 1,
    min_vectors: int = 1,
    layout: Callable[[np.ndarray], np.ndarray] = tsne,
    **icon_options: Unpack[IconOptions],
) -> Atlas:
    """Draw the mean activation vector of each cell of a plane in which similar vectors are neighbors.

    The positions sampled in image i depend on `key` and i only.

    Args:
      model: The network.
      images: Arrays (height, width, 3) in [0, 1], of any sizes that the network takes.
      layer: Name of a layer with positions.
      key: A JAX random key.
      grid: (rows, columns) of cells, which divide the layout's extent equally.
      per_image: Positions of the layer that are sampled at random from each image.
      min_vectors: A cell with fewer vectors stays empty.
      layout: `layout(vectors) -> (n, 2)`, of vectors (n, channels); t-SNE by default, which needs scikit-learn.
      side: Side of an icon in pixels, 64 by default. It is drawn 8 pixels larger on each side, which must be enough for
        the network.
      cosine_power: How strictly an icon shows its vector's direction and nothing else, 2 by default; see `direction`.
      steps: Number of ascent steps, 96 by default.
      learning_rate: Adam's learning rate, 0.08 by default.
      batch_size: Icons drawn at a time, by one compiled program, 16 by default. It changes speed and memory only.
      engine: Gradients by "diffprog", the default, or by "jax".
      progress: A caption, which switches on a progress bar with the time left.

    Returns:
      An `Atlas`.

    Raises:
      ValueError: For no images, for a layer without positions, and for a layout that is not finite.

    References:
      Carter et al. 2019, "Activation Atlas".
    """
    (layer,) = model.check_layers([layer])
    sampling, drawing = jax.random.split(random_key(key))
    vectors, sources = sampled(model, images, layer, sampling, per_image)
    plane = _unit_square(layout(vectors), len(vectors))
    counts, means = binned(vectors, plane, grid, min_vectors)
    drawn = icons(model, layer, means, key=drawing, **icon_options)
    return Atlas(assembled(drawn), drawn, means, counts, plane, sources)


def sampled(
    model: Model, images: Sequence[np.ndarray], layer: str, key: jax.Array, per_image: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sample activation vectors (n, channels) at random positions of each image, and list their sources (n, 3)."""
    if not len(images) or per_image < 1:
        raise ValueError(f"an atlas needs images and per_image of at least 1; found {len(images)} and {per_image}")
    vectors: dict[int, np.ndarray] = {}
    sources: dict[int, np.ndarray] = {}
    read = lambda batch: np.asarray(activations(model, batch, layer)[layer])
    for index, values in by_shape(read, [model.check_image(image) for image in images], BATCH_SIZE):
        if values.ndim != 3:
            raise ValueError(f"{layer} has no rows and columns of positions; choose an earlier layer")
        height, width = values.shape[:2]
        if per_image > height * width:
            raise ValueError(f"{layer} has {height} x {width} positions in image {index}; found per_image={per_image}")
        image_key = jax.random.fold_in(key, index)
        places = np.asarray(jax.random.choice(image_key, height * width, (per_image,), replace=False))
        vectors[index] = values.reshape(-1, values.shape[-1])[places]
        sources[index] = np.stack([np.full(per_image, index), places // width, places % width], axis=1)
    in_order = lambda rows: np.concatenate([rows[index] for index in range(len(images))])
    return in_order(vectors), in_order(sources)


def binned(
    vectors: np.ndarray, plane: np.ndarray, grid: tuple[int, int], min_vectors: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Count and average vectors in cells: (rows, columns) and (rows, columns, channels).

    Means are NaN where fewer than `min_vectors` fall. `plane` is (n, 2) in [0, 1], x to the right and y downwards. The
    far edges belong to the last cells.
    """
    rows, columns = grid
    if rows < 1 or columns < 1 or min_vectors < 1:
        raise ValueError(
            f"an atlas has at least one row, column and vector; found grid={grid}, min_vectors={min_vectors}"
        )
    x, y = np.minimum((plane * [columns, rows]).astype(int), [columns - 1, rows - 1]).T
    cells = y * columns + x
    counts = np.bincount(cells, minlength=rows * columns)
    sums = np.zeros((rows * columns, vectors.shape[1]))
    np.add.at(sums, cells, vectors)
    means = np.where(counts[:, None] >= min_vectors, sums / np.maximum(counts, 1)[:, None], np.nan)
    return counts.reshape(rows, columns), means.reshape(rows, columns, -1).astype(np.float32)


def _unit_square(plane, num_vectors):
    plane = np.asarray(plane, np.float64)
    if plane.shape != (num_vectors, 2) or not np.isfinite(plane).all():
        raise ValueError(
            f"a layout gives ({num_vectors}, 2) finite numbers for {num_vectors} vectors; found shape {plane.shape}"
        )
    low, high = plane.min(axis=0), plane.max(axis=0)
    return (plane - low) / np.where(high > low, high - low, 1)
