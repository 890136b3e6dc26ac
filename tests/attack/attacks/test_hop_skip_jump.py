from functools import partial
from math import ceil, log2, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import hop_skip_jump, l2, linf

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(5)
SIZE = 16
NORMS = pytest.mark.parametrize("norm", [l2, linf], ids=lambda norm: norm.name)


def plane(seed=0, images=4):
    """Two classes split by a plane; every image is on the side of class 0, by the distances that are returned too."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=SIZE).astype(np.float32)
    pixels = rng.uniform(0.35, 0.65, size=(images, SIZE)).astype(np.float32)
    bias = np.float32(-(pixels @ weights).max() - 0.3)
    gaps = -(pixels.astype(np.float64) @ weights + bias)
    return (
        partial(decide, weights, bias),
        pixels,
        {"l2": gaps / np.linalg.norm(weights), "linf": gaps / np.abs(weights).sum()},
    )


def decide(weights, bias, x):
    """Decisions and nothing else: the logits do not tell how near the plane is."""
    beyond = x @ weights + bias > 0
    return jnp.stack([jnp.where(beyond, 0.0, 2.0), jnp.where(beyond, 2.0, 0.0)], axis=-1)


@NORMS
def test_a_plane_is_found_at_its_distance_from_decisions(norm):
    model, images, distances = plane()
    labels = np.zeros(len(images), int)
    attack = partial(hop_skip_jump, model, key=KEY, norm=norm, max_steps=30, initial_num_evals=60, batch_size=4)
    result = attack(images, labels)
    assert result.success.all()
    ratio = result.distances[norm.name] / distances[norm.name]
    assert ratio.min() >= 1 - 1e-5 and ratio.max() <= 1.05, ratio

    # No image sees its batch.
    other = attack(images[[2]], labels[:1], image_ids=np.array([2]))
    np.testing.assert_array_equal(other.images[0], result.images[2])
    np.testing.assert_array_equal(other.queries[0], result.queries[2])

    # What it must have cost: estimates, lines, the looks; besides, at least one trial and one try per jump.
    lines = ceil((1.5 if norm is l2 else 2) * log2(SIZE))
    least = sum(int(60 * sqrt(step)) for step in range(1, 31)) + 31 * (lines + 1) + 30 + 1 + 1
    assert np.all(result.queries >= least) and np.all(result.queries <= least + 31 * 8)
    assert np.all(result.backward_passes == 0)


def test_starts_are_where_a_targeted_search_begins():
    model, images, distances = plane(seed=1)
    weights = model.args[0]
    starts = np.clip(images + np.sign(weights), 0, 1).astype(np.float32)
    starts[3] = images[3]  # not of the target class: nothing to start from
    ones = np.ones(len(images), int)
    result = hop_skip_jump(
        model, images, ones, key=KEY, targeted=True, starting_points=starts, max_steps=20, initial_num_evals=60
    )
    np.testing.assert_array_equal(result.success, [True, True, True, False])
    np.testing.assert_array_equal(result.failure, [False, False, False, True])
    np.testing.assert_array_equal(result.images[3], images[3])
    assert np.all((result.distances["l2"] / distances["l2"])[:3] <= 1.05)
    assert result.queries[3] == 1 and result.steps[3] == 1

    mask = np.arange(SIZE) >= SIZE // 2
    masked = hop_skip_jump(
        model,
        images[:3],
        ones[:3],
        key=KEY,
        targeted=True,
        starting_points=starts[:3],
        max_steps=20,
        initial_num_evals=60,
        mask=mask,
    )
    assert masked.success.any()
    np.testing.assert_array_equal(masked.images[:, ~mask], images[:3, ~mask])
    gaps = distances["l2"] * np.linalg.norm(weights)
    ratio = masked.distances["l2"] * np.linalg.norm(weights[mask]) / gaps[:3]
    assert np.all(ratio[masked.success] >= 1 - 1e-5)


def test_a_model_that_never_errs_costs_the_trials():
    model = lambda x: jnp.stack([2 * jnp.ones(len(x)), jnp.zeros(len(x))], axis=-1)
    images = np.full((2, SIZE), 0.5, np.float32)
    result = hop_skip_jump(model, images, np.zeros(2, int), key=KEY, init_trials=17, max_steps=5)
    assert result.failure.all() and np.all(result.queries == 18)
    np.testing.assert_array_equal(result.images, images)


def test_bad_starts_get_one_sentence():
    model, images, _ = plane()
    with pytest.raises(ValueError, match="starting_points must be given with targeted=True"):
        hop_skip_jump(model, images, np.ones(4, int), key=KEY, targeted=True)
    with pytest.raises(ValueError, match=r"starting_points must have the shape of the images, .*; found \(3, 16\)"):
        hop_skip_jump(model, images, np.zeros(4, int), key=KEY, starting_points=images[:3])
