"""Perturbations that many images share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import AttackWarning, Placements, apply_patch, apply_universal, l2, linf, margin, patch, universal

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(4)
RNG = np.random.default_rng(6)


def plane(images, size):
    weights = RNG.normal(size=size).astype(np.float32)
    pixels = RNG.uniform(0.4, 0.6, size=(images, size)).astype(np.float32)
    bias = -np.float32(np.median(pixels @ weights) + 0.4)

    def model(x):
        score = x @ weights + bias
        return jnp.stack([jnp.zeros_like(score), score], axis=-1)

    return model, pixels, weights.astype(np.float64), bias


@pytest.mark.parametrize(("norm", "engine"), [(linf, "diffprog"), (l2, "jax")], ids=["linf", "l2"])
def test_the_best_direction_of_a_plane_is_its_normal(norm, engine):
    model, images, weights, bias = plane(30, 14)
    epsilon = 0.06 if norm is linf else 0.2
    direction = np.sign(weights) if norm is linf else weights / np.linalg.norm(weights)
    found = universal(
        model,
        images,
        np.zeros(30, int),
        key=KEY,
        norm=norm,
        epsilon=epsilon,
        max_steps=40,
        minibatch_size=8,
        loss=margin,
        max_loss=100.0,
        engine=engine,
    )
    np.testing.assert_allclose(found.perturbation, epsilon * direction, atol=2e-5 * epsilon + 1e-7)
    assert norm.measure(found.perturbation[None])[0] <= epsilon
    rises = (images + epsilon * direction) @ weights + bias
    attacked = ~found.result.initially_wrong
    np.testing.assert_array_equal(found.result.success, attacked & (rises > 0))
    assert 0 < found.result.success.sum() < attacked.sum()
    assert np.all(found.result.distances[norm.name] <= epsilon)
    assert len(found.losses) == 40 and np.all(found.result.queries == attacked)

    other = RNG.uniform(size=(9, 14)).astype(np.float32)  # at the edges, too, bounds and budget hold
    spread = apply_universal(model, other, np.zeros(9, int), found.perturbation, norm=norm, epsilon=epsilon)
    expected = np.clip(other + found.perturbation, 0, 1)
    attacked = ~spread.initially_wrong
    np.testing.assert_allclose(spread.images[attacked], expected[attacked], atol=1e-5)
    assert np.all(norm.measure(spread.images - other.astype(np.float64)) <= epsilon)
    assert spread.images.min() >= 0 and spread.images.max() <= 1


def test_one_image_does_not_decide_for_all():
    """Three images want one pixel up, a fourth with an enormous slope wants it down: the cap silences it."""
    images = np.array([[0.5, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 1.0]], np.float32)
    steep = lambda x: jnp.where(x[:, 1] > 0.5, 200 - 1000 * (x[:, 0] - 0.5), x[:, 0] - 0.52)
    model = lambda x: jnp.stack([jnp.zeros(len(x)), steep(x)], axis=-1)
    mask = np.array([True, False])
    for cap, expected in ((1000.0, -0.1), (9.0, 0.1)):
        found = universal(
            model,
            images,
            np.zeros(4, int),
            key=KEY,
            epsilon=0.1,
            max_steps=30,
            minibatch_size=4,
            max_loss=cap,
            loss=margin,
            mask=mask,
        )
        np.testing.assert_allclose(found.perturbation, [expected, 0], rtol=1e-5)


def test_a_targeted_perturbation_reaches_its_class():
    """Three classes, each a pixel: the target's goes up, the others down."""
    images = RNG.uniform(0.4, 0.6, size=(6, 3)).astype(np.float32)
    found = universal(lambda x: 10 * x, images, np.full(6, 2), key=KEY, epsilon=0.2, max_steps=20, targeted=True)
    np.testing.assert_allclose(found.perturbation, [-0.2, -0.2, 0.2], atol=1e-6)
    assert np.all(found.result.success | found.result.initially_wrong)
    assert np.all(np.diff(found.losses[:5]) > 0) and found.losses[0] < 0


def test_a_patch_is_put_where_it_is_told():
    picture = RNG.uniform(size=(3, 3, 1)).astype(np.float32)
    images = np.full((1, 8, 7, 1), 0.25, np.float32)
    never = lambda x: jnp.stack([jnp.ones(len(x)), -jnp.ones(len(x))], axis=-1)

    def put(patch, *place):
        places = Placements(*[(each, each) for each in place])
        return apply_patch(never, images, np.zeros(1, int), patch, key=KEY, placements=places).images[0, ..., 0]

    for degrees, quarters, row, top, column, left in (
        (0.0, 0, 0.0, 0, 1.0, 4),
        (90.0, 1, 0.4, 2, 0.25, 1),
        (-90.0, 3, 1.0, 5, 0.0, 0),
    ):
        expected = images[0, ..., 0].copy()
        expected[top : top + 3, left : left + 3] = np.rot90(picture[..., 0], quarters)
        np.testing.assert_allclose(put(picture, degrees, 1.0, row, column), expected, atol=1e-5)
    white = (put(np.ones_like(picture), 0.0, 2.0, 0.5, 0.5) - 0.25) / 0.75  # the opacity of a patch of 6 x 6 pixels
    np.testing.assert_allclose(white.sum(), 36, rtol=1e-5)
    np.testing.assert_allclose(white, white[::-1, ::-1], atol=1e-5)


