import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import cross_entropy, fgsm, l2, linf, margin, pgd
from diffprog.attack._engine.method import Candidate, larger_loss, smaller_norm
from diffprog.optimize import ENGINES
from tests.compilations import counted

KEY = jax.random.key(11)
NORMS = pytest.mark.parametrize("norm", [linf, l2], ids=lambda norm: norm.name)
LOSSES = pytest.mark.parametrize("loss", [cross_entropy, margin], ids=lambda loss: loss.__name__)


def linear_problem(images=6, size=30):
    """Two classes split by a plane: logits (0, w . x + b), every image on the side of class 0."""
    rng = np.random.default_rng(4)
    weights = rng.normal(size=size).astype(np.float32)
    pixels = rng.uniform(0.3, 0.7, size=(images, size)).astype(np.float32)
    bias = -np.float32((pixels @ weights).max() + 0.2)

    def model(x):
        score = x @ weights + bias
        return jnp.stack([jnp.zeros_like(score), score], axis=-1)

    gaps = -(pixels.astype(np.float64) @ weights + bias)  # how much the score must rise
    return model, pixels, weights.astype(np.float64), gaps


def network(seed=0, classes=5, size=20):
    rng = np.random.default_rng(seed)
    inner, outer = rng.normal(size=(size, 32)).astype(np.float32), rng.normal(size=(32, classes)).astype(np.float32)
    model = jax.jit(lambda x: jnp.tanh((x - 0.5) @ inner) @ outer)
    images = rng.uniform(size=(7, size)).astype(np.float32)
    return model, images, np.asarray(model(images)).argmax(axis=1)


@pytest.mark.parametrize("targeted", [False, True])
@LOSSES
@NORMS
@pytest.mark.parametrize("attack", [fgsm, pgd], ids=["fgsm", "pgd"])
def test_linear_model_falls_at_its_smallest_budget(attack, norm, loss, targeted):
    """The nearest point of a plane is at gap / dual norm of w; within 1 % the attacks know on which side they are."""
    model, images, weights, gaps = linear_problem()
    smallest = gaps / (np.abs(weights).sum() if norm is linf else np.linalg.norm(weights))
    labels = np.full(len(images), int(targeted))
    options = {"key": KEY} if attack is pgd else {}
    for image in range(3):
        one = slice(image, image + 1)
        for factor, falls in ((1.01, True), (0.99, False)):
            result = attack(
                model,
                images[one],
                labels[one],
                norm=norm,
                epsilon=factor * smallest[image],
                loss=loss,
                targeted=targeted,
                engine="jax",
                **options,
            )
            assert bool(result.success[0]) is falls
            assert int(result.predictions[0]) == int(falls) and int(result.clean_predictions[0]) == 0


@NORMS
def test_pgd_reaches_the_optimum_where_the_box_is_in_the_way(norm):
    model, images, weights, _ = linear_problem()
    epsilon = 0.5 if norm is linf else 2.0
    result = pgd(model, images, np.zeros(6, int), key=KEY, norm=norm, epsilon=epsilon, engine="jax")
    for found, image in zip(result.images.astype(np.float64), images.astype(np.float64), strict=True):
        if norm is linf:
            best = np.clip(image + 0.5 * np.sign(weights), 0, 1)
        else:  # KKT: the gradient's direction, stopped by the box, as far as the ball allows
            low, high = 0.0, 1e6
            for _ in range(200):
                middle = (low + high) / 2
                inside = np.linalg.norm(np.clip(image + middle * weights, 0, 1) - image) <= 2.0
                low, high = (middle, high) if inside else (low, middle)
            best = np.clip(image + low * weights, 0, 1)
            assert np.any((best == 0) | (best == 1))  # the box does matter here
        assert weights @ (best - image) <= 1.01 * (weights @ (found - image))


@pytest.mark.parametrize("engine", ENGINES)
def test_fgsm_is_the_sign_of_the_gradient(engine):
    """Softmax regression: d cross-entropy / dx = W (softmax - one-hot)."""
    rng = np.random.default_rng(8)
    weights = rng.normal(size=(10, 4))
    images = rng.uniform(0.2, 0.8, size=(5, 10)).astype(np.float32)
    exponentials = np.exp(images @ weights)
    labels = exponentials.argmax(axis=1)
    residual = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(4)[labels]
    result = fgsm(lambda x: x @ jnp.float32(weights), images, labels, epsilon=0.05, engine=engine)
    np.testing.assert_allclose(result.images, images + 0.05 * np.sign(residual @ weights.T), atol=1.2e-7)
    np.testing.assert_allclose(result.distances["linf"], 0.05, rtol=1e-5)
    np.testing.assert_array_equal(result.success, result.predictions != labels)


@NORMS
def test_more_steps_never_undo_a_success_nor_lower_the_loss(norm):
    model, images, labels = network()
    target = (labels + 1) % 5
    target[0] = labels[0]  # there already
    epsilon = 0.08 if norm is linf else 0.25
    hits, values = [], []
    for steps in range(1, 9):
        result = pgd(
            model,
            images,
            target,
            key=KEY,
            norm=norm,
            epsilon=epsilon,
            max_steps=steps,
            step_size=1.5 * epsilon,
            targeted=True,
            engine="jax",
        )
        hits.append(result.success)
        values.append(-np.asarray(cross_entropy(model(result.images), target)))
        np.testing.assert_array_equal(result.initially_wrong, np.arange(7) == 0)
        np.testing.assert_array_equal(result.images[0], images[0])
    hits, values = np.array(hits), np.array(values)
    assert np.all(hits[1:] >= hits[:-1])
    assert np.all((values[1:] >= values[:-1] - 1e-6) | (hits[1:] > hits[:-1]))
    assert 0 < hits[-1].sum() < len(images)  # neither hopeless nor trivial


