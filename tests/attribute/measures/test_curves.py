"""Insertion and deletion against closed forms, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffprog import attribute
from diffprog.attribute import baselines, features, measures

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(3, 6))
B = GENERATOR.normal(size=6)


def additive(x):
    return (
        jnp.sin(2 * x[:, 0]) + x[:, 1] ** 3 - x[:, 2] + jnp.exp(x[:, 3] / 2) + x[:, 4] * jnp.abs(x[:, 4]) - x[:, 5] ** 2
    )


def parts(x):
    """What each feature adds, (n, 6)."""
    return (
        np.stack([additive(np.eye(6)[i] * x) for i in range(6)], axis=1)
        - np.asarray(additive(np.zeros_like(x)))[:, None]
    )


def trapezoid(curve):
    return (curve.sum(axis=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


def test_an_additive_score_gives_sorted_partial_sums(x64):
    credit = parts(X) - parts(np.tile(B, (3, 1)))
    falls = np.sort(credit, axis=1)[:, ::-1].cumsum(axis=1)
    whole, empty = np.asarray(additive(X)), np.asarray(additive(np.tile(B, (3, 1))))
    curve = np.concatenate([whole[:, None], whole[:, None] - falls], axis=1)
    found = measures.deletion(additive, X, credit, baseline=B)
    np.testing.assert_allclose(found.curve, curve, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.value, trapezoid(curve), rtol=1e-12)
    np.testing.assert_allclose(found.at, np.arange(7) / 6)
    curve = np.concatenate([empty[:, None], empty[:, None] + falls], axis=1)
    found = measures.insertion(additive, X, credit, baseline=B)
    np.testing.assert_allclose(found.value, trapezoid(curve), rtol=1e-12)
    assert list(found.evaluations) == [7, 7, 7]


def test_no_order_beats_the_true_one(x64):
    credit = parts(X) - parts(np.tile(B, (3, 1)))
    best = measures.deletion(additive, X, credit, baseline=B).value
    most = measures.insertion(additive, X, credit, baseline=B).value
    for seed in range(20):
        other = np.random.default_rng(seed).normal(size=credit.shape)
        assert (measures.deletion(additive, X, other, baseline=B).value >= best - 1e-12).all()
        assert (measures.insertion(additive, X, other, baseline=B).value <= most + 1e-12).all()


def test_a_step(x64):
    """Of 1 while at least three of the first three features of ten are there: the area in closed form."""
    model = lambda x: jnp.where(x[:, :3].sum(axis=1) > 2.5, 1.0, 0.0)
    credit = np.array([[1.0] * 3 + [0.0] * 7, [0.0] * 3 + [1.0] * 7])
    inputs = np.ones((2, 10))
    found = measures.deletion(model, inputs, credit)
    np.testing.assert_allclose(found.value, [0.05, 0.75])  # falls at the first, and at the eighth of ten steps
    found = measures.insertion(model, inputs, credit)
    np.testing.assert_allclose(found.value, [0.75, 0.05])


def test_areas_of_unequal_steps(x64):
    """Three steps of ten features take 3, 3 and 4 of them; of a linear score with equal credit any steps are exact."""
    found = measures.deletion(lambda x: x.sum(axis=1), np.ones((1, 10)), np.ones((1, 10)), steps=3)
    np.testing.assert_allclose(found.at, [0, 0.3, 0.6, 1])
    np.testing.assert_allclose(found.value, 5)


def test_images_go_by_pixel_or_by_patch(x64):
    images = GENERATOR.uniform(size=(2, 4, 6, 3))
    weights = GENERATOR.normal(size=(4, 6, 3))
    model = lambda x: (x * weights).sum(axis=(1, 2, 3))
    credit = images * weights
    by_pixel = np.sort(credit.sum(axis=-1).reshape(2, 24), axis=1)[:, ::-1]
    found = measures.deletion(model, images, credit)
    score = np.asarray(model(images))
    np.testing.assert_allclose(found.curve[:, 1:], score[:, None] - by_pixel.cumsum(axis=1), atol=1e-12)
    # A map without channels, and one of another size, order the pixels too.
    flat = measures.deletion(model, images, credit.sum(axis=-1))
    np.testing.assert_allclose(flat.curve, found.curve, atol=1e-12)
    blocks = credit.sum(axis=-1).reshape(2, 2, 2, 3, 2).sum(axis=(2, 4))
    by_patch = np.sort(blocks.reshape(2, 6), axis=1)[:, ::-1].cumsum(axis=1)
    found = measures.deletion(model, images, credit, features=features.patches(2))
    np.testing.assert_allclose(found.curve[:, 1:], score[:, None] - by_patch, atol=1e-12)


def test_probability_is_softmax_of_the_class(x64):
    weights = GENERATOR.normal(size=(6, 3))
    model = lambda x: x @ weights
    credit = X * weights[:, 1]
    found = measures.deletion(model, X, credit, 1, is_probability=True)
    np.testing.assert_allclose(found.curve[:, 0], jax.nn.softmax(model(X))[:, 1], rtol=1e-12)
    each = measures.deletion(model, X, credit, np.array([1, 0, 2]), is_probability=True)
    np.testing.assert_allclose(each.curve[:, -1], 1 / 3, rtol=1e-12)
    with pytest.raises(ValueError, match="a probability is of a class; found"):
        measures.deletion(model, X, credit, lambda y: y[:, 0], is_probability=True)


def test_the_blur_of_rise(x64):
    one = np.zeros((11, 11))
    one[5, 5] = 1
    kernel = gaussian_filter(one, 5)
    image = np.zeros((1, 31, 31, 1))
    image[0, 15, 15] = 1
    blurred = np.asarray(baselines.rise_blur()(image))[0, :, :, 0]
    np.testing.assert_allclose(blurred[10:21, 10:21], kernel, atol=1e-15)
    np.testing.assert_allclose(blurred.sum(), 1)
    # Nothing is there at the start of insertion but the blur.
    found = measures.insertion(lambda x: x[:, 15, 15, 0], image, image, baseline=baselines.rise_blur(), steps=1)
    np.testing.assert_allclose(found.curve, [[kernel[5, 5], 1]])


def test_inside_a_model(x64):
    import diffprog as dp

    weights, readout = GENERATOR.normal(size=(6, 4)), GENERATOR.normal(size=4)
    model = lambda x: dp.tap(jnp.tanh(x @ weights), "hidden") @ readout
    found = attribute.gradient_times_input(model, X, at="hidden")
    curve = measures.deletion(model, X, found, at="hidden").curve
    credit = np.tanh(X @ weights) * readout - np.zeros(4)
    falls = np.sort(credit, axis=1)[:, ::-1].cumsum(axis=1)
    # The baseline of hidden values is what they are for an input of zeros: 0.
    np.testing.assert_allclose(curve[:, 1:], np.asarray(model(X))[:, None] - falls, atol=1e-12)


def test_one_example_is_measured_like_many():
    images = GENERATOR.uniform(size=(5, 8, 8, 3)).astype(np.float32)
    weights = jnp.asarray(GENERATOR.normal(size=(192, 4)) / 10, jnp.float32)
    model = lambda x: jnp.tanh(x.reshape(len(x), -1) @ weights)
    credit = attribute.gradient(model, images, 2)
    for chunk in (None, 512):
        many = measures.deletion(model, images, credit, 2, chunk=chunk)
        for row in range(5):
            one = measures.deletion(model, images[row : row + 1], credit.values[row : row + 1], 2)
            np.testing.assert_array_equal(one.curve[0], many.curve[row])


def test_ties_are_broken_by_a_key(x64):
    model = lambda x: x @ np.arange(6.0)
    curves = [measures.deletion(model, np.ones((2, 6)), np.zeros((2, 6)), key=key).curve for key in (0, 0, 1)]
    np.testing.assert_array_equal(curves[0], curves[1])
    np.testing.assert_array_equal(curves[0][0], curves[0][1])
    assert (curves[0] != curves[2]).any()


@pytest.mark.parametrize(
    ("credit", "options", "message"),
    [
        (np.ones((3, 5)), {}, r"must have the shape of what is explained, \(3, 6\), .*; found \(3, 5\)"),
        (np.full((3, 6), np.nan), {}, "the attribution of example 0 has NaN"),
        (np.ones((3, 6)), {"steps": 7}, "steps must be at most the number of features, 6; found 7"),
        (np.ones((3, 6)), {"steps": 0}, "steps must be a whole number of at least 1; found 0"),
        (np.ones((3, 6)), {"score": [0, 1]}, "a measure is about one score; found a list"),
        ((np.ones((3, 6)),) * 2, {}, "values for 1 arrays; found 2"),
        (np.ones((3, 6)), {"baseline": np.nan}, "baseline must be finite"),
    ],
)
def test_bad_input_gets_a_sentence(credit, options, message):
    options = {"score": 0, **options}
    with pytest.raises(ValueError, match=message):
        measures.deletion(lambda x: x, X, credit, **options)


def test_words_of_others_are_answered():
    with pytest.raises(TypeError, match="is score"):
        measures.deletion(lambda x: x, X, X, target=0)
