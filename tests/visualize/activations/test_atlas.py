import jax
import numpy as np
import pytest

from diffprog.visualize._activations.atlas import activation_atlas, binned, sampled, tsne
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.uniform(0, 1, (*size, 3)).astype(np.float32) for size in [(9, 12), (12, 9), (9, 12), (12, 12)]]
VECTORS = RANDOM.normal(size=(200, 4)).astype(np.float32)


def test_cells_hold_the_means_of_their_vectors():
    plane = RANDOM.uniform(size=(200, 2))
    plane[:3] = [0, 0], [1, 1], [0.999, 0.2]
    counts, means = binned(VECTORS, plane, (9, 7), min_vectors=2)
    assert counts.sum() == 200 and counts.min() < 2 < counts.max()
    for row, column in np.ndindex(9, 7):
        x, y = np.minimum(np.floor(plane * [7, 9]), [6, 8]).T
        inside = VECTORS[(x == column) & (y == row)]
        assert counts[row, column] == len(inside)
        expected = inside.mean(axis=0) if len(inside) >= 2 else np.full(4, np.nan)
        np.testing.assert_allclose(means[row, column], expected, rtol=1e-5, atol=1e-6)


def test_vectors_come_from_where_they_say_and_depend_on_key_and_number_only():
    vectors, sources = sampled(MODEL, IMAGES, "units", KEY, 5)
    assert vectors.shape == (20, 4) and sources[:, 0].tolist() == np.repeat(range(4), 5).tolist()
    for vector, (number, row, column) in zip(vectors, sources, strict=True):
        values = np.asarray(MODEL.activations(IMAGES[number][None], "units")["units"])[0]
        np.testing.assert_allclose(vector, values[row, column], rtol=1e-5, atol=1e-6)
    assert len({tuple(source) for source in sources}) == 20  # no position twice
    fewer = sampled(MODEL, IMAGES[:2], "units", KEY, 5)
    np.testing.assert_allclose(fewer[0], vectors[:10], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fewer[1], sources[:10])
    assert not np.array_equal(sampled(MODEL, IMAGES, "units", jax.random.key(1), 5)[1], sources)


def test_an_atlas_puts_each_cells_mean_in_its_place(monkeypatch):
    """A layout by two of the channels; icons (tested in test_grids) are of one color here, their vector's."""

    def plain(model, layer, vectors, *, key, side, **options):
        colors = np.nan_to_num(vectors[..., None, None, :3], nan=1)
        return np.broadcast_to(colors, (*vectors.shape[:-1], side, side, 3))

    monkeypatch.setattr("diffprog.visualize._activations.atlas.icons", plain)
    atlas = activation_atlas(
        MODEL, IMAGES, "units", key=KEY, per_image=3, grid=(3, 2), side=8, layout=lambda vectors: 7 * vectors[:, :2] - 3
    )
    vectors, sources = sampled(MODEL, IMAGES, "units", jax.random.split(KEY)[0], 3)
    plane = (vectors[:, :2] - vectors[:, :2].min(0)) / np.ptp(vectors[:, :2], axis=0)
    np.testing.assert_allclose(atlas.plane, plane, atol=1e-5)
    np.testing.assert_array_equal(atlas.sources, sources)
    counts, means = binned(vectors, plane, (3, 2))
    np.testing.assert_array_equal(atlas.counts, counts)
    assert atlas.picture.shape == (24, 16, 3) and (counts == 0).any()
    for row, column in np.ndindex(3, 2):
        cell = atlas.picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        expected = means[row, column, :3] if counts[row, column] else 1
        np.testing.assert_allclose(cell, np.broadcast_to(expected, (8, 8, 3)), rtol=1e-6)


def test_tsne_keeps_groups_together_and_repeats():
    pytest.importorskip("sklearn")
    groups = np.eye(4)[np.arange(40) % 2] + 0.05 * VECTORS[:40]
    plane = tsne(groups)
    distances = np.linalg.norm(plane[:, None] - plane, axis=2) + 1e9 * np.eye(40)
    assert np.all(distances.argmin(axis=1) % 2 == np.arange(40) % 2)
    np.testing.assert_array_equal(tsne(groups), plane)


def test_bad_arguments_are_refused():
    atlas = lambda images=IMAGES, layer="units", **options: activation_atlas(MODEL, images, layer, key=KEY, **options)
    with pytest.raises(ValueError, match=r"an atlas needs images .*; found 0 and 1"):
        atlas([])
    with pytest.raises(ValueError, match="9 x 12 positions in image 0; found per_image=109"):
        atlas(per_image=109)
    with pytest.raises(ValueError, match="logits has no rows and columns"):
        atlas(layer="logits")
    with pytest.raises(ValueError, match=r"a layout gives \(4, 2\) finite numbers for 4 vectors; found shape \(4, 4\)"):
        atlas(layout=lambda vectors: vectors)
    with pytest.raises(ValueError, match=r"found grid=\(0, 3\)"):
        atlas(layout=lambda vectors: vectors[:, :2], grid=(0, 3))
    with pytest.raises(ValueError, match="at least 4 vectors; found 3"):
        tsne(VECTORS[:3])
