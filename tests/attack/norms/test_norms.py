from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffprog.attack import l0, l1, l2, linf
from diffprog.attack._norms.norm import shift_towards_zero

NORMS = pytest.mark.parametrize("norm", [linf, l2], ids=lambda norm: norm.name)
EVERY = (linf, l2, l1, l0)
project = {norm.name: jax.jit(norm.project) for norm in EVERY}

SIZE = 24
floats = partial(st.floats, width=32, allow_subnormal=False)  # which XLA takes for 0
special = st.sampled_from([0.0, 1.0, 0.5, 1e-30, 1 / 255])
pixels = hnp.arrays(np.float32, SIZE, elements=floats(0, 1) | special)
points = hnp.arrays(np.float32, SIZE, elements=floats(-3, 4))
radii = floats(2.0**-20, 5).map(np.float32)
masks = hnp.arrays(bool, SIZE)


def nearest_by_bisection(point, center, epsilon):
    """Float64 reference: the solution of the KKT conditions, found by bisecting the multiplier of the L2 ball."""
    point, center = point.astype(np.float64), center.astype(np.float64)

    def candidate(multiplier):
        return np.clip((point + multiplier * center) / (1 + multiplier), 0, 1)

    if np.linalg.norm(candidate(0.0) - center) <= epsilon:
        return candidate(0.0)
    low, high = 0.0, 1e12
    for _ in range(300):
        middle = (low * high) ** 0.5 if low > 1 else (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(candidate(middle) - center) > epsilon else (low, middle)
    return candidate(high)


@settings(max_examples=300, deadline=None)
@given(points, pixels, radii, masks)
def test_budget_and_box_are_never_exceeded(point, center, epsilon, mask):
    lower, upper = np.where(mask, 0, center), np.where(mask, 1, center)
    for norm in EVERY:
        found = np.asarray(project[norm.name](point, center, epsilon, lower, upper))
        assert np.all(lower <= found) and np.all(found <= upper)
        in_float32, in_float64 = found - center, found.astype(np.float64) - center.astype(np.float64)
        order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm.name]
        assert np.linalg.norm(in_float32, order) <= epsilon and np.linalg.norm(in_float64, order) <= epsilon


@settings(max_examples=300, deadline=None)
@given(points, pixels, radii)
def test_projection_is_the_nearest_point(point, center, epsilon):
    expected = np.clip(
        point.astype(np.float64),
        np.maximum(center - np.float64(epsilon), 0),
        np.minimum(center + np.float64(epsilon), 1),
    )
    np.testing.assert_allclose(project["linf"](point, center, epsilon), expected, atol=1.2e-7)
    expected = nearest_by_bisection(point, center, epsilon)
    # In distance: a radius smaller by 1e-5 may move a pixel by more, where the box stops nearly all the others.
    found = np.asarray(project["l2"](point, center, epsilon), np.float64)
    assert np.linalg.norm(point - found) <= np.linalg.norm(point - expected) + 2e-5 * epsilon + 1e-6


def threshold_by_bisection(point, center, epsilon, lower, upper):
    """Float64 reference in L1: soft thresholding that the box stops, at the threshold where the budget is spent."""
    away = point.astype(np.float64) - center
    room = np.where(away > 0, upper.astype(np.float64) - center, center - lower.astype(np.float64))

    def candidate(threshold):
        return np.sign(away) * np.clip(np.abs(away) - threshold, 0, room)

    if np.abs(candidate(0.0)).sum() <= epsilon:
        return center + candidate(0.0)
    low, high = 0.0, np.abs(away).max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(candidate(middle)).sum() > epsilon else (low, middle)
    return center + candidate(high)


