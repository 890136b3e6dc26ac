"""Occlusion, ablation, permutation, RISE and LIME, against closed forms in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attribute
from diffprog.attribute import baselines, features
from diffprog.attribute._perturbation.lime import lasso
from diffprog.attribute._perturbation.rise import mask_of

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 7, 10, 3))
WEIGHTS = RNG.normal(size=(7, 10, 3))
ROWS, ROW_WEIGHTS = RNG.normal(size=(3, 6)), RNG.normal(size=6)


def linear_image(x):
    return jnp.einsum("nijc,ijc->n", x, jnp.asarray(WEIGHTS)) + 2


def linear_row(x):
    return x @ jnp.asarray(ROW_WEIGHTS) + 2


# ---------------------------------------------------------------- occlusion


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (4, 4), ((2, 5), (1, 3)), (7, 7), (1, None)])
def test_occlusion_of_a_linear_model(x64, window, stride):
    """At each pixel, the mean over the windows that cover it of the window's sum; all windows have their full size."""
    baseline = RNG.normal(size=(7, 10, 3))
    found = attribute.occlusion(linear_image, IMAGES, window=window, stride=stride, baseline=baseline)
    down, across = window if isinstance(window, tuple) else (window, window)
    step_down, step_across = (
        (down, across) if stride is None else stride if isinstance(stride, tuple) else (stride,) * 2
    )
    tops = sorted({*range(0, 7 - down, step_down), 7 - down})
    lefts = sorted({*range(0, 10 - across, step_across), 10 - across})
    drops = (WEIGHTS * (IMAGES - baseline)).sum(axis=3)
    total, times = np.zeros((2, 7, 10)), np.zeros((7, 10))
    for top in tops:
        for left in lefts:
            where = np.s_[..., top : top + down, left : left + across]
            total[where] += drops[where].sum(axis=(1, 2), keepdims=True)
            times[where] += 1
    assert times.min() >= 1
    np.testing.assert_allclose(found.values, np.repeat((total / times)[..., None], 3, axis=3), rtol=1e-10, atol=1e-12)
    assert list(found.evaluations) == [len(tops) * len(lefts) + 1] * 2 and found.gap is None


def test_windows_at_the_border_are_whole(x64):
    """Captum 0.9.0 cuts them: of 4 x 4 ones, window 3 and stride 2, it has 9 in one corner and 4 in the other."""
    found = attribute.occlusion(lambda x: x.sum(axis=(1, 2)), np.ones((1, 4, 4)), window=(3, 3), stride=(2, 2))
    np.testing.assert_allclose(found.values, 9, rtol=1e-14)


def test_windows_that_divide_are_patches(x64):
    model = lambda x: jnp.tanh(x).sum(axis=(1, 2, 3)) ** 2
    image = IMAGES[:, :6, :9]
    by_window = attribute.occlusion(model, image, window=3)
    by_features = attribute.occlusion(model, image, features=features.patches(3))
    ablation = attribute.feature_ablation(model, image, features=features.patches(3))
    np.testing.assert_allclose(by_window.values, by_features.values, rtol=1e-12)
    np.testing.assert_array_equal(by_features.values, ablation.values)
    assert (by_features.method, ablation.method) == ("occlusion", "feature_ablation")


def test_the_default_window_is_a_sixteenth():
    found = attribute.occlusion(lambda x: x.sum(axis=(1, 2)), np.ones((1, 48, 2), np.float32))
    np.testing.assert_allclose(found.values, 6, rtol=1e-6)
    assert list(found.evaluations) == [17]


def test_occlusion_of_several_inputs_and_scores(x64):
    inputs = (IMAGES, ROWS[:2])
    model = lambda x: jnp.stack([linear_image(x[0]) + x[1].sum(axis=1), x[1][:, 0]], axis=1)
    found = attribute.occlusion(model, inputs, [0, 1], window=1)
    drops = (WEIGHTS * IMAGES).sum(axis=3, keepdims=True)
    np.testing.assert_allclose(found.values[0][0], np.broadcast_to(drops, IMAGES.shape), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.values[1][0], ROWS[:2], rtol=1e-10)
    np.testing.assert_allclose(found.values[1][1][:, 1:], 0, atol=1e-14)


def test_occlusion_by_data_is_a_mean(x64):
    data = RNG.normal(size=(4, 6))
    model = lambda x: jnp.prod(x, axis=1)
    found = attribute.occlusion(model, ROWS, window=2, baseline=data)
    each = [attribute.occlusion(model, ROWS, window=2, baseline=row).values for row in data]
    np.testing.assert_allclose(found.values, np.mean(each, axis=0), rtol=1e-10)
    assert list(found.evaluations) == [13] * 3


