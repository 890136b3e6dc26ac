import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.linalg import sqrtm

from diffprog.models import Model
from diffprog.visualize import channel, logit, score, top_activating_crops
from diffprog.visualize._rendering.render import Rendering
from diffprog.visualize.evaluation import (
    HEADER,
    Likeness,
    Scores,
    Transfer,
    along_path,
    color_distance,
    features,
    first_step_at,
    high_frequency_share,
    mean_similarity,
    medians,
    path_similarity,
    robust_ratio,
    seed_stability,
    spectral_slope,
    transfer,
)
from diffprog.visualize.evaluation import _metrics as metrics
from diffprog.visualize.transforms import chain, jitter, pad, still
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
TRANSFORM = chain(pad(2), jitter(4))


def noise(slope, height, width, seed=0):
    """A gray picture whose amplitude falls as frequency ** slope, on a scale of 0 to 1."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1e-9) ** slope, 0)
    phase = np.exp(2j * np.pi * random.uniform(size=frequency.shape))
    image = np.fft.irfft2(amplitude * phase, s=(height, width))
    image = (image - image.min()) / np.ptp(image)
    return np.repeat(image[..., None], 3, -1)


@pytest.mark.parametrize("slope, height, width", [(-1, 128, 128), (-1.5, 160, 128), (-0.5, 96, 200), (0, 64, 64)])
def test_the_slope_of_a_made_spectrum_is_found(slope, height, width):
    found = [spectral_slope(noise(slope, height, width, seed)) for seed in range(16)]
    assert np.mean(found) == pytest.approx(slope, abs=0.04) and np.std(found) < 0.12
    dimmed = 0.3 * noise(slope, height, width) + 0.2
    assert spectral_slope(dimmed) == pytest.approx(found[0])  # contrast and brightness do not matter
    assert spectral_slope(dimmed[..., 0]) == pytest.approx(found[0])


def test_high_frequencies_are_shared_out():
    assert high_frequency_share(noise(0.0, 128, 128)) == pytest.approx(1 - math.pi / 16, abs=0.02)
    wave = lambda cycles: 0.5 + 0.4 * np.sin(2 * np.pi * cycles * np.arange(64))[None, :, None] * np.ones((64, 1, 3))
    assert high_frequency_share(wave(0.1)) < 1e-4 and high_frequency_share(wave(0.4)) > 0.9999
    mixed = 0.75 * wave(0.1) + 0.25 * wave(0.4)  # amplitudes 3 : 1, energies 9 : 1
    assert high_frequency_share(mixed) == pytest.approx(0.1, abs=1e-3)
    assert high_frequency_share(wave(0.4), above=0.45) < 1e-4


def test_a_flat_picture_has_no_spectrum():
    assert math.isnan(spectral_slope(np.full((64, 64, 3), 0.3)))
    assert math.isnan(high_frequency_share(np.ones((9, 9, 3))))
    assert math.isnan(spectral_slope(noise(-1, 31, 60))) and spectral_slope(noise(-1, 32, 60)) < 0


def test_colors_are_compared_by_mean_and_covariance():
    random = np.random.default_rng(0)
    first = random.uniform(size=(8, 9, 3)) @ random.uniform(size=(3, 3)) / 3
    second = random.uniform(size=(2, 7, 5, 3))
    (m1, c1), (m2, c2) = ((x.reshape(-1, 3).mean(0), np.cov(x.reshape(-1, 3).T, ddof=0)) for x in (first, second))
    expected = math.sqrt(np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2))))
    assert color_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert color_distance(second, first) == pytest.approx(expected, rel=1e-6)
    assert color_distance(first, first[::-1]) == pytest.approx(0, abs=1e-6)  # the same colors elsewhere
    assert color_distance(first, first + np.array([0.3, 0, -0.4])) == pytest.approx(0.5)
    gray = np.full((4, 4, 3), 0.5)
    assert color_distance(gray, np.stack([gray, gray + 0.1])) == pytest.approx(math.sqrt(3 * 0.05**2 + 3 * 0.05**2))


def test_fresh_transforms_are_none_that_a_rendering_draws():
    picture = np.random.default_rng(1).uniform(size=(12, 12, 3)).astype(np.float32)
    objective = channel("units.pre", 1)
    keys = jax.random.split(jax.random.fold_in(KEY, metrics.FRESH), 64)
    transform = jax.jit(lambda key, image: TRANSFORM(key, image))
    moved = np.stack([transform(key, picture) for key in keys])
    kernel, bias = (np.asarray(MODEL.parameters[name]) for name in ("kernel", "bias"))
    by_hand = lambda images: ((images - 0.5) @ kernel + bias)[..., 1].mean((1, 2))
    expected = by_hand(moved).mean() / by_hand(picture[None])[0]
    assert robust_ratio(MODEL, objective, picture, TRANSFORM, KEY) == pytest.approx(expected, rel=1e-4)
    assert robust_ratio(MODEL, objective, picture, still, KEY) == pytest.approx(1, rel=1e-5)
    assert math.isnan(robust_ratio(MODEL, -1 * channel("units", 1), picture, still, KEY))
    bits = lambda keys: set(map(tuple, np.asarray(jax.random.key_data(keys)).reshape(-1, 2)))
    folds = lambda key: bits(jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(5000)))
    beginning, loop = jax.random.split(KEY)
    fresh = bits(jax.random.fold_in(KEY, metrics.FRESH)) | bits(keys)
    assert not fresh & (folds(KEY) | folds(beginning) | folds(loop)) and bits(loop) < folds(KEY)


def test_transfer_ranks_the_class_in_every_network_at_its_own_size():
    seen = []

    def network(parameters, images):
        seen.append(images.shape[1])
        yield "logits", images.mean((1, 2)) * parameters[None]

    make = lambda name, weights, size: Model(name, network, np.float32(weights), ("red", "green", "blue"), size, 4)
    image = np.zeros((10, 10, 3), np.float32) + np.array([1.0, 0.6, 0.2], np.float32)
    found = transfer([make("plain", [1, 1, 1], 8), make("biased", [0, 1, 9], 20)], "green", image)
    shares = np.exp([1.0, 0.6, 0.2]) / np.exp([1.0, 0.6, 0.2]).sum()
    assert [(each.network, each.rank, each.top1, each.top5) for each in found] == [
        ("plain", 2, False, True),
        ("biased", 2, False, True),
    ]
    assert found[0].probability == pytest.approx(shares[1], rel=1e-5) and {8, 20} <= set(seen)
    assert transfer([make("plain", [1, 1, 1], 8)], "red", image)[0].top1
    with pytest.raises(ValueError, match="has no class 'gren'; did you mean 'green'"):
        transfer([make("plain", [1, 1, 1], 8)], "gren", image)


def test_features_are_means_over_positions():
    images = np.random.default_rng(0).uniform(size=(20, 9, 12, 3)).astype(np.float32)
    found = features(MODEL, images, ["units", "logits", "units.pre"])
    assert list(found) == ["units", "logits", "units.pre"]
    values = MODEL.activations(images, ["units", "logits"])
    np.testing.assert_allclose(found["units"], np.asarray(values["units"]).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["logits"], values["logits"], rtol=1e-5)


def test_likeness_is_one_among_top_images_and_zero_among_others():
    random = np.random.default_rng(0)
    center, elsewhere = np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])
    around = lambda middle, count: middle + 0.1 * random.normal(size=(count, 4))
    top, other = around(center, 40), around(elsewhere, 40)
    normalized = lambda picture: path_similarity(picture, top, other).normalized
    # to the top images a perfect center is more alike than they are to each other
    assert np.mean([normalized(picture) for picture in around(center, 40)]) == pytest.approx(1, abs=0.03)
    assert np.mean([normalized(picture) for picture in around(elsewhere, 40)]) == pytest.approx(0, abs=0.03)
    assert normalized(-center) < -0.9
    assert math.isnan(path_similarity(center, top, top).normalized)  # no scale
    assert math.isnan(path_similarity(center, top[:1], other).normalized)
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    found = path_similarity(other[0], top[:3], other[1:3])
    assert found.picture == pytest.approx(np.mean([cosine(other[0], row) for row in top[:3]]))
    assert found.top == pytest.approx(np.mean([cosine(top[0], top[1]), cosine(top[0], top[2]), cosine(top[1], top[2])]))
    assert found.other == pytest.approx(np.mean([cosine(a, b) for a in top[:3] for b in other[1:3]]))
    assert along_path([Likeness(0.5, 0.9, 0.1), Likeness(0.3, 0.5, 0.1)]).normalized == pytest.approx(0.3 / 0.6)


def test_stability_over_seeds():
    pictures = np.array([[2.0, 1], [2, 1], [1, 2]])
    assert mean_similarity(pictures) == pytest.approx((1 + 0.8 + 0.8) / 3)
    assert seed_stability(pictures + 5, np.array([[4.0, 6], [6, 4]])) == pytest.approx((1 + 0.8 + 0.8) / 3)
    assert math.isnan(seed_stability(pictures[:1], pictures))


def test_steps_until_a_level():
    assert (
        first_step_at([0.0, 1, 3, 2, 5], 2.5) == 2
        and first_step_at([4.0], 2.5) == 0
        and math.isnan(first_step_at([0.0, 1], 2.5))
    )


@pytest.fixture(scope="module")
def scored():
    random = np.random.default_rng(5)
    photographs = [np.kron(random.uniform(size=(3, 4, 3)), np.ones((10, 10, 1))).astype(np.float32) for _ in range(4)]
    objectives = [channel("units", 1), logit("two") + 3]
    natural = top_activating_crops(MODEL, objectives, photographs, num_crops=4, size=40)
    made = np.stack([noise(-1, 40, 40, seed) * np.array([1, 0.8, 0.5]) for seed in range(3)]).astype(np.float32)
    climb = np.linspace(0, 2 * natural.maximum, 8)
    rendering = Rendering(made, climb, (), {}, None, None)
    how = dict(
        key=KEY,
        transform=TRANSFORM,
        image_index=1,
        seconds_per_step=0.5,
        siblings=rendering.images[2:],
        networks=[MODEL],
        label="two",
    )
    return score(MODEL, objectives[1], rendering, natural, **how), rendering, natural, objectives, how


def test_a_picture_is_scored_against_its_natural_examples(scored):
    found, rendering, natural, objectives, how = scored
    image = rendering.images[1]
    logits = np.asarray(MODEL(image[None]))[0]
    assert found.activation == pytest.approx(logits[2] + 3, rel=1e-5)
    assert found.natural_ratio == pytest.approx((logits[2] + 3) / natural.scores[1].max(), rel=1e-5)
    assert found.quantile == np.mean(natural.scores[1] <= (logits[2] + 3))
    assert found.robust_ratio == robust_ratio(MODEL, objectives[1], image, TRANSFORM, KEY)
    crops = np.concatenate([natural.pictures[1], natural.others[1]])
    assert found.color_distance == color_distance(image, crops)
    assert found.slope == spectral_slope(image)
    assert found.natural_slope == pytest.approx(np.mean([spectral_slope(crop) for crop in crops]))
    assert (found.steps, found.seconds) == (4, 2)
    own = features(MODEL, rendering.images[1:], ["units"])["units"]
    of_crops = features(MODEL, crops, ["units"])["units"]
    assert found.seed_stability == pytest.approx(seed_stability(own, of_crops), rel=1e-4)
    assert list(found.path) == ["units.pre", "units"]
    likeness = path_similarity(own[0], of_crops[: len(natural.top_indices[1])], of_crops[len(natural.top_indices[1]) :])
    assert found.path["units"] == pytest.approx(likeness.normalized, rel=1e-3, nan_ok=True)
    assert [each.network for each in found.transfer] == ["small"]
    again = score(MODEL, objectives[1], rendering, natural, **how, layers=["units"])
    assert list(again.path) == ["units"] and again.activation == found.activation


def test_a_record_is_a_row_and_plain_data(scored):
    found = scored[0]
    row = str(found)
    assert HEADER.index("quantile") + len("quantile") == row.index(f"{found.quantile:.3f}") + 5  # columns are flush
    assert f"{found.natural_ratio:.2f}" in row
    assert row.endswith(f"  {found.transfer[0].rank}:{found.transfer[0].probability:.2f}")
    unknown = Scores(**{**vars(found), "seconds": math.nan, "path": {"units": math.nan}})
    data = json.loads(json.dumps(unknown.as_dict(), allow_nan=False))
    assert data["seconds"] is None and data["path"] == {"units": None} and data["steps"] == found.steps
    assert data["transfer"] == [found.transfer[0]._asdict()]
    assert found.numbers()["rank in small"] == found.transfer[0].rank
    assert "  -" in str(unknown)


def test_medians_are_over_the_pictures_that_have_the_number(scored):
    rows = [
        replace(scored[0], slope=slope, seconds=seconds, transfer=transfer)
        for slope, seconds, transfer in [
            (-1.0, math.nan, (Transfer("a", 4, 0.2),)),
            (-3.0, math.nan, ()),
            (-1.5, math.nan, (Transfer("a", 1, 0.8),)),
        ]
    ]
    found = medians(rows)
    assert found.slope == -1.5 and math.isnan(found.seconds) and found.activation == scored[0].activation
    assert found.transfer == (Transfer("a", 2.5, 0.5),) and str(found).endswith("2.5:0.50")


def test_measures_of_other_objectives_or_sizes_are_refused(scored):
    _, rendering, natural, objectives, how = scored
    with pytest.raises(ValueError, match=r"of 'units:2' are needed; found none among those of units:1, two \+ 3"):
        score(MODEL, channel("units", 2), rendering, natural, **how)
    twice = natural._replace(objectives=("units:1", "units:1"))
    with pytest.raises(ValueError, match="found several among"):
        score(MODEL, objectives[0], rendering, twice, **how)
    assert score(MODEL, objectives[0], rendering, twice, **how, objective_index=0).quantile >= 0
    larger = replace(rendering, images=np.zeros((3, 24, 24, 3), np.float32))
    with pytest.raises(ValueError, match=r"shape \(40, 40, 3\) are no measure for a picture of shape \(24, 24, 3\)"):
        score(MODEL, objectives[1], larger, natural, **how)
