"""An activation atlas: what a network sees in many images, laid out so that what it takes for similar lies together.

After Carter et al. 2019, "Activation Atlas".
"""

from typing import NamedTuple

import jax
import numpy as np

from diffprog._util.batches import by_shape
from diffprog.visualize._activations.grid import assembled, icons

BATCH_SIZE = 16  # images of one size that go through the network at a time


class Atlas(NamedTuple):
    """picture: (height, width, 3), the icons side by side, white where a cell is empty.

    icons: (rows, columns, side, side, 3). vectors: (rows, columns, channels), the mean in each cell, NaN in empty ones.
    counts: (rows, columns), how many activation vectors fell into it.
    plane: (n, 2), where the layout put each sampled vector: x to the right, y downwards, both in [0, 1].
    sources: (n, 3), the number of its image, and its row and column in the layer.
    """

    picture: np.ndarray
    icons: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    plane: np.ndarray
    sources: np.ndarray


def tsne(vectors):
    """(n, channels) to (n, 2) by t-SNE on cosine distances (van der Maaten and Hinton 2008), from principal
    components; the same vectors give the same plane. Needs scikit-learn."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError("t-SNE needs scikit-learn: install diffprog[atlas], or give a layout of your own") from None
    if len(vectors) < 4:
        raise ValueError(f"t-SNE needs at least 4 vectors; found {len(vectors)}: give more images or more per image")
    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0).fit_transform(vectors)


def activation_atlas(
    model,
    images,
    layer,
    *,
    key,
    grid=(8, 8),
    per_image=1,
    min_vectors=1,
    layout=tsne,
    side=64,
    cosine_power=2,
    steps=96,
    learning_rate=0.08,
    batch_size=16,
    engine="diffprog",
    progress=None,
):
    """Draw the mean activation vector of each cell of a plane in which similar vectors are neighbors.

    images:    arrays (height, width, 3) in [0, 1], of any sizes that the network takes.
    per_image: how many positions of the layer are sampled at random from each image.
    layout:    `layout(vectors) -> (n, 2)`, of vectors (n, channels).
    grid:      (rows, columns) of cells, which divide the layout's extent equally; fewer than `min_vectors` vectors
               leave a cell empty.
    side, cosine_power, steps, learning_rate, batch_size: of the icons, as in `activation_grid`.
    progress:  a caption, which switches on a progress bar with the time left.

    The positions sampled in image i depend on `key` and i only. Raises ValueError for no images, for a layer without
    positions, and for a layout that is not finite.
    """
    (layer,) = model.check_layers([layer])
    sampling, drawing = jax.random.split(key)
    vectors, sources = sampled(model, images, layer, sampling, per_image)
    plane = _unit_square(layout(vectors), len(vectors))
    counts, means = binned(vectors, plane, grid, min_vectors)
    drawn = icons(
        model,
        layer,
        means,
        key=drawing,
        side=side,
        cosine_power=cosine_power,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        engine=engine,
        progress=progress,
    )
    return Atlas(assembled(drawn), drawn, means, counts, plane, sources)


def sampled(model, images, layer, key, per_image):
    """Activation vectors (n, channels) at random positions, `per_image` of each image, and their sources (n, 3)."""
    if not len(images) or per_image < 1:
        raise ValueError(f"an atlas needs images and per_image of at least 1; found {len(images)} and {per_image}")
    vectors, sources = [None] * len(images), [None] * len(images)
    read = lambda batch: np.asarray(model.activations(batch, layer)[layer])
    for number, values in by_shape(read, [model.check_image(image) for image in images], BATCH_SIZE):
        if values.ndim != 3:
            raise ValueError(f"{layer} has no rows and columns of positions; choose an earlier layer")
        height, width = values.shape[:2]
        if per_image > height * width:
            raise ValueError(f"{layer} has {height} x {width} positions in image {number}; found per_image={per_image}")
        own = jax.random.fold_in(key, number)
        places = np.asarray(jax.random.choice(own, height * width, (per_image,), replace=False))
        vectors[number] = values.reshape(-1, values.shape[-1])[places]
        sources[number] = np.stack([np.full(per_image, number), places // width, places % width], axis=1)
    return np.concatenate(vectors), np.concatenate(sources)


def binned(vectors, plane, grid, min_vectors=1):
    """Counts (rows, columns), and means (rows, columns, channels), NaN where fewer than `min_vectors` vectors fall.

    plane: (n, 2) in [0, 1], x to the right and y downwards. The far edges belong to the last cells.
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


def _unit_square(plane, count):
    plane = np.asarray(plane, np.float64)
    if plane.shape != (count, 2) or not np.isfinite(plane).all():
        raise ValueError(f"a layout gives ({count}, 2) finite numbers for {count} vectors; found shape {plane.shape}")
    low, high = plane.min(axis=0), plane.max(axis=0)
    return (plane - low) / np.where(high > low, high - low, 1)
