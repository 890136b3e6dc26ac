"""Measures of maps: places, masks, mosaics, entropy, Gini."""

import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import AttributionWarning, measures

MAP = np.zeros((1, 4, 6))
MAP[0, 1, 4], MAP[0, 3, 0], MAP[0, 0, 0] = 3, 1, -5


def box(rows, columns):
    mask = np.zeros((1, 4, 6), bool)
    mask[0, rows, columns] = True
    return mask


def test_pointing_game():
    assert measures.pointing_game(MAP, box(slice(0, 2), slice(3, 6))).value == [1]
    miss = box(slice(0, 4), slice(0, 2))
    assert measures.pointing_game(MAP, miss).value == [0]
    assert measures.pointing_game(MAP, miss, tolerance=2.9).value == [0]
    assert measures.pointing_game(MAP, miss, tolerance=3).value == [1]  # column 4 is 3 pixels from column 1
    # Channels are added up, and a tie counts by its part.
    channels = np.stack([MAP, MAP[:, :, ::-1]], axis=-1)
    assert measures.pointing_game(channels, miss).value == [0.5]
    np.testing.assert_allclose(measures.pointing_game(0 * MAP, miss).value, 8 / 24)


def test_energy():
    np.testing.assert_allclose(measures.energy(MAP, box(slice(0, 2), slice(3, 6))).value, 0.75)
    np.testing.assert_allclose(measures.energy(MAP * 17, box(slice(0, 4), slice(0, 2))).value, 0.25)
    np.testing.assert_allclose(measures.energy(np.ones((1, 2, 3)), box(slice(0, 2), slice(0, 2))).value, 4 / 24)
    with pytest.warns(AttributionWarning, match="energy: no credit is positive for 1 of 1 examples"):
        assert np.isnan(measures.energy(-np.abs(MAP), box(slice(0, 2), slice(0, 2))).value).all()


def test_grid_pointing():
    maps = np.repeat(MAP, 4, axis=0)
    np.testing.assert_allclose(measures.grid_pointing(maps, np.arange(4)).value, [0, 0.75, 0.25, 0])
    np.testing.assert_allclose(measures.grid_pointing(np.ones((1, 9, 9)), np.array([4]), side=3).value, 1 / 9)


def test_mosaics():
    pictures = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((5, 2, 3, 1), np.float32)
    labels = np.array([7, 8, 8, 9, 3])
    found = measures.mosaics(pictures, labels, count=20, key=1)
    assert found.images.shape == (20, 4, 6, 1)
    for image, chosen, classes in zip(found.images, found.pictures, found.classes, strict=True):
        assert len(set(classes)) == 4
        np.testing.assert_array_equal(labels[chosen], classes)
        np.testing.assert_array_equal(image[::2, ::3, 0].ravel(), chosen)
    assert set(found.pictures[:, 0]) == set(range(5))
    again = measures.mosaics(pictures, labels, count=3, key=1)
    np.testing.assert_array_equal(again.images, found.images[:3])
    with pytest.raises(ValueError, match="a mosaic of 3 x 3 needs as many classes; found 4"):
        measures.mosaics(pictures, labels, count=1, side=3)


def test_complexity_and_sparseness():
    values = np.array([[0.0, 0.0, -4.0, 0.0], [1.0, -1.0, 1.0, -1.0], [1.0, 2.0, 0.0, 1.0]])
    thirds = -(0.25 * np.log(0.25) * 2 + 0.5 * np.log(0.5))
    np.testing.assert_allclose(measures.complexity(values).value, [0, np.log(4), thirds], atol=1e-15)
    # Gini as half the mean difference of all pairs over the mean.
    sizes = np.abs(values)
    pairs = np.abs(sizes[:, :, None] - sizes[:, None]).mean(axis=(1, 2)) / 2 / sizes.mean(axis=1)
    np.testing.assert_allclose(measures.sparseness(values).value, pairs, atol=1e-15)
    np.testing.assert_allclose(pairs[0], 1 - 1 / 4)
    pictures = np.stack([values[:, None], values[:, None]], axis=-1)  # (3, 1, 4, 2): channels are added up
    np.testing.assert_array_equal(measures.sparseness(pictures).value, measures.sparseness(values).value)
    maps = np.stack([values, 0 * values], axis=1)  # (3, 2, 4): a map without channels
    np.testing.assert_allclose(measures.complexity(maps).value, measures.complexity(values).value)
    for measure in (measures.complexity, measures.sparseness):
        with pytest.warns(AttributionWarning, match="all credit is 0 for 1 of 2"):
            assert list(np.isnan(measure(np.array([[0.0, 0.0], [1.0, 2.0]])).value)) == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.energy(MAP, np.ones((1, 4, 6))), "mask must be bool .* found float64"),
        (lambda: measures.energy(MAP, np.zeros((1, 4, 6), bool)), "mask of example 0 is empty"),
        (lambda: measures.energy(MAP[0, 0], np.ones((1, 4, 6), bool)), "the attribution must be of images"),
        (lambda: measures.grid_pointing(MAP, np.array([4])), "cells must be one number of 0 to 3"),
        (lambda: measures.pointing_game(MAP, np.ones((1, 4, 6), bool), tolerance=-1), "tolerance must be 0 pixels"),
        (lambda: measures.complexity(np.ones(3)), r"the attribution must have values \(n, ...\)"),
    ],
)
def test_bad_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_attribution_of_several_scores_is_refused():
    several = attribute.gradient(lambda x: x.reshape(len(x), -1), np.ones((2, 3, 3), np.float32), [0, 1])
    with pytest.raises(ValueError, match="found an attribution of 2"):
        measures.complexity(several)
