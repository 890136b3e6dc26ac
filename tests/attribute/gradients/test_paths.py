"""Blurring and guided paths and the film of a path, against their formulas in NumPy, in double precision."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

import diffprog as dp
from diffprog import attribute
from diffprog.attribute import paths

GENERATOR = np.random.default_rng(0)
PICTURES = GENERATOR.uniform(size=(2, 6, 7, 3))
WEIGHTS = GENERATOR.normal(size=(6, 7, 3))
FIRST, SECOND = GENERATOR.normal(size=(5, 8)), GENERATOR.normal(size=(8, 2))
ROWS = GENERATOR.normal(size=(3, 5))


def quadratic(x):
    return jnp.sum(jnp.asarray(WEIGHTS) * x**2, axis=(1, 2, 3))


def network(x):
    return jnp.tanh(x @ jnp.asarray(FIRST)) @ jnp.asarray(SECOND)


def blurred(picture, deviation):
    waves = fft.dctn(picture, axes=(0, 1), norm="ortho")
    rows, columns = (np.pi * np.arange(length) / length for length in picture.shape[:2])
    return fft.idctn(waves * np.exp(-(deviation**2) * _squares(rows, columns) / 2), axes=(0, 1), norm="ortho")


def _squares(rows, columns):
    return (rows[:, None] ** 2 + columns**2)[..., None]


def velocity(picture, deviation, largest):
    waves = fft.dctn(picture, axes=(0, 1), norm="ortho")
    rows, columns = (np.pi * np.arange(length) / length for length in picture.shape[:2])
    squares = _squares(rows, columns)
    change = largest * deviation * squares * np.exp(-(deviation**2) * squares / 2)
    return fft.idctn(waves * change, axes=(0, 1), norm="ortho")


def test_blurring_is_that_of_the_cosine_transform(x64):
    path = paths.blur(3.0)
    for part in (0.0, 0.25, 0.9, 1.0):
        (found,) = path(None, [jnp.asarray(PICTURES[0])], jnp.asarray(part))
        np.testing.assert_allclose(found, blurred(PICTURES[0], 3 * (1 - part)), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found.mean(), PICTURES[0].mean(), rtol=1e-13)
    np.testing.assert_array_equal(path(None, [jnp.asarray(PICTURES[0])], jnp.asarray(1.0))[0], PICTURES[0])
    assert paths.blur(3.0) is path


def test_integrated_gradients_along_a_blur(x64):
    nodes, weights = np.polynomial.legendre.leggauss(40)
    expected = np.zeros_like(PICTURES)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for row, picture in enumerate(PICTURES):
            deviation = 3 * (1 - node)
            slope = 2 * WEIGHTS * blurred(picture, deviation)
            expected[row] += weight * slope * velocity(picture, deviation, 3)
    found = attribute.integrated_gradients(quadratic, PICTURES, path=paths.blur(3.0), steps=40)
    np.testing.assert_allclose(found.values, expected, rtol=1e-10, atol=1e-13)
    starts = np.array([np.sum(WEIGHTS * blurred(picture, 3) ** 2) for picture in PICTURES])
    np.testing.assert_allclose(found.baseline_score, starts, rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0, atol=1e-11)
    with pytest.raises(ValueError, match="leave baseline out"):
        attribute.integrated_gradients(quadratic, PICTURES, path=paths.blur(), baseline=0.5)


def test_any_function_is_a_path(x64):
    curved = lambda b, x, part: [b + jnp.sin(part * jnp.pi / 2) ** 2 * (x - b) for b, x in zip(b, x, strict=True)]
    found = attribute.integrated_gradients(network, ROWS, 0, path=curved, steps=40)
    # The curve of each row is the straight line, at another speed.
    expected = attribute.integrated_gradients(network, ROWS, 0, steps=40)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, atol=1e-11)


# ---------------------------------------------------------------- guided


def slope(row, index):
    hidden = np.tanh(row @ FIRST)
    return FIRST @ ((1 - hidden**2) * SECOND[:, index])


def guided(row, start, index, steps, fraction, max_distance):
    """The method of the paper on one row, step by step and in plain numbers."""
    point, credit = start.copy(), np.zeros_like(row)
    total = np.abs(row - start).sum()
    for step in range(1, steps + 1):
        part, gradient = step / steps, slope(point, index)
        line = lambda share: start + share * (row - start)
        near, far = line(max(part - max_distance, 0)), line(min(part + max_distance, 1))
        before = point.copy()
        behind = np.abs(point - row) > np.abs(near - row)
        point[behind] = near[behind]
        while True:
            excess = np.abs(row - point).sum() - total * (1 - part)
            if excess <= 1e-13 * total:
                break
            size = np.where(np.isclose(point, far, rtol=0, atol=1e-15), np.inf, np.abs(gradient))
            limit = np.quantile(size, fraction, method="lower")
            chosen = (size <= limit) & np.isfinite(size)
            room = np.abs(far - point)[chosen].sum()
            share = min(excess / room, 1)
            point[chosen] += share * (far - point)[chosen]
            if share < 1:
                break
        credit += gradient * (point - before)
    return credit


@pytest.mark.parametrize(("steps", "fraction", "max_distance"), [(50, 0.25, 0.02), (30, 0.5, 0.2), (7, 0.1, 1.0)])
def test_guided_integrated_gradients(x64, steps, fraction, max_distance):
    start = 0.3
    options = {"steps": steps, "fraction": fraction, "max_distance": max_distance}
    found = attribute.guided_integrated_gradients(network, ROWS, 1, baseline=start, **options)
    expected = [guided(row, np.full(5, start), 1, **options) for row in ROWS]
    np.testing.assert_allclose(found.values, expected, rtol=1e-8, atol=1e-11)
    ends = np.tanh(ROWS @ FIRST) @ SECOND[:, 1], np.tanh(np.full(5, start) @ FIRST) @ SECOND[:, 1]
    np.testing.assert_allclose(found.gap, ends[0] - ends[1] - np.sum(expected, axis=1), rtol=1e-6, atol=1e-10)
    assert list(found.evaluations) == [steps + 2] * 3


def test_guided_gap_falls_with_the_steps_and_the_straight_line_is_a_special_case(x64):
    gaps = [
        np.abs(attribute.guided_integrated_gradients(network, ROWS, 0, steps=steps).gap).max() for steps in (50, 800)
    ]
    assert gaps[1] < gaps[0] / 8  # of first order in the size of the steps
    # All elements at once, and none away from the line: the left Riemann sum.
    line = attribute.guided_integrated_gradients(network, ROWS, 0, steps=20, fraction=1.0)
    riemann = sum(ROWS * np.array([slope(row * k / 20, 0) for row in ROWS]) for k in range(20)) / 20
    np.testing.assert_allclose(line.values, riemann, rtol=1e-9, atol=1e-12)


def test_guided_goes_first_where_the_score_is_flat(x64):
    """Of a product, y goes first, at x = 0, where it earns nothing: all credit goes to x."""
    product = lambda x: x[:, 0] * (1 + 10 * x[:, 1]) + 0.1 * x[:, 1]
    start, end = np.zeros((1, 2)), np.ones((1, 2))
    # The slope of y is 0.1 + 10 x, that of x is 1 + 10 y.
    found = attribute.guided_integrated_gradients(
        product, end, baseline=start, steps=400, max_distance=1.0, fraction=0.01
    )
    assert found.values[0, 0] > found.values[0, 1] + 5
    np.testing.assert_allclose(found.gap, 0, atol=0.05)


def test_guided_rows_and_scores_know_nothing_of_each_other():
    rows = ROWS.astype(np.float32)
    both = attribute.guided_integrated_gradients(network, rows, [0, 1], steps=20)
    for number in (0, 1):
        whole = attribute.guided_integrated_gradients(network, rows[::-1], number, steps=20)
        np.testing.assert_array_equal(whole.values[::-1], both.values[number])
        alone = attribute.guided_integrated_gradients(network, rows[:1], number, steps=20)
        np.testing.assert_array_equal(alone.values[0], both.values[number, 0])
        np.testing.assert_array_equal(alone.gap[0], both.gap[number, 0])
    assert list(both.evaluations) == [44] * 3


def test_guided_at_a_value_inside(x64):
    tapped = lambda x: dp.tap(jnp.tanh(x @ jnp.asarray(FIRST)), "hidden") @ jnp.asarray(SECOND)
    found = attribute.guided_integrated_gradients(tapped, ROWS, 0, at="hidden", steps=10)
    np.testing.assert_allclose(found.values["hidden"], np.tanh(ROWS @ FIRST) * SECOND[:, 0], rtol=1e-12)


# ---------------------------------------------------------------- the film


def test_a_film_shows_the_way(x64):
    film = attribute.path_film(network, ROWS, [0, 1], baseline=0.1, points=9)
    assert film.scores.shape == film.slopes.shape == (2, 3, 9)
    for number, part in enumerate(np.linspace(0, 1, 9)):
        here = 0.1 + part * (ROWS - 0.1)
        np.testing.assert_allclose(film.inputs[:, number], here, rtol=1e-14)
        for index in (0, 1):
            gradients = np.array([slope(row, index) for row in here])
            np.testing.assert_allclose(film.scores[index, :, number], np.asarray(network(here))[:, index], rtol=1e-12)
            np.testing.assert_allclose(film.slopes[index, :, number], np.linalg.norm(gradients, axis=1), rtol=1e-11)
            np.testing.assert_allclose(film.maps[index, :, number], gradients * (ROWS - 0.1), rtol=1e-11)


def test_the_mean_of_a_fine_film_is_integrated_gradients(x64):
    film = attribute.path_film(network, ROWS, 0, points=101)
    expected = attribute.integrated_gradients(network, ROWS, 0, steps=101, quadrature="trapezoid")
    np.testing.assert_allclose(np.trapezoid(film.maps, film.parts, axis=1), expected.values, rtol=1e-11)


def test_a_film_of_a_picture_is_drawn():
    film = attribute.path_film(quadratic, PICTURES.astype(np.float32), path=paths.blur(2.0), points=5)
    first = film.scores[0], film.slopes[0], film.inputs[0], film.maps[0]
    drawn = attribute.pictures.film(film.parts, *first, frames=3, cell=60)
    assert drawn.ndim == 3 and np.isfinite(drawn).all()
