import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve

from diffprog.attack import cross_entropy, di_fgsm, l2, linf, mi_fgsm, ni_fgsm, ti_fgsm, vmi_fgsm
from diffprog.attack._attacks.gradient_transforms import (
    input_diversity,
    nesterov,
    shrunk,
    translation_invariant,
    variance_tuned,
)
from diffprog.images._filters import gaussian_blur
from diffprog.optimize import ENGINES
from tests.attack.attacks.test_fast_gradient import network

KEY = jax.random.key(9)


class Softmax:
    """A network of one hidden layer in float64, and the gradient of its cross-entropy."""

    def __init__(self, seed=2):
        rng = np.random.default_rng(seed)
        self.inner, self.outer = rng.normal(size=(20, 32)), rng.normal(size=(32, 5))

    def gradient(self, x, label):
        hidden = np.tanh((x - 0.5) @ self.inner)
        exponentials = np.exp(hidden @ self.outer)
        residual = exponentials / exponentials.sum() - np.eye(5)[label]
        return self.inner @ ((1 - hidden**2) * (self.outer @ residual))


def reference(net, image, label, norm, epsilon, steps, decay, nesterov):
    """Dong et al. 2018, algorithm 1, with means for sums of magnitudes; Lin et al. 2020, eq. 6."""
    x, g, length = image.copy(), np.zeros_like(image), epsilon / steps
    for _ in range(steps):
        slope = net.gradient(x + nesterov * length * decay * g, label)
        g = decay * g + slope / np.abs(slope).mean()
        if norm is linf:
            x = np.clip(np.clip(x + length * np.sign(g), image - epsilon, image + epsilon), 0, 1)
        else:
            x = np.clip(x + length * g / np.linalg.norm(g), 0, 1)
    return x


@pytest.mark.parametrize(("attack", "norm", "decay"), [(mi_fgsm, linf, 1.0), (mi_fgsm, l2, 0.5), (ni_fgsm, linf, 1.0)])
def test_steps_are_those_of_the_papers(attack, norm, decay):
    model, images, labels = network(seed=2)
    images = np.clip(images, 0.2, 0.8)  # far from the box
    labels = np.asarray(model(images)).argmax(axis=1)
    net, epsilon = Softmax(), 0.03
    # The loss rises to the last step, so that the best iterate is the last.
    found = attack(model, images, labels, norm=norm, epsilon=epsilon, max_steps=6, decay=decay, engine="jax")
    expected = [
        reference(net, image.astype(np.float64), label, norm, epsilon, 6, decay, attack is ni_fgsm)
        for image, label in zip(images, labels, strict=True)
    ]
    np.testing.assert_allclose(found.images, expected, atol=2e-5)
    assert np.all(found.distances[norm.name] <= epsilon)
    np.testing.assert_array_equal(found.queries, 7 if attack is mi_fgsm else 13)


def test_variance_is_that_of_a_quadratic_model():
    """Where the gradient is linear, the mean over neighbors is the gradient plus a multiple of the mean of the noise,
    which vanishes as their number grows: VMI is MI then, and with few neighbors it is not."""
    curve = jnp.asarray(np.random.default_rng(0).uniform(1, 2, 6), jnp.float32)
    model = lambda x: jnp.stack([-jnp.sum(curve * x**2, axis=1), jnp.zeros(len(x)) - 9], axis=1)
    lead = lambda logits, labels: -logits[:, 0]
    images, labels = np.random.default_rng(1).uniform(0.3, 0.7, (3, 6)).astype(np.float32), np.zeros(3, int)
    options = dict(key=KEY, norm=l2, epsilon=0.1, max_steps=4, loss=lead, engine="jax")
    plain = mi_fgsm(model, images, labels, **options).images
    few, many = (vmi_fgsm(model, images, labels, num_samples=samples, **options) for samples in (2, 400))
    assert np.abs(many.images - plain).max() < 1e-3 < np.abs(few.images - plain).max()
    np.testing.assert_array_equal(few.backward_passes, 4 * 3)
    np.testing.assert_array_equal(few.queries, 4 * 4 + 1)