def test_windows_that_do_not_fit():
    model = lambda x: x.sum(axis=(1, 2, 3))
    for options, message in [
        ({"window": 8}, r"window must fit an example, \(7, 10, 3\); found \(8, 8\)"),
        ({"window": 2, "stride": 3}, "there are gaps"),
        ({"window": (2, 2), "stride": (1,)}, "a step for each length"),
        ({"window": 0}, "window must be a whole number of at least 1"),
        ({"window": 2, "features": features.pixels()}, "found both"),
    ]:
        with pytest.raises(ValueError, match=message):
            attribute.occlusion(model, IMAGES, **options)


def test_additive_models_are_credited_with_their_terms(x64):
    model = lambda x: (jnp.sin(x) * jnp.arange(1.0, 7)).sum(axis=1)
    terms = np.arange(1, 7) * (np.sin(ROWS) - np.sin(0.3))
    for method in (attribute.feature_ablation, attribute.shapley, attribute.kernel_shap, attribute.lime):
        np.testing.assert_allclose(method(model, ROWS, baseline=0.3).values, terms, rtol=1e-9, atol=1e-12)
    occluded = attribute.occlusion(model, ROWS, baseline=0.3, window=1)
    np.testing.assert_allclose(occluded.values, terms, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- permutation


def test_permutation_with_data_is_a_mean(x64):
    data = RNG.normal(size=(5, 6))
    model = lambda x: jnp.prod(x, axis=1)
    found = attribute.feature_permutation(model, ROWS, data=data, key=0)
    mean = data.mean(axis=0)
    product = ROWS.prod(axis=1, keepdims=True)
    np.testing.assert_allclose(found.values, product - product / ROWS * mean, rtol=1e-10)
    assert found.error is None and list(found.evaluations) == [31] * 3
    drawn = attribute.feature_permutation(model, ROWS, data=RNG.normal(size=(4000, 6)), key=0, samples=400)
    assert (np.abs(drawn.values - product) < 4 * drawn.error).all()  # normal features have mean 0
    alone = attribute.feature_permutation(model, ROWS[1:2], data=data, key=0)
    np.testing.assert_array_equal(alone.values[0], found.values[1])


def test_permutation_within_the_batch(x64):
    rows = RNG.normal(size=(50, 6))
    found = attribute.feature_permutation(linear_row, rows, key=0, samples=40)
    # Shuffled, a column's sum stays: drops add up to 0 over the batch.
    np.testing.assert_allclose(found.values.sum(axis=0), 0, atol=1e-11)
    truth = ROW_WEIGHTS * (rows - rows.mean(axis=0))
    assert (np.abs(found.values - truth) < 4.5 * found.error).all()
    with pytest.raises(ValueError, match="found one example: give data="):
        attribute.feature_permutation(linear_row, rows[:1], key=0)


# ---------------------------------------------------------------- RISE


def test_rise_of_a_linear_model_with_all_masks(x64):
    for keep in (0.5, 0.2):
        found = attribute.rise(linear_row, ROWS, features=features.columns(), keep=keep)
        terms = ROW_WEIGHTS * ROWS
        truth = terms * (1 - keep) + keep * terms.sum(axis=1, keepdims=True) + 2
        np.testing.assert_allclose(found.values, truth, rtol=1e-10)
        assert found.error is None and list(found.evaluations) == [64] * 3
    drawn = attribute.rise(linear_row, ROWS, features=features.columns(), keep=0.2, key=0, samples=3000)
    assert (np.abs(drawn.values - truth) < 4 * drawn.error).all() and list(drawn.steps) == [3000] * 3


def test_rise_of_a_linear_model_with_grids(x64):
    """E[score * mask] / p = sum_j w_j x_j E[m_i m_j] / p, with the covariance of masks from all places of a grid."""
    keep, cells, edges = 0.4, 3, np.array([3, 4])
    # Weights of the 16 cells in each element, for each shift: masks are linear in their cells.
    one = lambda start, cell: mask_of(cell.reshape(4, 4), start, edges, (7, 10, 3)).ravel()
    starts = np.array(list(np.ndindex(*edges)))
    each = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    weights = np.asarray(each(starts, np.eye(16, dtype=np.float32)), np.float64)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)  # so that the mean of a mask is p everywhere
    # E[m_i m_j] = p^2 + p (1 - p) sum_c a_ic a_jc
    products = keep**2 + keep * (1 - keep) * np.einsum("sci,scj->ij", weights, weights) / len(weights)
    terms = (WEIGHTS * IMAGES).sum(axis=3).reshape(2, -1)
    truth = (terms @ products / keep + 2).reshape(2, 7, 10, 1)
    found = attribute.rise(linear_image, IMAGES, key=0, grid=cells, keep=keep, samples=2000)
    assert found.values.shape == IMAGES.shape
    scaled = np.asarray((found.values - truth) / found.error)
    assert np.abs(scaled).max() < 4 and 0.3 < np.sqrt(np.mean(scaled**2)) < 1.7  # neighbors have much in common
    several = attribute.rise(
        lambda x: jnp.stack([linear_image(x), -linear_image(x)], 1), IMAGES, [0, 1], key=0, grid=3, samples=50
    )
    np.testing.assert_allclose(several.values[0], -several.values[1], rtol=1e-10)


