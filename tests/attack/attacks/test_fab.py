import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import fab, l1, l2, linf
from tests.attack.attacks.test_fast_gradient import network

NORMS = pytest.mark.parametrize("norm", [linf, l2, l1], ids=lambda norm: norm.name)


def planes(classes=4, size=20, images=5):
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(size, classes)).astype(np.float32)
    pixels = rng.uniform(0.02, 0.98, size=(images, size)).astype(np.float32)
    model = lambda x: (x - 0.5) @ weights
    return model, pixels, np.asarray(model(pixels)).argmax(axis=1), weights


@NORMS
def test_linear_model_falls_at_its_nearest_boundary(norm):
    """The nearest of all boundaries inside the box, by bisection on the largest rise that a budget allows."""
    model, images, labels, weights = planes()
    result = fab(model, images, labels, norm=norm, max_steps=20, engine="jax")
    assert result.success.all()
    for image, label, found in zip(images.astype(np.float64), labels, result.distances[norm.name], strict=True):
        smallest = min(
            needed(
                norm,
                image,
                (weights[:, other] - weights[:, label]).astype(np.float64),
                ((image - 0.5) @ (weights[:, label] - weights[:, other])),
            )
            for other in range(4)
            if other != label
        )
        assert smallest * 0.9999 <= found <= 1.01 * smallest


def needed(norm, image, slope, rise):
    room, steep = np.where(slope > 0, 1 - image, image), np.abs(slope)
    if norm is l1:
        order = np.argsort(-steep)
        left = rise - np.concatenate([[0], np.cumsum((steep * room)[order])[:-1]])
        return np.clip(left / steep[order], 0, room[order]).sum()
    speed = 1 if norm is linf else steep
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if steep @ np.minimum(middle * speed, room) < rise else (low, middle)
    way = np.minimum(high * speed, room)
    return np.abs(way).max() if norm is linf else np.linalg.norm(way)


def reference(model, weights, image, label, rival, steps):
    """The authors' loop in L2 on a network of one hidden layer, in float64: one target. The smallest success."""
    inner, outer = weights
    point, smallest = image.copy(), np.inf
    for _ in range(steps):
        hidden = np.tanh((point - 0.5) @ inner)
        logits = hidden @ outer
        ahead = logits[rival] - logits[label]
        slope = inner @ ((1 - hidden**2) * (outer[:, rival] - outer[:, label]))
        ways = []
        for origin in (point, image):
            rise = -(ahead + slope @ (origin - point))
            direction = np.sign(rise) * slope
            low, high = 0.0, 1e3
            way = lambda t: np.clip(origin + t * direction, 0, 1) - origin
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (middle, high) if slope @ way(middle) * np.sign(rise) < abs(rise) else (low, middle)
            ways.append(way(high))
        sizes = [max(np.linalg.norm(each), 1e-8) for each in ways]
        share = min(sizes[0] / sum(sizes), 0.1)
        point = np.clip((1 - share) * (point + 1.05 * ways[0]) + share * (image + 1.05 * ways[1]), 0, 1)
        if np.argmax(np.tanh((point - 0.5) @ inner) @ outer) != label:
            smallest = min(smallest, np.linalg.norm(point - image))
            point = image + 0.9 * (point - image)
    return smallest


def test_first_target_is_searched_as_in_the_paper():
    model, images, labels = network(seed=2)
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(20, 32)), rng.normal(size=(32, 5))
    result = fab(model, images, labels, norm=l2, max_steps=12, num_target_classes=1, engine="jax")
    rivals = np.argsort(-np.asarray(model(images)), axis=1)[:, 1]
    expected = [
        reference(model, weights, image.astype(np.float64), label, rival, 12)
        for image, label, rival in zip(images, labels, rivals, strict=True)
    ]
    # A point that has gone back is looked at too here, and sometimes still is a success.
    assert np.all(result.distances["l2"] <= np.array(expected) * 1.0005)
    assert np.sum(np.isclose(result.distances["l2"], expected, rtol=5e-4)) >= 4
    assert np.all((13 <= result.queries) & (result.queries <= 25))


@NORMS
def test_masked_elements_stay_and_no_image_depends_on_its_batch(norm):
    model, images, labels = network(seed=1)
    mask = np.arange(20) % 3 > 0
    options = dict(norm=norm, max_steps=10, mask=mask, engine="jax")
    together = fab(model, images, labels, **options)
    np.testing.assert_array_equal(together.images[:, ~mask], images[:, ~mask])
    assert together.success.any() and together.images.min() >= 0 and together.images.max() <= 1
    alone = fab(model, images[[4]], labels[[4]], **options)
    np.testing.assert_allclose(alone.distances[norm.name][0], together.distances[norm.name][4], rtol=1e-4)


def test_a_flat_network_is_a_failure():
    result = fab(
        lambda x: jnp.tanh(0 * x[:, :3]) + jnp.array([2.0, 0, 0]),
        np.full((2, 4), 0.5, np.float32),
        np.zeros(2, int),
        max_steps=3,
        engine="jax",
    )
    assert result.failure.all()
    np.testing.assert_array_equal(result.images, 0.5)
