"""What every attack takes besides its own arguments: criteria, masks, budgets, bounds, types, models that draw."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffprog.attack import ExpectationOverTransformation, additive_noise, l2, linf, pgd
from diffprog.attack._engine.method import Example
from diffprog.attack._engine.oracle import Oracle
from diffprog.attack._losses import cross_entropy

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(21)
RNG = np.random.default_rng(12)
COUNT, CLASSES = 4, 4
SHAPES = {"flat": (11,), "wide": (2, 5, 3)}


@lru_cache
def network(shape):
    size = int(np.prod(shape))
    inner, outer = (RNG.normal(size=sizes).astype(np.float32) for sizes in ((size, 16), (16, CLASSES)))

    def model(x):  # of pixels in any bounds
        x = jnp.asarray(x, jnp.float32).reshape(len(x), -1)
        spread = x - x.mean(axis=1, keepdims=True)
        return jnp.tanh(spread / jnp.sqrt((spread**2).mean(axis=1, keepdims=True)) @ inner / 2) @ outer

    return model


def softmax(logits):
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(pgd, linf), (pgd, l2), (additive_noise, l2)]),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.sampled_from([(0.0, 1.0), (-1.5, 2.0), (0.0, 255.0)]),
    st.sampled_from(["none", "one", "each"]),
    st.integers(0, 2**20),
)
def test_budgets_bounds_and_masks_hold_strictly(attack, shape, dtype, bounds, masks, seed):
    """For budgets per image over six orders of magnitude; measured in float64 against the float32 originals."""
    attack, norm = attack
    rng, shape, (low, high) = np.random.default_rng(seed), SHAPES[shape], bounds
    images = (low + (high - low) * np.round(rng.uniform(-0.2, 1.2, (COUNT, *shape)).clip(0, 1), 4)).astype(dtype)
    images = images.clip(*np.array(bounds, dtype))
    epsilon = (high - low) * 10.0 ** rng.uniform(-5, 1, COUNT)
    mask = {"none": None, "one": rng.random(shape) < 0.5, "each": rng.random((COUNT, *shape)) < 0.5}[masks]
    model = network(shape)
    labels = np.asarray(model(images.astype(np.float32))).argmax(axis=1)
    steps = {"num_samples": 3} if attack is additive_noise else {"max_steps": 3}
    result = attack(
        model, images, labels, key=KEY, norm=norm, epsilon=epsilon, mask=mask, bounds=bounds, engine="jax", **steps
    )
    moved = result.images.astype(np.float64) - images.astype(np.float32)
    assert not result.initially_wrong.any() and np.any(moved)
    assert np.all(norm.measure(moved) <= epsilon)
    assert np.all((result.images >= np.float32(low)) & (result.images <= np.float32(high)))
    assert result.images.dtype == np.float32 and np.array_equal(result.epsilon, epsilon)
    if mask is not None:
        assert not np.any(moved[np.broadcast_to(~mask, moved.shape)])


def test_a_criterion_is_what_counts():
    """Sure of a wrong class, by more than 0.9."""
    model = network(SHAPES["flat"])
    images = RNG.uniform(0.2, 0.8, (12, 11)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)

    def sure(logits, labels):
        wrong = jnp.where(jnp.arange(CLASSES) == labels[:, None], 0, jax.nn.softmax(logits))
        return wrong.max(axis=-1) > 0.9

    options = dict(key=KEY, epsilon=0.05, max_steps=20, engine="jax", batch_size=12)
    plain, strict = pgd(model, images, labels, **options), pgd(model, images, labels, criterion=sure, **options)
    found = softmax(model(strict.images))
    found[np.arange(12), labels] = 0
    np.testing.assert_array_equal(strict.success, found.max(axis=1) > 0.9)
    assert 0 < strict.success.sum() < plain.success.sum()
    assert not strict.initially_wrong.any()

    wrong = (labels + 1) % CLASSES  # misclassified, but not surely: the criterion has not been met yet
    start = softmax(model(images))
    start[np.arange(12), wrong] = 0
    weak = pgd(model, images, wrong, criterion=sure, **options)
    np.testing.assert_array_equal(weak.initially_wrong, start.max(axis=1) > 0.9)
    assert not weak.initially_wrong.all() and np.all(pgd(model, images, wrong, **options).initially_wrong)


def test_each_image_keeps_its_own_budget_and_mask():
    """One row of budgets and masks per image gives what each image gets alone."""
    model = network(SHAPES["wide"])
    images = RNG.uniform(0.2, 0.8, (COUNT, 2, 5, 3)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    epsilon = np.array([0.01, 0.05, 0.1, 0.2])
    mask = RNG.random(images.shape) < 0.6
    options = dict(key=KEY, max_steps=10, engine="jax", batch_size=COUNT)
    together = pgd(model, images, labels, epsilon=epsilon, mask=mask, **options)
    for image in range(COUNT):
        alone = pgd(
            model,
            images[[image]],
            labels[[image]],
            epsilon=epsilon[image],
            mask=mask[image],
            image_ids=[image],
            **options,
        )
        np.testing.assert_array_equal(alone.images[0], together.images[image])
    assert np.all(np.diff(together.distances["linf"]) > 0)


def test_bounds_are_only_another_unit():
    """The same network, images and budgets in [-1, 3]: the same attack, scaled."""
    model = network(SHAPES["flat"])
    images = RNG.uniform(size=(COUNT, 11)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    unit = pgd(model, images, labels, key=KEY, epsilon=0.125, max_steps=8, engine="jax")
    scaled = pgd(
        lambda x: model((x + 1) / 4),
        4 * images - 1,
        labels,
        key=KEY,
        epsilon=0.5,
        max_steps=8,
        bounds=(-1, 3),
        engine="jax",
    )
    np.testing.assert_allclose((scaled.images + 1) / 4, unit.images, atol=2e-6)
    np.testing.assert_array_equal(scaled.success, unit.success)
    np.testing.assert_array_equal(scaled.success_8bit, unit.success_8bit)


def test_losses_and_verdicts_of_a_model_that_draws_are_those_of_numpy():
    model = network(SHAPES["flat"])
    noisy = ExpectationOverTransformation(
        lambda images, key: model(images + 0.3 * jax.random.normal(key, images.shape)), 5
    )
    images = RNG.uniform(size=(6, 11)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    keys = jax.random.split(KEY, 6)
    oracle = Oracle(noisy, False, None, "jax")
    examples = Example(images, labels, labels, None, None, None, keys)
    values, logits = oracle.evaluate(images, examples, keys, cross_entropy)
    every = np.array(
        [
            [
                np.asarray(noisy.model(image[None], jax.random.fold_in(key, draw)))[0]
                for image, key in zip(images, keys, strict=True)
            ]
            for draw in range(5)
        ]
    )
    probabilities = softmax(every)
    np.testing.assert_allclose(values, -np.log(probabilities[:, np.arange(6), labels]).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(softmax(logits), probabilities.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(oracle.judge(logits, labels), probabilities.mean(axis=0).argmax(axis=1) != labels)


def test_a_success_is_clear_of_rounding_while_it_is_sought_and_plain_at_the_end():
    """A lead that another order of summation can undo does not end a search; what is returned is judged by argmax."""
    logits = np.float32([[10, 10.000001], [10, 10.001], [10, 9], [np.nan, 1], [10, np.inf], [-np.inf, 1]])
    labels = np.zeros(6, int)
    oracle = Oracle(None, False, None, "jax")
    assert logits[0, 1] > logits[0, 0]
    np.testing.assert_array_equal(oracle.is_adversarial(logits, labels), [False, True, False, False, False, False])
    np.testing.assert_array_equal(oracle.judge(logits, labels), [True, True, False, False, False, False])
    targeted = Oracle(None, True, None, "jax")
    np.testing.assert_array_equal(targeted.is_adversarial(-logits[:3], labels[:3]), [False, True, False])


def test_success_of_a_model_that_draws_is_judged_on_fresh_draws():
    """Not on those with which it was found."""
    model = network(SHAPES["flat"])
    noisy = ExpectationOverTransformation(
        lambda images, key: model(images) + 3 * jax.random.normal(key, (len(images), CLASSES)), 2
    )
    images = RNG.uniform(size=(COUNT, 11)).astype(np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    result = pgd(noisy, images, labels, key=KEY, epsilon=0.02, max_steps=8, engine="jax")
    np.testing.assert_array_equal(result.success, (result.predictions != labels) & ~result.initially_wrong)
    assert np.any((result.first_success >= 0) & ~result.success)
