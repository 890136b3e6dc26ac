import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from diffprog.attack import additive_noise, blended, contrast_reduction, gaussian_blur, l1, l2, linf, salt_and_pepper

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEY = jax.random.key(2)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(5, 6, 5, 2)).astype(np.float32)
ZEROS = np.zeros(5, int)


def brightness(x):
    """Class 1 from a mean above 0.7 on."""
    return jnp.stack([jnp.full(len(x), 0.7), x.reshape(len(x), -1).mean(axis=1)], axis=-1) * 10


def never(x):
    return jnp.stack([jnp.ones(len(x)), -x.reshape(len(x), -1).mean(axis=1)], axis=-1)


@pytest.mark.parametrize(
    ("norm", "kind", "epsilon"),
    [(l2, "gaussian", 2.0), (linf, "uniform", 0.3), (l1, "gaussian", 9.0)],
    ids=lambda value: getattr(value, "name", value),
)
def test_noise_has_the_size_of_the_budget_after_clipping(norm, kind, epsilon):
    """And it is a noise: before clipping, one multiple of what the generator draws; the best of the draws is kept."""
    mask = np.arange(5)[:, None] != 2
    result = additive_noise(
        never, IMAGES, ZEROS, key=KEY, norm=norm, epsilon=epsilon, num_samples=4, distribution=kind, mask=mask
    )
    moved = result.images.astype(np.float64) - IMAGES
    sizes = norm.measure(moved)
    assert np.all(sizes <= epsilon) and np.all(sizes >= epsilon * (1 - 2e-5)), sizes
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert np.all(moved[:, :, 2] == 0)
    np.testing.assert_array_equal(result.queries, 4)
    np.testing.assert_array_equal(result.steps, 4)
    assert np.any((IMAGES > 0.01) & (result.images < 1e-4)) or norm is linf  # clipping mattered
    smaller = additive_noise(
        never, IMAGES, ZEROS, key=KEY, norm=norm, epsilon=epsilon / 4, num_samples=1, distribution=kind
    )
    larger = additive_noise(
        never, IMAGES, ZEROS, key=KEY, norm=norm, epsilon=epsilon / 2, num_samples=1, distribution=kind
    )
    free = np.all([(each.images > 1e-3) & (each.images < 0.999) for each in (smaller, larger)], axis=0)
    free &= np.abs(smaller.images - IMAGES) > 1e-3
    for image in range(5):
        ratio = ((larger.images - IMAGES)[image] / (smaller.images - IMAGES)[image])[free[image]]
        assert len(ratio) > 10
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
    few, many = (
        additive_noise(never, IMAGES, ZEROS, key=KEY, norm=norm, epsilon=epsilon, num_samples=draws, distribution=kind)
        for draws in (2, 12)
    )
    darker = lambda result: -result.images.reshape(5, -1).mean(axis=1)
    assert np.all(darker(many) >= darker(few)) and np.any(darker(many) > darker(few))


def test_a_blend_stops_where_the_model_changes_its_mind():
    """The mean of image + t (towards - image) is linear in t: the smallest t is known."""
    means = IMAGES.reshape(5, -1).mean(axis=1).astype(np.float64)
    target = RNG.uniform(0.8, 1, size=IMAGES.shape).astype(np.float32)
    for towards in (target, 1.0):
        end = np.broadcast_to(np.asarray(towards, np.float64), IMAGES.shape)
        part = (0.7 - means) / (end.reshape(5, -1).mean(axis=1) - means)
        result = blended(brightness, IMAGES, ZEROS, towards=towards, batch_size=3)
        assert result.success.all()
        smallest = part * np.linalg.norm((end - IMAGES).reshape(5, -1), axis=1)
        assert np.all(result.distances["l2"] >= smallest * (1 - 1e-5))
        last = 1 / 50 / 2**12 + 4e-6  # the halved step, and what a verdict must be clear by
        assert np.all(result.distances["l2"] <= smallest / part * (part + last))
        np.testing.assert_array_equal(result.first_success, np.ceil(part * 50) - 1)
        np.testing.assert_array_equal(result.queries, np.ceil(part * 50) + 12)
    failed = blended(brightness, IMAGES, ZEROS, towards=0.5)
    assert failed.failure.all() and np.all(failed.queries == 50)
    np.testing.assert_array_equal(failed.images, IMAGES)
    darkest = lambda x: jnp.stack([x.reshape(len(x), -1).min(axis=1), jnp.full(len(x), 0.9)], axis=-1) + 1
    noisy = blended(darkest, np.ones_like(IMAGES), ZEROS, towards="noise", key=KEY)
    assert noisy.success.all() and len(np.unique(noisy.images)) > 250