def test_a_patch_learns_what_the_model_looks_for():
    """Class 1 is bright red, wherever it is: the patch becomes red, and wins at every place."""
    images = RNG.uniform(0, 0.5, size=(5, 10, 12, 3)).astype(np.float32)

    def model(x):
        red = (x[..., 0] - x[..., 1] - x[..., 2]).mean(axis=(1, 2)) * 40
        return jnp.stack([jnp.zeros(len(x)), red], axis=-1)

    found = patch(
        model,
        images,
        np.ones(5, int),
        key=KEY,
        size=7,
        max_steps=40,
        learning_rate=0.1,
        minibatch_size=3,
        targeted=True,
    )
    np.testing.assert_allclose(found.patch, np.broadcast_to([1.0, 0, 0], (7, 7, 3)), atol=1e-3)
    covered = np.all(np.abs(found.result.images - [1, 0, 0]) < 1e-3, axis=-1).sum(axis=(1, 2))
    assert np.all((covered >= (0.8 * 7 - 2) ** 2) & (covered <= 7**2)), covered
    red = np.asarray(model(found.result.images))[:, 1]
    np.testing.assert_array_equal(found.result.success, red > 0)
    again, other = (
        apply_patch(model, images, np.ones(5, int), found.patch, key=key, targeted=True).images
        for key in (KEY, jax.random.key(99))
    )
    np.testing.assert_array_equal(again, found.result.images)
    assert np.any(other != again)
    best = apply_patch(
        model, images, np.ones(5, int), found.patch, key=KEY, targeted=True, num_samples=5, bounds=(0, 1)
    )
    assert np.all(np.asarray(model(best.images))[:, 1] >= red - 1e-5) and np.all(best.queries == 5)


# ---------------------------------------------------------------- gradients, budgets and labels


def learned(model, images, labels=None, **options):
    labels = np.zeros(len(images), int) if labels is None else labels
    return universal(model, np.float32(images), labels, key=KEY, max_steps=5, step_size=0.2, **options)


def test_without_a_gradient_nothing_is_learned_and_that_is_said():
    stopped = lambda x: jax.lax.stop_gradient(x) @ np.float32([[1, 0], [0, 1]])
    with pytest.warns(AttackWarning, match=r"(?s)universal found no usable gradient.*stop_gradient"):
        found = learned(stopped, [[0.5, 0.4]], epsilon=0.2).result
    assert found.no_gradient.all() and not found.success.any()


def test_an_image_that_is_not_finite_and_infinite_slopes_do_not_stop_the_others():
    def model(x):
        return jnp.where(x[:, :1] > 0.9, jnp.nan, jnp.sqrt(x)) @ np.float32([[1, 0], [0, 1], [1, 0]])

    found = learned(model, [[0.5, 0.2, 0], [0.95, 0.1, 0]], epsilon=0.3)
    assert found.result.success.tolist() == [True, False] and found.result.nonfinite.tolist() == [False, True]
    assert np.isfinite(found.losses).all()


def test_budgets_of_nothing_and_of_everything():
    model = lambda x: 5 * x
    assert np.all(learned(model, [[0.5, 0.4]], epsilon=0).perturbation == 0)
    assert learned(model, [[0.9, 0.1]], epsilon=np.inf, norm="l2").result.success.all()
    with pytest.raises(ValueError, match="epsilon must be one number, for one perturbation of all images"):
        learned(model, [[0.5, 0.4]], epsilon=[0.1, 0.2])


def test_tags_are_lost_to_one_perturbation():
    loss = lambda logits, tags: jnp.logaddexp(0, jnp.where(tags > 0, -logits, logits)).sum(axis=1)
    changed = lambda logits, tags: ((logits > 0) != (tags > 0)).any(axis=1)
    tags = np.float32([[1, 0], [1, 0]])
    found = learned(lambda x: 5 * (x - 0.5), [[0.6, 0.4], [0.6, 0.3]], tags, epsilon=0.15, loss=loss, criterion=changed)
    assert found.result.success.all()


def test_bad_arguments_get_one_sentence():
    model, images, labels = (lambda x: x.reshape(len(x), -1)), np.full((2, 4, 4, 1), 0.5, np.float32), np.zeros(2, int)
    for attack, options, sentence in (
        (universal, {"epsilon": -1.0}, "epsilon must be a number of at least 0; found -1.0"),
        (universal, {"minibatch_size": 0}, "minibatch_size must be a whole number of at least 1; found 0"),
        (apply_universal, {"perturbation": np.zeros(3)}, r"perturbation must have the shape of one image, \(4"),
        (patch, {"size": 9}, "size, enlarged by the highest scale, must be at most the images' shorter side, 4; found"),
        (patch, {"size": 2, "placements": Placements(scale=(1, 0.5))}, "scale of placements must be"),
        (apply_patch, {"patch": np.zeros((2, 2, 3))}, r"patch must have shape \(height, width, 1\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            attack(model, images, labels, key=KEY, **options)