def test_masks_are_enlarged_grids():
    """As `jax.image.resize` enlarges them, cut at the start."""
    cells = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(np.float32)
    large = jax.image.resize(cells, (8 * 32, 8 * 32), "linear")
    found = mask_of(cells, np.array([5, 31]), np.array([32, 32]), (224, 224, 3))
    np.testing.assert_allclose(found[..., 0], large[5:229, 31:255], atol=1e-6)


def test_rise_of_integers_and_of_data(x64):
    table = RNG.normal(size=10)
    ids = np.array([[1, 2, 3, 4, 5, 6, 7, 8]])
    found = attribute.rise(lambda x: jnp.asarray(table)[x].sum(axis=1), ids, baseline=0, key=0, samples=400, grid=8)
    assert found.values.shape == (1, 8) and np.isfinite(found.values).all()
    data = RNG.normal(size=(2, 6))
    mean = attribute.rise(linear_row, ROWS, baseline=data, key=0, samples=3000, grid=6)
    # Half of what is there and half of what the data have, on average.
    middle = linear_row((ROWS + data.mean(axis=0)) / 2)
    np.testing.assert_allclose(mean.values.mean(axis=1), middle, atol=0.5)


def test_rise_needs_a_key():
    with pytest.raises(ValueError, match="needs key="):
        attribute.rise(lambda x: x.sum(axis=(1, 2, 3)), IMAGES)
    with pytest.raises(ValueError, match="keep must be"):
        attribute.rise(lambda x: x.sum(axis=(1, 2, 3)), IMAGES, key=0, keep=1.5)
    with pytest.raises(ValueError, match="as many cells as"):
        attribute.rise(lambda x: x.sum(axis=(1, 2, 3)), IMAGES, key=0, grid=8)


# ---------------------------------------------------------------- LIME


def test_lime_of_a_linear_model_is_exact(x64):
    terms = ROW_WEIGHTS * ROWS
    for options in ({}, {"samples": 60, "key": 3}, {"strength": 1e-12}):
        found = attribute.lime(linear_row, ROWS, **options)
        np.testing.assert_allclose(found.values, terms, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.gap, 0, atol=1e-8)


def test_lime_is_weighted_least_squares(x64):
    """Of all coalitions of a network, by NumPy's least squares with rows times the root of their weights."""
    first = RNG.normal(size=(6, 8))
    model = lambda x: jnp.tanh(x @ jnp.asarray(first)).sum(axis=1)
    found = attribute.lime(model, ROWS[:1], kernel_width=0.4, strength=0.05)
    masks = (np.arange(64)[:, None] >> np.arange(6)) % 2
    scores = np.asarray(model(masks * ROWS[:1]))
    weights = np.exp(-(((1 - np.sqrt(masks.mean(axis=1))) / 0.4) ** 2) / 2)
    root = np.sqrt(weights / weights.sum())[:, None]
    regressors = np.vstack([root * np.hstack([masks, np.ones((64, 1))]), np.sqrt(0.05) * np.eye(6, 7)])
    truth = np.linalg.lstsq(regressors, np.append(root[:, 0] * scores, np.zeros(6)), rcond=None)[0][:6]
    np.testing.assert_allclose(found.values[0], truth, rtol=1e-9)


def test_lasso_of_an_orthogonal_design_is_a_soft_threshold(x64):
    moment = np.array([3.0, -0.5, 1.0, -2.0])
    found = lasso(np.diag([1.0, 2, 4, 0.5]), moment, 0.75)
    np.testing.assert_allclose(found, [2.25, 0, 0.0625, -2.5], rtol=1e-14)
    # With a wide kernel all 2^M coalitions count alike: columns are orthogonal, of variance 1/4.
    sparse = attribute.lime(linear_row, ROWS, kernel_width=1e6, penalty="lasso", strength=0.1)
    terms = ROW_WEIGHTS * ROWS
    np.testing.assert_allclose(sparse.values, np.sign(terms) * np.maximum(np.abs(terms) - 0.4, 0), atol=1e-9)
    assert (np.asarray(sparse.values) == 0).any() and sparse.error is None


