import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import apgd, apgd_targeted, dlr, l1, l2, linf
from diffprog.attack._attacks.auto_pgd import dense_ascent
from diffprog.attack._engine.method import Example, View
from diffprog.attack._norms.norm import SLACK
from tests.attack.attacks.test_fast_gradient import linear_problem, network

KEY = jax.random.key(3)
NORMS = pytest.mark.parametrize("norm", [linf, l2], ids=lambda norm: norm.name)


def bumps(steepness, size=12):
    """A loss with many hills, in NumPy, and its gradient."""
    rng = np.random.default_rng(0)
    waves, phases = rng.normal(size=(6, size)) * steepness, rng.uniform(0, 6, 6)
    return (lambda x: np.sum(np.sin(waves @ x + phases))), (lambda x: waves.T @ np.cos(waves @ x + phases))


def expected(seen, value, gradient, image, epsilon, norm):
    """Croce & Hein 2020b, algorithm 1, in float64: from the points that were looked at, the point that must follow each
    of them, and the step size there. It reads the whole history each time, as the paper tells it."""
    steps = len(seen) - 1
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    checkpoints = [int(np.ceil(round(each * steps, 6))) for each in p]
    radius = epsilon * (1 - SLACK) if norm is l2 else epsilon  # what our projection leaves for rounding

    def nearest(x):
        if norm is linf:
            return np.clip(np.clip(x, image - radius, image + radius), 0, 1)
        low, high = 0.0, 1e9
        for _ in range(100):
            middle = (low + high) / 2
            inside = np.linalg.norm(np.clip((x + middle * image) / (1 + middle), 0, 1) - image) <= radius
            low, high = (low, middle) if inside else (middle, high)
        return np.clip((x + high * image) / (1 + high), 0, 1)

    values, left, eta = [value(x) for x in seen], list(seen), 2 * epsilon  # `left`: from where each step was taken
    halved, best_then = {}, {}
    for k in range(steps):
        best = max(range(k + 1), key=lambda i: values[i])
        if k in checkpoints[1:]:
            before = checkpoints[checkpoints.index(k) - 1]
            rises = sum(values[i + 1] > values[i] for i in range(before, k))
            unchanged = before > 0 and not halved[before] and best_then[before] == values[best]
            halved[k], best_then[k] = rises <= 0.75 * (k - before) or unchanged, values[best]
            if halved[k]:
                eta, left[k] = eta / 2, seen[best]
        slope, new = gradient(left[k]), 1.0 if k == 0 else 0.75
        z = nearest(left[k] + eta * (np.sign(slope) if norm is linf else slope / np.linalg.norm(slope)))
        yield nearest(left[k] + new * (z - left[k]) + (1 - new) * (left[k] - left[max(k - 1, 0)])), eta


@pytest.mark.not_under("strict", reason="calls what attacks call under JAX's defaults")
@NORMS
def test_every_step_is_that_of_the_paper(norm, steps=100):
    value, gradient = bumps(1 if norm is linf else 2)
    image, label = np.random.default_rng(1).uniform(size=12).astype(np.float32), jnp.int32(0)
    epsilon = np.float32(0.15 if norm is linf else 0.8)
    example = Example(image, label, label, epsilon, np.zeros_like(image), np.ones_like(image), KEY)
    spec, checkpoints = dense_ascent("apgd", norm, steps)
    update = jax.jit(spec.update)
    state = jax.jit(spec.init)(example, checkpoints)
    seen, sizes = [np.asarray(state.point, np.float64)], []
    for step in range(steps):
        view = View(None, np.float32(value(seen[-1])), False, np.float32(gradient(seen[-1])), np.int32(step))
        state = update(example, checkpoints, state, view)
        seen.append(np.asarray(state.point, np.float64))
        sizes.append(float(state.step_size))
    points, lengths = zip(*expected(seen, value, gradient, image, float(epsilon), norm), strict=True)
    np.testing.assert_allclose(seen[1:], points, atol=1e-5)
    np.testing.assert_array_equal(sizes, lengths)
    assert 3 < len(set(sizes)) < (9 if norm is l2 else 10)  # of eight checkpoints, in L2 some did not halve the step