@settings(max_examples=300, deadline=None)
@given(points, pixels, radii, masks)
def test_sparse_projections_are_the_nearest_points(point, center, epsilon, mask):
    lower, upper = np.where(mask, 0, center), np.where(mask, 1, center)
    expected = threshold_by_bisection(point, center, np.float64(epsilon), lower, upper)
    found = np.asarray(project["l1"](point, center, epsilon, lower, upper), np.float64)
    assert np.linalg.norm(point - found) <= np.linalg.norm(point - expected) + 2e-5 * epsilon + 1e-6
    # In L0 every choice of so many elements is a candidate: the best is that of the largest gains, one by one.
    boxed = np.clip(point, lower, upper).astype(np.float64)
    gains = np.sort((point.astype(np.float64) - center) ** 2 - (point - boxed) ** 2)[::-1]
    nearest = np.sum((point.astype(np.float64) - center) ** 2) - gains[: int(epsilon)].sum()
    found = np.asarray(project["l0"](point, center, epsilon, lower, upper), np.float64)
    assert np.sum((point - found) ** 2) <= nearest + 1e-5 * (1 + nearest)


def test_ties_in_l0_never_exceed_the_budget():
    center = np.full(SIZE, 0.5, np.float32)
    for size in (1, 5, 23.9):
        found = np.asarray(project["l0"](center + 0.25, center, np.float32(size)))
        assert np.count_nonzero(found != center) == int(size)
        assert set(np.unique(found)) == {0.5, 0.75}


@settings(max_examples=200, deadline=None)
@given(points, pixels, radii, hnp.arrays(np.float32, SIZE, elements=floats(0, 1)))
def test_l2_projection_satisfies_the_variational_inequality(point, center, epsilon, other):
    """y is the nearest point of a convex set to z exactly if (z - y) . (w - y) <= 0 for every w of the set."""
    found = np.asarray(project["l2"](point, center, epsilon), np.float64)
    away = other.astype(np.float64) - center
    inside = center + away * min(1, epsilon / max(np.linalg.norm(away), 1e-30))
    assert (point - found) @ (inside - found) <= (np.linalg.norm(point - found) + 1) * (5e-5 * epsilon + 1e-6)


@pytest.mark.parametrize("norm", EVERY, ids=lambda norm: norm.name)
def test_points_inside_stay(norm):
    rng = np.random.default_rng(0)
    center = rng.uniform(size=(8, 8, 3)).astype(np.float32)
    inside = np.clip(center + rng.uniform(-0.01, 0.01, size=center.shape), 0, 1).astype(np.float32)
    epsilon = np.float32(norm.measure((inside - center)[None])[0] * 1.01)
    np.testing.assert_array_equal(project[norm.name](inside, center, epsilon), inside)


@settings(max_examples=100, deadline=None)
@given(points, pixels, radii)
def test_projecting_twice_is_projecting_once(point, center, epsilon):
    for norm in EVERY:
        once = project[norm.name](point, center, epsilon)
        # Each projection may round an element once: two roundings of float32, besides what the radius allows.
        np.testing.assert_allclose(project[norm.name](once, center, epsilon), once, rtol=2**-22, atol=1e-6 * epsilon)


def test_l2_budget_holds_for_a_photograph_sized_image():
    rng = np.random.default_rng(1)
    center = rng.integers(0, 256, (512, 640, 3)).astype(np.float32) / 255
    for epsilon in (1e-2, 0.5, 30.0, 300.0):
        found = np.asarray(project["l2"](center + rng.normal(size=center.shape).astype(np.float32), center, epsilon))
        size = np.linalg.norm((found.astype(np.float64) - center).ravel())
        assert 0.99 * epsilon < size <= epsilon
        assert np.sqrt(np.sum((found - center) ** 2)) <= epsilon


def test_sparse_budgets_hold_for_a_large_image():
    rng = np.random.default_rng(3)
    center = rng.integers(0, 256, (224, 224, 3)).astype(np.float32) / 255
    point = center + rng.normal(size=center.shape).astype(np.float32)
    for epsilon in (0.5, 12.0, 2000.0):
        found = np.asarray(project["l1"](point, center, np.float32(epsilon)))
        size = np.abs(found.astype(np.float64) - center).sum()
        assert 0.999 * epsilon < size <= epsilon and np.abs(found - center).sum() <= epsilon
    assert np.count_nonzero(np.asarray(project["l0"](point, center, np.float32(1000))) != center) == 1000