def test_a_success_beats_a_failure_of_larger_loss():
    old = Candidate(None, jnp.array([2.0, 2.0, 1.0, 1.0]), jnp.array([False, True, True, False]), None)
    new = Candidate(None, jnp.array([1.0, 3.0, 2.0, jnp.nan]), jnp.array([True, False, True, False]), None)
    np.testing.assert_array_equal(larger_loss(old, new), [True, False, True, False])


def test_a_smaller_success_beats_a_larger_one_and_every_failure():
    size = jnp.array([2.0, 2.0, 1.0, jnp.inf])
    old = Candidate(None, None, jnp.array([True, True, True, False]), size)
    new = Candidate(None, None, jnp.array([True, False, True, False]), jnp.array([1.0, 1.0, 1.5, 0.5]))
    np.testing.assert_array_equal(smaller_norm(old, new), [True, False, False, False])


@pytest.mark.parametrize("targeted", [False, True])
@NORMS
def test_no_image_depends_on_its_batch(norm, targeted):
    model, images, labels = network(seed=1)
    wanted = (labels + 2) % 5 if targeted else labels
    options = dict(
        key=KEY, norm=norm, epsilon=0.06 if norm is linf else 0.2, max_steps=15, targeted=targeted, engine="jax"
    )
    together = pgd(model, images, wanted, **options)
    assert 0 < together.success.sum() < len(images)
    for image in range(len(images)):
        alone = pgd(model, images[[image]], wanted[[image]], image_ids=np.array([image]), **options)
        np.testing.assert_allclose(alone.images[0], together.images[image], atol=2e-6)
        for field in ("success", "clean_predictions", "predictions", "first_success"):
            assert getattr(alone, field)[0] == getattr(together, field)[image], field


def test_result_tells_the_truth():
    model, images, labels = network(seed=2)
    wrong = labels.copy()
    wrong[0] = (labels[0] + 1) % 5  # an image that the network gets wrong from the start
    result = pgd(model, images, wrong, key=KEY, norm=linf, epsilon=0.05, engine="jax")
    np.testing.assert_array_equal(result.clean_predictions, labels)
    np.testing.assert_array_equal(result.predictions, np.asarray(model(result.images)).argmax(axis=1))
    np.testing.assert_array_equal(result.initially_wrong, np.arange(len(images)) == 0)
    np.testing.assert_array_equal(result.success, (result.predictions != wrong) & ~result.initially_wrong)
    np.testing.assert_array_equal(result.first_success >= 0, result.success)
    np.testing.assert_array_equal(result.images[0], images[0])
    largest = np.abs(result.images.astype(np.float64) - images).max(axis=1)
    np.testing.assert_array_equal(result.distances["linf"], largest)
    assert result.distances["linf"].max() <= 0.05 and result.images.dtype == np.float32


def test_first_success_counts_updates():
    """One pixel, from 0.5 - start to beyond 0.8, in steps of 0.1: the count follows from the random start alone."""
    result = pgd(
        lambda x: jnp.stack([jnp.zeros(len(x)), x[:, 0] - 0.8], axis=-1),
        np.full((9, 1), 0.5, np.float32),
        np.ones(9, int),
        key=KEY,
        epsilon=0.4,
        step_size=0.1,
        max_steps=10,
        targeted=True,
        engine="jax",
    )
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, zlib.crc32(b"pgd")), n), 1) for n in range(9)]
    noise = [float(linf.uniform(key, (1,), 0.4)[0]) for key in keys]
    expected = [max(0, int(np.ceil((0.3 - shift) / 0.1))) for shift in noise]
    np.testing.assert_array_equal(result.first_success, expected)
    assert len(set(expected)) > 2


def test_key_decides_every_bit():
    model, images, labels = network(seed=3)
    once, again, other = (
        pgd(model, images, labels, key=key, max_steps=5, engine="jax").images for key in (KEY, KEY, jax.random.key(12))
    )
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other)


@NORMS
def test_engines_agree(norm):
    model, images, labels = network(seed=4)
    ours, theirs = (
        pgd(model, images, labels, key=KEY, norm=norm, epsilon=0.05, max_steps=10, engine=engine) for engine in ENGINES
    )
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-5)
    np.testing.assert_array_equal(ours.success, theirs.success)


def test_a_model_compiles_once_and_need_not_be_hashable():
    _, images, _ = network()
    labels = images[:, :5].argmax(axis=1)
    options = {"key": KEY, "batch_size": 3, "engine": "jax"}
    pgd(lambda x: x[:, :5], images[:6], labels[:6], **options)
    with counted() as count:  # the last batch is of one image
        pgd(lambda x: x[:, :5], images[::-1], labels[::-1], epsilon=0.1, step_size=0.01, max_steps=60, **options)
    assert count == [0]

    class Unhashable(list):
        def __call__(self, x):
            return x[:, :5]

    result = fgsm(Unhashable(), images, labels, engine="jax")
    np.testing.assert_array_equal(result.images, fgsm(lambda x: x[:, :5], images, labels, engine="jax").images)