def test_blur_is_a_convolution_with_zeros_around():
    picture = np.random.default_rng(0).normal(size=(9, 17, 2)).astype(np.float32)
    line = np.exp(-0.5 * np.linspace(-3, 3, 15) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    expected = convolve(picture.astype(np.float64), kernel[..., None], mode="constant")
    found = gaussian_blur(jnp.asarray(picture), 7 / 3, 7, edge="zero")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_shrunk_picture_lies_on_black_somewhere():
    ones = jnp.ones((20, 30, 1))
    shrink = jax.vmap(lambda key: shrunk(key, ones, 0.5, 0.7))
    drawn = np.asarray(shrink(jax.random.split(KEY, 300)))[..., 0]
    sides, corners = set(), set()
    for each in drawn:
        rows, columns = np.flatnonzero(each.max(axis=1) > 0.5), np.flatnonzero(each.max(axis=0) > 0.5)
        np.testing.assert_allclose(each[np.ix_(rows, columns)], 1, atol=1e-5)
        assert each.sum() == pytest.approx(len(rows) * len(columns), rel=1e-4)
        sides.add((len(rows), len(columns)))
        corners.add((rows[0], columns[0]))
    assert min(sides) >= (14, 21) and len(sides) >= 6 and len(corners) > 30
    untouched = np.mean([np.all(each > 0.999) for each in drawn])
    assert 0.4 < untouched < 0.65  # half, and what was shrunk by less than half a pixel


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(72, 3)).astype(np.float32)
    images = rng.uniform(0.2, 0.8, size=(4, 6, 6, 2)).astype(np.float32)
    model = lambda x: jnp.tanh((x - 0.5).reshape(len(x), -1) @ weights)
    return model, images, np.asarray(model(images)).argmax(axis=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_parts_compose_and_no_image_depends_on_its_batch(pictures, engine):
    model, images, labels = pictures
    parts = (input_diversity(), nesterov(), variance_tuned(2), translation_invariant(5))
    options = dict(key=KEY, epsilon=0.05, max_steps=3, gradient_transforms=parts, engine=engine, batch_size=4)
    result = mi_fgsm(model, images, labels, **options)
    assert np.all(result.distances["linf"] <= 0.05) and np.any(result.distances["linf"] > 0.03)
    np.testing.assert_array_equal(result.backward_passes, 9)
    alone = mi_fgsm(model, images[[2]], labels[[2]], image_ids=np.array([2]), **options)
    np.testing.assert_array_equal(alone.images[0], result.images[2])


def test_ti_is_the_sign_of_the_blurred_gradient(pictures):
    model, images, labels = pictures
    result = ti_fgsm(model, images, labels, epsilon=0.05, max_steps=1, kernel_size=5, engine="jax")
    gradient = jax.grad(lambda x: cross_entropy(model(x), labels).sum())(images)
    line = np.exp(-0.5 * np.linspace(-3, 3, 5) ** 2)
    expected = convolve(np.asarray(gradient, np.float64), np.outer(line, line)[None, :, :, None], mode="constant")
    np.testing.assert_allclose(result.images, images + 0.05 * np.sign(expected), atol=1e-6)
    assert np.any(np.sign(expected) != np.sign(gradient))


def test_ti_needs_a_kernel_with_a_middle(pictures):
    with pytest.raises(ValueError, match="kernel_size must be odd, for a kernel with a middle; found 4: add 1"):
        ti_fgsm(*pictures, epsilon=0.05, kernel_size=4)


def test_di_shrinks_as_often_as_asked(pictures):
    options = dict(key=KEY, epsilon=0.05, max_steps=2, engine="jax")
    plain = mi_fgsm(*pictures, decay=0.0, **options).images
    np.testing.assert_array_equal(di_fgsm(*pictures, probability=0.0, **options).images, plain)
    assert np.all(np.any(di_fgsm(*pictures, probability=1.0, min_scale=0.5, **options).images != plain, axis=(1, 2, 3)))


def test_a_zero_gradient_adds_nothing():
    """The slope ends at 0.51, and the momentum goes on to where the class changes, 0.55; without any slope it rests."""

    def plateau(x):
        rise = jnp.clip(x[:, 0] - 0.49, 0, 0.02) + (x[:, 0] > 0.55)
        return jnp.stack([jnp.full(len(x), 0.5), rise], axis=1)

    images = np.float32([[0.5], [0.52]])
    result = mi_fgsm(plateau, images, np.zeros(2, int), epsilon=0.08, max_steps=10, early_stop=True, engine="jax")
    np.testing.assert_array_equal(result.success, [True, False])
    np.testing.assert_allclose(result.images, [[0.556], [0.52]], atol=1e-6)


def test_pictures_are_asked_for():
    with pytest.raises(ValueError, match=r"images must have shape \(n, height, width, channels\).*found \(7, 20\)"):
        ti_fgsm(*network())