def test_contrast_goes_towards_the_midst_of_the_bounds():
    """Class 1 once the spread of the pixels is below half of what it was."""
    images = 4 * IMAGES - 1
    spread = images.reshape(5, -1).std(axis=1).mean()
    model = lambda x: jnp.stack([x.reshape(len(x), -1).std(axis=1), jnp.full(len(x), 0.5 * spread)], axis=-1) + 1
    result = contrast_reduction(model, images, ZEROS, bounds=(-1, 3))
    part = 1 - 0.5 * spread / images.reshape(5, -1).astype(np.float64).std(axis=1)
    assert result.success.all()
    np.testing.assert_allclose(result.images, images + part[:, None, None, None] * (1 - images), atol=1e-4)


def test_salt_and_pepper_changes_as_few_elements_as_it_must():
    """Class 1 once 12 elements are at an edge."""
    images = np.clip(IMAGES, 0.01, 0.99)
    edges = lambda x: jnp.sum((x == 0) | (x == 1), axis=(1, 2, 3)) / 10
    model = lambda x: jnp.stack([jnp.full(len(x), 1.15), edges(x)], axis=-1)
    result = salt_and_pepper(model, images, ZEROS, key=KEY, binary_search_steps=20)
    np.testing.assert_array_equal(result.distances["l0"], 12)
    changed = result.images[result.images != images]
    assert set(changed) == {0.0, 1.0} and 0.25 < changed.mean() < 0.75


def test_blur_is_as_weak_as_it_may_be():
    """Class 1 once the steepest of the columns' differences has fallen: SciPy blurs, and bisects, as we do."""
    steep = lambda x: jnp.abs(jnp.diff(jnp.asarray(x), axis=2)).reshape(len(x), -1).max(axis=1)
    limit = float(np.asarray(steep(IMAGES)).min()) * 0.6
    model = lambda x: jnp.stack([steep(x), jnp.full(len(x), limit)], axis=-1) + 1
    result = gaussian_blur(model, IMAGES, ZEROS, max_sigma=2.0, linear_search_steps=20, binary_search_steps=14)
    assert result.success.all()
    for image, found in zip(IMAGES, result.images, strict=True):
        low, high = 0.0, 2.0
        for _ in range(30):
            middle = (low + high) / 2
            seen = ndimage.gaussian_filter(image.astype(np.float64), (middle, middle, 0), mode="nearest", radius=6)
            low, high = (middle, high) if np.abs(np.diff(seen, axis=1)).max() > limit else (low, middle)
        np.testing.assert_allclose(found, seen, atol=2e-3)


def test_bad_arguments_get_one_sentence():
    for attack, options, sentence in (
        (additive_noise, {"distribution": "pink"}, "distribution must be one of 'gaussian', 'uniform'; found 'pink'"),
        (blended, {"towards": "gray"}, "towards must be 'noise', a number or images; found 'gray'"),
        (blended, {"towards": np.zeros((3, 3))}, r"towards must be a number or have the shape.*found \(3, 3\)"),
        (gaussian_blur, {"max_sigma": 0.0}, "max_sigma must be a positive number; found 0.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            attack(brightness, IMAGES, ZEROS, key=KEY, **options)
    with pytest.raises(ValueError, match=r"images must have shape \(n, height, width, channels\).*found \(5, 60\)"):
        gaussian_blur(brightness, IMAGES.reshape(5, -1), ZEROS)
