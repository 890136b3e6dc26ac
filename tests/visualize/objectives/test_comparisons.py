import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.visualize import channel, fourier, pixels, render
from diffprog.visualize.objectives import (
    alignment,
    caricature,
    difference,
    diversity,
    style_difference,
    tensor_direction,
)
from diffprog.visualize.transforms import still
from tests.visualize import small

MODEL = small.model()
random = np.random.default_rng(3)
GRID = random.normal(size=(4, 5, 6, 4)).astype(np.float32)
TARGET = random.normal(size=(5, 6, 4)).astype(np.float32)
VALUES = {"units": jnp.asarray(GRID)}
WIDE = GRID.astype(np.float64)


def score(objective):
    return np.asarray(objective.score(MODEL, VALUES))


def grams(values):
    flat = values.reshape(len(values), -1, values.shape[-1])
    return np.stack([each.T @ each / len(each) for each in flat])


@pytest.mark.parametrize("power", [0, 2])
def test_tensor_direction_has_a_vector_at_each_position(power):
    dot = (WIDE * TARGET).sum(-1)
    cosine = dot / np.linalg.norm(WIDE, axis=-1) / np.linalg.norm(TARGET, axis=-1)
    expected = (dot * np.maximum(0.1, cosine) ** power).mean((1, 2))
    np.testing.assert_allclose(score(tensor_direction("units", TARGET, power)), expected, rtol=1e-4)


def test_tensors_of_other_sizes_meet_at_the_center():
    inner = TARGET[1:4, 2:4]
    expected = (WIDE[:, 1:4, 2:4] * inner).sum(-1).mean((1, 2))
    np.testing.assert_allclose(score(tensor_direction("units", inner)), expected, rtol=1e-4)
    around = np.pad(TARGET, ((1, 1), (2, 2), (0, 0)), constant_values=9)
    np.testing.assert_allclose(score(difference("units", around)), ((WIDE - TARGET) ** 2).mean((1, 2, 3)), rtol=1e-5)


def test_style_compares_products_of_channels():
    expected = ((grams(WIDE) - grams(TARGET[None].astype(np.float64))) ** 2).mean((1, 2))
    np.testing.assert_allclose(score(style_difference("units", TARGET)), expected, rtol=1e-4)
    shuffled = random.permutation(TARGET.reshape(-1, 4)).reshape(6, 5, 4)  # positions do not matter
    np.testing.assert_allclose(score(style_difference("units", shuffled)), expected, rtol=1e-4)


def test_diversity_is_minus_the_cosine_of_gram_matrices():
    flat = grams(WIDE).reshape(4, -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T
    expected = [-np.mean([alike[i, j] for j in range(4) if j != i]) for i in range(4)]
    np.testing.assert_allclose(score(diversity("units")), expected, rtol=1e-4)
    alone = diversity("units").score(MODEL, {"units": VALUES["units"][:1]})
    np.testing.assert_array_equal(alone, [0])


def test_alignment_compares_neighbors():
    apart = lambda i, j: ((WIDE[i] - WIDE[j]) ** 2).mean()
    expected = []
    for i in range(4):
        pairs = [(abs(i - j), apart(i, j)) for j in range(4) if 0 < abs(i - j) <= 2]
        expected.append(sum(d / 3.0**k for k, d in pairs) / sum(3.0**-k for k, _ in pairs))
    np.testing.assert_allclose(score(alignment("units", reach=2, decay=3)), expected, rtol=1e-5)


def test_diverse_pictures_differ_more():
    options = {
        "key": jax.random.key(0),
        "parameterization": fourier(12),
        "transform": still,
        "steps": 40,
        "num_images": 3,
    }
    measured = lambda rendering: np.asarray(
        diversity("units").score(MODEL, MODEL.activations(rendering.images, ["units"]))
    ).mean()
    plain = render(MODEL, channel("units", 0), **options)
    diverse = render(MODEL, channel("units", 0) + 30 * diversity("units"), **options)
    assert measured(diverse) > measured(plain) + 0.02
    np.testing.assert_allclose(
        diverse.scores[0],
        sum(w * diverse.term_histories[0][n][0] for n, w in (("units:0", 1), ("diversity of units", 30)))
        + (diverse.scores[0] - diverse.scores[0, 0]),
        rtol=1e-4,
    )


def test_a_caricature_comes_to_say_what_the_photograph_says():
    photograph = random.uniform(size=(12, 12, 3)).astype(np.float32)
    objective = caricature(MODEL, photograph, "units.pre", cosine_power=1)
    rendering = render(
        MODEL,
        objective,
        key=jax.random.key(0),
        parameterization=pixels(12),
        transform=still,
        steps=60,
        learning_rate=0.3,
    )
    said = lambda image: np.asarray(MODEL.activations(image[None], "units.pre")["units.pre"]).ravel()
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine(said(rendering.images[0]), said(photograph)) > 0.9
    assert np.linalg.norm(said(rendering.images[0])) > 1.2 * np.linalg.norm(said(photograph))  # and says it louder


def test_targets_that_do_not_fit_are_refused():
    for objective, message in (
        (tensor_direction("units", TARGET[..., :3]), r"a target in units is 12 x 12 x 4 .* found shape \(5, 6, 3\)"),
        (difference("units", TARGET[0]), r"found shape \(6, 4\)"),
        (style_difference("units", TARGET[0, 0]), r"positions of 4 channels; found shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            objective.check(MODEL)
    with pytest.raises(ValueError, match="needs an array of finite numbers"):
        difference("units", TARGET * np.nan)
