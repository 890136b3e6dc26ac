"""Concepts, against directions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from tests.attribute.inside.models import numbers

pytestmark = pytest.mark.usefixtures("x64")
READOUT = jnp.array([1.0, -2.0, 0.5, 0.0])


def linear(x):
    """A score that reads a layer linearly."""
    return dp.tap(x @ numbers(0, 3, 4), "layer") @ READOUT.astype(x.dtype)


@pytest.mark.filterwarnings("ignore:tcav. no score has a slope")
@pytest.mark.parametrize(("vector", "share"), [(READOUT, 1.0), (-READOUT, 0.0), (jnp.array([2.0, 1.0, 0, 0]), 0.0)])
def test_of_a_linear_readout_the_share_is_the_sign(vector, share):
    """The last direction is at a right angle to the readout: no score rises along it."""
    found = attribute.tcav(linear, numbers(1, 20, 3), at="layer", vectors=vector)
    assert found.share == share
    np.testing.assert_allclose(found.slopes, np.full((1, 20), float(vector @ READOUT)), atol=1e-12)


def test_random_directions_go_along_with_a_linear_score_every_other_time():
    vectors = jax.random.normal(jax.random.key(3), (400, 4))
    found = attribute.tcav(linear, numbers(1, 2, 3), at="layer", vectors=vectors)
    assert set(found.shares) == {0.0, 1.0}
    assert abs(found.share - 0.5) < 3 * 0.5 / np.sqrt(400)


def test_a_concept_is_told_from_random_directions():
    curved = lambda x: jnp.sum(jnp.tanh(dp.tap(x @ numbers(0, 3, 4), "layer")) @ numbers(5, 4, 2), axis=1)
    x = numbers(1, 40, 3)
    values = jax.random.normal(jax.random.key(7), (60, 4))
    concept = numbers(5, 4, 2).sum(axis=1)
    along = [
        attribute.concept_vector(side[:20] + 2 * concept, side[20:40])
        for side in (jax.random.permutation(jax.random.key(i), values) for i in range(6))
    ]
    random = attribute.random_concepts(values, 12, key=0)
    assert random.shape == (12, 4)
    np.testing.assert_allclose(jnp.linalg.norm(random, axis=1), 1.0)
    found = attribute.tcav(curved, x, at="layer", vectors=along, random=random)
    assert found.share > 0.8 and found.p_value < 1e-3
    same = attribute.tcav(curved, x, at="layer", vectors=random[:6], random=random[6:])
    assert same.p_value > 0.05
    np.testing.assert_array_equal(random, attribute.random_concepts(values, 12, key=0))
    assert "p = " in str(found)


def test_the_p_value_is_that_of_welch():
    from scipy.stats import ttest_ind

    from diffprog.attribute._inside.concepts import _welch

    first, second = np.array([0.9, 0.8, 0.95, 0.7]), np.array([0.5, 0.3, 0.6, 0.55, 0.1, 0.45])
    assert _welch(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue, rel=1e-10)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "mean"])
def test_the_direction_between_two_clouds_is_found(kind):
    direction = jnp.array([3.0, 0.0, -4.0]) / 5
    cloud = jax.random.normal(jax.random.key(0), (400, 3))
    found = attribute.concept_vector(cloud[:200] + direction, cloud[200:] - direction, kind=kind)
    assert float(found.vector @ direction) > 0.99
    np.testing.assert_allclose(jnp.linalg.norm(found.vector), 1.0)
    along = cloud @ direction
    best = float(((along[:200] > -1).mean() + (along[200:] < 1).mean()) / 2)  # with the true direction and threshold
    assert abs(found.accuracy - best) < 0.02


def test_logistic_regression_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression, Ridge

    cloud = jax.random.normal(jax.random.key(1), (60, 3)) * jnp.array([1.0, 3.0, 0.2])
    positive, negative = cloud[:30] + jnp.array([0.5, 1.0, 0.1]), cloud[30:]
    both = np.concatenate([positive, negative])
    standard = (both - both.mean(0)) / both.std(0)
    labels = np.repeat([1, -1], 30)
    theirs = LogisticRegression(C=1 / (60 * 0.01), tol=1e-10).fit(standard, labels).coef_[0] / both.std(0)
    ours = attribute.concept_vector(positive, negative).vector
    np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), atol=1e-4)
    theirs = Ridge(alpha=60 * 0.01).fit(standard, labels).coef_ / both.std(0)
    ours = attribute.concept_vector(positive, negative, kind="ridge").vector
    np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), rtol=1e-8)


def test_a_direction_that_means_nothing_is_said():
    cloud = jax.random.normal(jax.random.key(4), (40, 30))
    with pytest.warns(attribute.AttributionWarning, match="half is guessing"):
        attribute.concept_vector(cloud[:20], cloud[20:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attribute.concept_vector(jnp.ones((3, 2)), jnp.ones((3, 4))), "values of one layer"),
        (lambda: attribute.concept_vector(jnp.ones((1, 2)), jnp.ones((3, 2))), "two examples"),
        (lambda: attribute.concept_vector(jnp.ones((2, 2)), jnp.ones((3, 2)), kind="svm"), "kind must be"),
        (lambda: attribute.random_concepts(jnp.ones((3, 2)), 2, key=0, size=2), "give more"),
        (lambda: attribute.tcav(linear, jnp.ones((2, 3)), at="layer", vectors=jnp.ones(3)), "like the value"),
        (lambda: attribute.tcav(lambda x: x, jnp.ones((2, 3)), [0, 1], at="mul", vectors=jnp.ones(3)), "no value"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