@NORMS
def test_starts_touch_the_surface_of_the_ball(norm):
    image, label = np.full(40, 0.5, np.float32), jnp.int32(0)
    spec, checkpoints = dense_ascent("apgd", norm, 100)
    example = Example(image, label, label, jnp.float32(0.2), np.zeros_like(image), np.ones_like(image), None)
    keys = jax.random.split(KEY, 200)
    drawn = np.asarray(jax.vmap(lambda key: spec.init(example._replace(key=key), checkpoints).point)(keys)) - 0.5
    np.testing.assert_allclose(norm.measure(drawn), 0.2, rtol=3e-5)
    if norm is linf:  # the largest is at the surface; the others are uniform up to there
        inner = np.sort(np.abs(drawn), axis=1)[:, :-1].ravel() / 0.2
        assert abs(inner.mean() - 0.5) < 0.02
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.04)


def test_l1_reaches_the_optimum_of_ball_and_box():
    """Of a linear score: the elements with the largest weights go as far as the box lets them, until the budget is
    spent. Points of the wider balls, where the search begins, are never returned."""
    model, images, weights, _ = linear_problem()
    budget = 2.0
    result = apgd(model, images, np.zeros(6, int), key=KEY, norm=l1, epsilon=budget, engine="jax")
    order = np.argsort(-np.abs(weights))
    for found, image in zip(result.images.astype(np.float64), images.astype(np.float64), strict=True):
        room = np.where(weights > 0, 1 - image, image)[order]
        moved = np.clip(budget - (np.cumsum(room) - room), 0, room)
        assert np.abs(weights)[order] @ moved <= 1.005 * (weights @ (found - image))
    assert np.all(result.distances["l1"] <= budget)
    np.testing.assert_array_equal(result.queries, 101)


@pytest.mark.parametrize("steps", [1, 4])
def test_l1_in_few_steps_keeps_its_budget(steps):
    model, images, _, _ = linear_problem()
    result = apgd(model, images, np.zeros(6, int), key=KEY, norm=l1, epsilon=0.3, max_steps=steps, engine="jax")
    assert np.all(result.distances["l1"] <= 0.3) and np.any(result.distances["l1"] > 0.2)


def test_no_image_depends_on_its_batch_and_budgets_go_together():
    model, images, labels = network(seed=1)
    options = dict(key=KEY, loss=dlr, max_steps=30, engine="jax")
    curve = apgd(model, images, labels, epsilon=np.array([[0.02], [0.06]]), every_budget=True, **options)
    alone = apgd(model, images[[5, 2]], labels[[5, 2]], epsilon=0.06, image_ids=np.array([5, 2]), **options)
    np.testing.assert_allclose(alone.images, curve.images[1][[5, 2]], atol=2e-6)
    np.testing.assert_array_equal(alone.first_success, curve.first_success[1][[5, 2]])
    assert 0 < curve.success[0].sum() < curve.success[1].sum()
    assert np.all(curve.distances["linf"] <= curve.epsilon)


def test_targets_are_tried_one_after_the_other_until_one_succeeds():
    model, images, labels = network(seed=1)
    options = dict(key=KEY, epsilon=0.062, max_steps=20, engine="jax")
    one, all_of_them = (
        apgd_targeted(model, images, labels, num_target_classes=targets, **options) for targets in (1, 9)
    )
    assert 0 < one.success.sum() < all_of_them.success.sum() and np.all(one.success <= all_of_them.success)
    np.testing.assert_array_equal(all_of_them.images[one.success], one.images[one.success])
    np.testing.assert_array_equal(all_of_them.queries[one.success], 21)
    np.testing.assert_array_equal(all_of_them.queries[all_of_them.failure], 4 * 21)  # four other classes
    assert all_of_them.attack == "apgd-t"


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes):
    model, images, labels = network(seed=4, classes=classes)
    result = apgd_targeted(model, images, labels, key=KEY, epsilon=0.3, max_steps=10, engine="jax")
    np.testing.assert_array_equal(result.success, result.predictions != labels)
    assert result.success.any() and np.all(np.isfinite(result.images))


def test_skipped_images_come_back():
    model, images, labels = network(seed=1)
    skip = np.arange(7) % 2 == 0
    result = apgd(model, images, labels, key=KEY, epsilon=0.5, max_steps=10, skip=skip, engine="jax")
    np.testing.assert_array_equal(result.images[skip], images[skip])
    np.testing.assert_array_equal(result.success, ~skip)
    np.testing.assert_array_equal(result.queries[skip], 0)
