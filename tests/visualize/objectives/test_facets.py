from itertools import product

import jax
import numpy as np
import pytest

from diffprog.visualize import channel, render
from diffprog.visualize.objectives._facets import SHRINKAGE, facet, facets, k_means, probe
from diffprog.visualize.parameterizations import pixels
from diffprog.visualize.transforms import still
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)


def colored(*color):
    """An image of about one color."""
    return np.clip(np.float32(color) + 0.05 * RANDOM.normal(size=(9, 9, 3)), 0, 1).astype(np.float32)


# Unit 1 is excited by both.
RED, GREEN = ([colored(*color) for _ in range(4)] for color in [(0.9, 0.5, 0.1), (0.1, 0.9, 0.3)])


def test_the_probe_is_fishers_discriminant():
    yes, no = RANDOM.normal(loc=[1, 0, 0], size=(7, 3)), RANDOM.normal(size=(9, 3)) @ np.diag([1, 2, 3])
    weights, bias = probe(yes, no)
    np.testing.assert_allclose([yes.mean(0) @ weights + bias, no.mean(0) @ weights + bias], [1, -1], rtol=1e-5)
    within = (7 * np.cov(yes.T, bias=True) + 9 * np.cov(no.T, bias=True)) / 16
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / 3 * np.eye(3)
    direction = np.linalg.inv(shrunk) @ (yes.mean(0) - no.mean(0))
    np.testing.assert_allclose(weights / np.linalg.norm(weights), direction / np.linalg.norm(direction), rtol=1e-5)


def test_a_facet_scores_images_by_the_probe():
    side = facet(MODEL, "units", RED, GREEN)
    score = lambda images: np.asarray(side.score(MODEL, MODEL.activations(np.stack(images), "units")))
    np.testing.assert_allclose([score(RED).mean(), score(GREEN).mean()], [1, -1], rtol=1e-4)
    assert score(RED).min() > 0 > score(GREEN).max()


def test_a_facet_pulls_a_units_picture():
    """Of two pictures of one unit, the one with the facet is the redder, and both excite the unit."""
    unit, options = (
        channel("units", 1),
        dict(key=KEY, parameterization=pixels(12), transform=still, steps=32, learning_rate=0.3),
    )
    rendering = render(MODEL, [unit, unit + 3 * facet(MODEL, "units", RED, GREEN)], **options)
    redness = (rendering.images[..., 0] - rendering.images[..., 1]).mean((1, 2))
    assert redness[1] > redness[0] + 0.1
    assert rendering.scores[-1, 0] > rendering.scores[0, 0]


def test_k_means_finds_the_best_partition():
    """Against all partitions of eight points in three."""
    points = RANDOM.normal(size=(8, 2))
    cost = lambda cluster: sum(((points[cluster == i] - points[cluster == i].mean(0)) ** 2).sum() for i in set(cluster))
    best = min(cost(np.array(cluster)) for cluster in product(range(3), repeat=8) if len(set(cluster)) == 3)
    found = k_means(points, 3, KEY)
    np.testing.assert_allclose(cost(found), best)
    np.testing.assert_array_equal(k_means(points, 3, KEY), found)


def test_facets_are_the_clusters_of_the_images_that_excite_a_unit():
    dull = [colored(0.5, 0.5, 0.5) for _ in range(3)]
    images = [*RED, *dull, *GREEN[:3]]
    values = np.stack([np.asarray(MODEL.activations(x[None], "units")["units"]).mean((0, 1, 2)) for x in images])
    excited = np.argsort(-values[:, 1], kind="stable")[:7]
    found = facets(MODEL, channel("units", 1), images, "units", 2, key=KEY, top=7)
    assert sorted(excited) == sorted(np.concatenate([each.members for each in found]))
    assert [set(each.members) for each in found] == [{0, 1, 2, 3}, {7, 8, 9}]
    for each in found:
        scores = [float(each.objective.score(MODEL, MODEL.activations(x[None], "units"))[0]) for x in images]
        assert {number for number in excited if scores[number] > 0} == set(each.members)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no layer 'unit'"):
        facet(MODEL, "unit", RED, GREEN)
    with pytest.raises(ValueError, match="needs images on both sides"):
        facet(MODEL, "units", RED, [])
    with pytest.raises(ValueError, match="have the same mean"):
        facet(MODEL, "units", RED, RED)
    with pytest.raises(ValueError, match="here 4; found 5"):
        facets(MODEL, channel("units", 0), RED, "units", 5, key=KEY)
    with pytest.raises(ValueError, match="so many images that 3 facets cannot be told apart"):
        facets(MODEL, channel("units", 0), [RED[0], RED[0], GREEN[0]], "units", 3, key=KEY)
