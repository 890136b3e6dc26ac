import jax
import numpy as np
import pytest

from diffprog.visualize._activations.grid import activation_grid, assembled, block_means, icons, shrunk
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
PHOTOGRAPH = RANDOM.uniform(0, 1, (9, 12, 3)).astype(np.float32)
QUICK = dict(side=8, steps=16, key=KEY)


def test_each_icon_is_of_its_own_vector():
    """An icon's mean activation points along its vector more than along any other's."""
    vectors = np.float32([[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 3]])
    drawn = icons(MODEL, "units", vectors, **QUICK)
    assert drawn.shape == (3, 8, 8, 3)
    found = np.asarray(MODEL.activations(drawn, "units")["units"]).mean((1, 2))
    cosines = found @ vectors.T / np.linalg.norm(found, axis=1, keepdims=True)
    assert cosines.argmax(axis=1).tolist() == [0, 1, 2] and cosines.diagonal().min() > 0.7, cosines


def test_icons_do_not_depend_on_the_batch_and_empty_ones_are_white():
    vectors = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
    vectors[0, 1], vectors[1, 2] = 0, np.nan
    some, all_of_them = (icons(MODEL, "units", vectors, batch_size=batch, **QUICK) for batch in (3, 8))
    np.testing.assert_allclose(some, all_of_them, atol=1e-3)
    assert np.all(some[0, 1] == 1) and np.all(some[1, 2] == 1)
    assert all(some[place].std() > 0 for place in [(0, 0), (0, 2), (1, 0), (1, 1)])


def test_a_grid_draws_the_photographs_vectors():
    grid = activation_grid(MODEL, PHOTOGRAPH, "units", cells=(2, 2), **QUICK)
    values = np.asarray(MODEL.activations(PHOTOGRAPH[None], "units")["units"])[0]
    bands = (slice(0, 5), slice(5, 9)), (slice(0, 6), slice(6, 12))
    expected = [[values[rows, columns].mean((0, 1)) for columns in bands[1]] for rows in bands[0]]
    np.testing.assert_allclose(grid.vectors, expected, rtol=1e-5)
    np.testing.assert_allclose(grid.magnitudes, np.linalg.norm(expected, axis=-1), rtol=1e-5)
    assert grid.picture.shape == (16, 16, 3)
    for row, column in np.ndindex(2, 2):
        shown = grid.picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_array_equal(shown, grid.icons[row, column])
    sized = activation_grid(MODEL, PHOTOGRAPH, "units", cells=(2, 2), sized=True, **QUICK)
    np.testing.assert_array_equal(sized.icons, grid.icons)
    shares = grid.magnitudes / grid.magnitudes.max()
    np.testing.assert_array_equal(sized.picture, assembled(shrunk(grid.icons, shares)))


def test_icons_shrink_by_their_share():
    found = shrunk(np.zeros((1, 4, 8, 8, 3), np.float32), np.array([[1, 0.5, 0, 0.01]]))
    assert (found == 0).sum(axis=(2, 3, 4)).tolist() == [[8 * 8 * 3, 4 * 4 * 3, 0, 0]]
    assert np.all(found[0, 1, 2:6, 2:6] == 0)  # in the middle


def test_bad_arguments_are_refused_before_work():
    with pytest.raises(ValueError, match="logits has no rows and columns"):
        activation_grid(MODEL, PHOTOGRAPH, "logits", **QUICK)
    with pytest.raises(ValueError, match=r"units has 9 x 12 positions here, .*; found \(10, 2\)"):
        activation_grid(MODEL, PHOTOGRAPH, "units", cells=(10, 2), **QUICK)
    with pytest.raises(ValueError, match="no layer 'unit'"):
        activation_grid(MODEL, PHOTOGRAPH, "unit", **QUICK)
    with pytest.raises(ValueError, match="found batch_size=0, side=8"):
        activation_grid(MODEL, PHOTOGRAPH, "units", batch_size=0, **QUICK)
    np.testing.assert_allclose(block_means(np.ones((3, 3, 2)), "units"), np.ones((3, 3, 2)))