def test_lasso_meets_its_conditions(x64):
    """Of a correlated design: the slope is the strength with the value's sign, or smaller where the value is 0."""
    design = RNG.normal(size=(40, 9)) @ RNG.normal(size=(9, 9))
    matrix, moment = design.T @ design / 40, design.T @ RNG.normal(size=40) / 40
    values = lasso(matrix, moment, 0.1)
    slopes = moment - matrix @ values
    is_zero = values == 0
    assert 0 < is_zero.sum() < 9
    np.testing.assert_allclose(slopes[~is_zero], 0.1 * np.sign(values[~is_zero]), rtol=1e-6)
    assert (np.abs(slopes[is_zero]) <= 0.1).all()


def test_lime_says_how_far_draws_are_off(x64):
    first = RNG.normal(size=(6, 8))
    model = lambda x: jnp.tanh(x @ jnp.asarray(first)).sum(axis=1)
    exact = attribute.lime(model, ROWS)
    scaled = []
    for key in range(10):
        found = attribute.lime(model, ROWS, samples=60, key=key)  # fewer than all 64, so that these are drawn
        scaled.append(np.asarray((found.values - exact.values) / found.error))
    assert 0.7 < np.sqrt(np.mean(np.square(scaled))) < 1.3
    with pytest.raises(ValueError, match="do not tell 6 features apart"):
        attribute.lime(model, ROWS, samples=4, key=0)
    with pytest.raises(ValueError, match="give key="):
        attribute.lime(model, ROWS, samples=60)
    with pytest.raises(ValueError, match="penalty must be one of"):
        attribute.lime(model, ROWS, penalty="elastic")
    with pytest.raises(ValueError, match="strength must be 0 or more"):
        attribute.lime(model, ROWS, strength=-1)


# ---------------------------------------------------------------- what all share


def test_scores_that_are_not_finite_are_named():
    model = lambda x: jnp.log(x[:, 0]) + x[:, 1]
    x = np.array([[1.0, 2.0], [3.0, 1.0]])
    for method in (attribute.feature_ablation, attribute.shapley, attribute.kernel_shap, attribute.lime):
        with pytest.raises(ValueError, match=rf"{method.__name__}: the score is -inf for example 0 with .* features"):
            method(model, x)
    with pytest.raises(ValueError, match="occlusion: the score is -inf for example 0 with the window"):
        attribute.occlusion(model, x)
    with pytest.raises(ValueError, match="score of the inputs is nan for example 1"):
        attribute.shapley(model, np.array([[1.0, 2.0], [-3.0, 1.0]]), baseline=1.0)


def test_an_example_that_is_its_own_baseline_is_warned_of():
    with pytest.warns(attribute.AttributionWarning, match=r"baselines\.data"):
        attribute.shapley(linear_row, ROWS, baseline=ROWS)
    with pytest.warns(attribute.AttributionWarning, match="2 of 2 examples, the first is 0"):
        attribute.occlusion(lambda x: jnp.zeros(len(x)), ROWS[:2])


def test_no_method_is_traced():
    with pytest.raises(ValueError, match="occlusion adds up scores outside of JAX"):
        jax.jit(lambda x: attribute.occlusion(linear_row, x).values)(ROWS)
    with pytest.raises(ValueError, match=r"found baselines\.data"):
        attribute.gradient_times_input(linear_row, ROWS, baseline=baselines.data(ROWS))


def test_words_of_other_libraries_are_answered():
    for method, word, ours in [
        (attribute.occlusion, "sliding_window_shapes", "window="),
        (attribute.occlusion, "strides", "stride="),
        (attribute.occlusion, "patch_size", "window="),
        (attribute.kernel_shap, "n_samples", "samples="),
        (attribute.kernel_shap, "nsamples", "samples="),
        (attribute.shapley, "feature_mask", "features="),
        (attribute.shapley, "background", "baseline="),
        (attribute.shapley, "perturbations_per_eval", "chunk="),
        (attribute.shapley, "npermutations", "samples="),
        (attribute.rise, "grid_size", "grid="),
        (attribute.rise, "preservation_probability", "keep="),
        (attribute.rise, "n_masks", "samples="),
        (attribute.lime, "alpha", "strength="),
        (attribute.lime, "segmentation_fn", "features="),
        (attribute.shapley, "steps", "samples="),
        (attribute.feature_permutation, "background", "data="),
    ]:
        with pytest.raises(TypeError, match=ours):
            method(linear_row, ROWS, **{word: 1})


def test_the_model_need_not_be_differentiable(x64):
    model = lambda x: jnp.floor(x.sum(axis=1))
    found = attribute.shapley(model, np.array([[1.5, 2.25, 0.5]]))
    np.testing.assert_allclose(found.values.sum(), 4, rtol=1e-14)