@settings(max_examples=300, deadline=None)
@given(floats(0, 1), floats(-2, 2))
def test_shift_is_the_closest_float_that_is_not_too_far(center, shift):
    found = np.asarray(jax.jit(shift_towards_zero)(np.float32(center), np.float32(shift)))
    assert abs(Fraction(float(found)) - Fraction(center)) <= Fraction(abs(shift))
    if abs(shift) > 1e-30:
        further = float(np.nextafter(found, np.float32(np.sign(shift) * np.inf)))
        assert abs(Fraction(further) - Fraction(center)) > Fraction(abs(shift))


@NORMS
def test_steepest_beats_every_other_direction_of_its_size(norm):
    rng = np.random.default_rng(2)
    gradient = rng.normal(size=(5, 4, 3)).astype(np.float32)
    best = np.asarray(norm.steepest(gradient))
    np.testing.assert_allclose(norm.measure(best[None]), 1, rtol=1e-6)
    dual = np.abs(gradient).sum() if norm is linf else np.linalg.norm(gradient.ravel())  # the largest slope there is
    np.testing.assert_allclose(np.sum(best * gradient), dual, rtol=1e-5)


@NORMS
def test_steepest_of_nothing_is_nothing_and_of_little_is_whole(norm):
    np.testing.assert_array_equal(norm.steepest(jnp.zeros((2, 3))), 0)
    tiny = jnp.array([3e-30, -4e-30])
    np.testing.assert_allclose(norm.steepest(tiny), [1, -1] if norm is linf else [0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 7])
def test_uniform_perturbations_fill_the_ball(dimension):
    """In a ball of d dimensions the fraction within r of the center is (r / epsilon)^d, in every norm."""
    keys = jax.random.split(jax.random.key(5), 4000)
    for norm in (linf, l2, l1):
        drawn = np.asarray(jax.vmap(lambda key: norm.uniform(key, (dimension,), 0.3))(keys))
        volumes = np.sort((norm.measure(drawn) / 0.3) ** dimension)
        assert volumes[-1] <= 1 + 1e-5
        uniform = (np.arange(4000) + 0.5) / 4000
        assert np.abs(volumes - uniform).max() < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov at 1 %
        np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=4 * 0.3 / np.sqrt(4000))


def test_l1_draws_have_all_directions():
    """In two dimensions each coordinate's share of the size is uniform, and so are the signs."""
    drawn = np.asarray(jax.vmap(lambda key: l1.uniform(key, (2,), 0.3))(jax.random.split(jax.random.key(6), 4000)))
    shares = np.sort(np.abs(drawn[:, 0]) / np.abs(drawn).sum(axis=1))
    assert np.abs(shares - (np.arange(4000) + 0.5) / 4000).max() < 1.63 / np.sqrt(4000)
    quadrants = np.unique(np.sign(drawn), axis=0, return_counts=True)[1]
    assert len(quadrants) == 4 and np.abs(quadrants - 1000).max() < 110  # four standard deviations


def test_l0_draws_change_as_many_elements_as_allowed():
    drawn = np.asarray(jax.vmap(lambda key: l0.uniform(key, (4, 5), 3.7))(jax.random.split(jax.random.key(7), 500)))
    np.testing.assert_array_equal(np.count_nonzero(drawn.reshape(500, -1), axis=1), 3)
    assert np.count_nonzero(drawn, axis=0).min() > 40  # 75 expected in each place
    assert np.abs(drawn).max() <= 1


def test_measures_are_the_textbook_norms():
    perturbations = np.array([[[3.0, -4.0]], [[0.0, 0.25]]], np.float32)
    np.testing.assert_array_equal(linf.measure(perturbations), [4.0, 0.25])
    np.testing.assert_array_equal(l2.measure(perturbations), [5.0, 0.25])
    np.testing.assert_array_equal(l1.measure(perturbations), [7.0, 0.25])
    np.testing.assert_array_equal(l0.measure(perturbations), [2.0, 1.0])
