import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffprog.models import Model
from diffprog.visualize import channel, layer, objective
from diffprog.visualize._deepdream.dream import dream, octave_sizes, resized, smoothed
from diffprog.visualize._deepdream.tiles import tiled, windows
from diffprog.visualize.objectives import guide

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
PHOTOGRAPH = RANDOM.uniform(0.2, 0.8, (20, 28, 3)).astype(np.float32)


def convolutional():
    """Two 3 x 3 convolutions, of which the first has stride 2: a unit sees 3 pixels to each side, at most."""

    def network(parameters, images):
        first = dict(window_strides=(2, 2), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = lax.conv_general_dilated(images - 0.5, parameters["first"], **first)
        yield "first", (x := jnp.tanh(x))
        second = {**first, "window_strides": (1, 1)}
        yield "second", (x := jnp.tanh(lax.conv_general_dilated(x, parameters["second"], **second)))
        yield "logits", x.mean((1, 2))

    parameters = {"first": RANDOM.normal(size=(3, 3, 3, 5)), "second": RANDOM.normal(size=(3, 3, 5, 4))}
    parameters = jax.tree.map(lambda value: value.astype(np.float32), parameters)
    return Model("convolutional", network, parameters, ("a", "b", "c", "d"), size=16, min_size=8)


MODEL = convolutional()
GOAL = layer("second")


def dreamt(objective=GOAL, photograph=PHOTOGRAPH, **options):
    options = {"key": KEY, "octaves": 1, "steps": 3, "jitter": 3, "smooth": 0, **options}
    return dream(MODEL, objective, photograph, **options)


def test_one_step_is_the_normalized_gradient_of_the_rolled_picture():
    """Against JAX's gradient of the objective, rolled there and back by hand."""
    shift = jax.random.randint(jax.random.fold_in(jax.random.fold_in(KEY, 0), 0), (2,), -3, 4, np.int32)

    def score(rolled):
        return jnp.mean(MODEL.collect(MODEL.parameters, rolled[None], ("second",))["second"] ** 2)

    value, gradient = jax.value_and_grad(score)(jnp.roll(PHOTOGRAPH, shift, (0, 1)))
    gradient = np.roll(gradient, -np.asarray(shift), (0, 1))
    for how, strength in (("mean", np.abs(gradient).mean()), ("std", gradient.std())):
        found = dreamt(steps=1, learning_rate=0.02, normalize=how)
        expected = np.clip(PHOTOGRAPH + 0.02 * gradient / strength, 0, 1)
        np.testing.assert_allclose(found.image, expected, atol=1e-5)
        np.testing.assert_allclose(found.scores, [[value]], rtol=1e-5)


def test_only_the_detail_is_carried_to_the_next_octave():
    """The second octave is a dream of the photograph plus the enlarged change; without jitter, whatever its key."""
    found = dreamt(octaves=2, steps=3, scale=2.0, jitter=0)
    detail = found.octaves[0] - resized(PHOTOGRAPH, (10, 14))
    assert np.abs(detail).mean() > 0.01
    start = np.clip(PHOTOGRAPH + resized(detail, (20, 28)), 0, 1)
    np.testing.assert_allclose(found.image, dreamt(photograph=start, jitter=0).image, atol=1e-6)
    assert found.scores.shape == (2, 3) and np.all(found.scores[:, -1] > found.scores[:, 0])


def test_the_key_makes_the_dream():
    first, again, other = dreamt(), dreamt(), dreamt(key=jax.random.key(1))
    np.testing.assert_array_equal(first.image, again.image)
    assert np.abs(first.image - other.image).max() > 1e-3
    jax_engine = dreamt(engine="jax")
    np.testing.assert_allclose(first.image, jax_engine.image, atol=1e-3)


def test_the_gradient_in_tiles_is_the_whole_pictures():
    """Windows of 16, changed where they are 6 or more from an edge: further than two units, next to each other, see."""
    picture = RANDOM.uniform(0, 1, (24, 44, 3)).astype(np.float32)
    score = lambda image: GOAL.score(MODEL, MODEL.collect(MODEL.parameters, image[None], ("second",)))[0]
    unit = lambda gradient: gradient / np.abs(gradient).mean()
    whole = unit(jax.grad(score)(picture))
    inexact, exact = (
        unit(jax.jit(jax.grad(lambda image: tiled(score, image, 16, overlap)))(picture)) for overlap in (1, 6)
    )
    np.testing.assert_allclose(exact, whole, atol=1e-4 * np.abs(whole).max())
    assert np.abs(inexact - whole).max() > 1e-2  # too small an overlap would show


def test_windows_overlap_and_their_cores_tile_the_axis():
    for length in range(8, 60):
        places = windows(length, 16, 3)
        assert np.concatenate([np.arange(first, last) for _, first, last in places]).tolist() == list(range(length))
        for start, first, last in places:
            assert 0 <= start and start + min(16, length) <= length
            assert first == 0 or first - start >= 3
            assert last == length or start + 16 - last >= 3


def test_a_dream_in_tiles_is_that_of_the_whole():
    np.testing.assert_allclose(dreamt(tile=18, overlap=6).image, dreamt().image, atol=1e-4)


def test_a_mask_and_colors_hold_exactly():
    mask = np.zeros((20, 28), np.float32)
    mask[5:15, 5:20] = 1
    masked, free = dreamt(mask=mask, steps=1, learning_rate=0.02), dreamt(steps=1, learning_rate=0.02)
    np.testing.assert_array_equal(masked.image[mask == 0], PHOTOGRAPH[mask == 0])
    np.testing.assert_allclose(masked.image[mask == 1], free.image[mask == 1], atol=1e-6)  # as strong as without
    half = dreamt(mask=mask / 2, steps=1, learning_rate=0.02)
    np.testing.assert_allclose(half.image, (masked.image + PHOTOGRAPH) / 2, atol=1e-6)
    change = dreamt(keep_colors=True, learning_rate=0.005).image - PHOTOGRAPH
    assert np.abs(change).max() > 0.01
    np.testing.assert_allclose(np.ptp(change, axis=-1), 0, atol=1e-6)


def test_a_guide_scores_the_best_match():
    other = RANDOM.uniform(0, 1, (9, 12, 3)).astype(np.float32)
    guided = guide(MODEL, "second", other)
    here, there = (np.asarray(MODEL.activations(x[None], "second")["second"])[0] for x in (PHOTOGRAPH, other))
    best = [max(np.dot(value, match) for match in there.reshape(-1, 4)) for value in here.reshape(-1, 4)]
    found = guided.score(MODEL, {"second": jnp.asarray(here[None])})
    np.testing.assert_allclose(found, [np.mean(best)], rtol=1e-5)
    rising = dreamt(guided, jitter=0).scores[0]
    assert rising[-1] > rising[0]


def test_a_photograph_has_the_channels_of_its_network():
    """One step on a network of one channel, whose score is the mean of all pixels: all of them move by the rate."""

    def network(parameters, images):
        yield "logits", images.mean((1, 2))

    model = Model("gray", network, {}, ("gray",), size=16, min_size=8, channels=1)
    found = dream(
        model, channel("logits", 0), PHOTOGRAPH[..., :1], key=KEY, octaves=2, steps=1, smooth=0, learning_rate=0.01
    )
    np.testing.assert_allclose(found.image, PHOTOGRAPH[..., :1] + 0.02, atol=1e-6)
    with pytest.raises(ValueError, match="gray takes images of 1 channels"):
        dream(model, channel("logits", 0), PHOTOGRAPH[..., :1], key=KEY, octaves=2, keep_colors=True)


def test_programs_are_found_again():
    """For another photograph and another channel; a program is compiled once for each loop and size."""
    dreamt(channel("second", 0))
    kept = dict(MODEL.programs)
    first, second = (dreamt(channel("second", index), PHOTOGRAPH[::-1]) for index in (1, 2))
    assert MODEL.programs == kept
    assert np.abs(first.image - second.image).max() > 0.01  # though each is of its own channel


def test_smoothing_is_three_gaussians():
    spot = np.zeros((41, 41, 2), np.float32)
    spot[20, 20] = 1, 2
    found = np.asarray(smoothed(spot, 2.0))
    squares = (np.arange(41) - 20) ** 2
    expected = np.zeros((41, 41))
    for deviation in (1, 2, 4):
        weights = np.exp(-squares / (2 * deviation**2)) * (squares <= (3 * deviation) ** 2)
        expected += np.outer(weights, weights) / weights.sum() ** 2 / 3
    np.testing.assert_allclose(found, expected[..., None] * [1, 2], atol=1e-6)


def test_octave_sizes_shrink_from_the_photographs_own():
    assert octave_sizes(MODEL, (40, 60), 3, 1.5) == [(18, 27), (27, 40), (40, 60)]


def test_what_is_not_finite_is_refused():
    broken = objective(lambda values: jnp.nan * values["image"].mean((1, 2, 3)), ["image"], "broken")
    with pytest.raises(ValueError, match="broken is nan for a picture of 20 x 28; expected a finite number"):
        dreamt(broken)


def test_bad_arguments_are_refused_before_work():
    with pytest.raises(ValueError, match="8 pixels or more, but the smallest of 4 octaves of 20 x 28 is 7 x 10"):
        dreamt(octaves=4)
    with pytest.raises(ValueError, match="no layer 'secnd'"):
        dreamt(layer("secnd"))
    with pytest.raises(ValueError, match=r"images must be in \[0, 1\]; found"):
        dreamt(photograph=255 * PHOTOGRAPH)
    with pytest.raises(ValueError, match=r"a photograph has shape \(height, width, 3\); found \(1, 20, 28, 3\)"):
        dreamt(photograph=PHOTOGRAPH[None])
    with pytest.raises(ValueError, match=r"the mask must have shape \(20, 28\)"):
        dreamt(mask=np.ones((28, 20)))
    with pytest.raises(ValueError, match="more than twice the overlap; found tile=16, overlap=8"):
        dreamt(tile=16, overlap=8)
    with pytest.raises(ValueError, match="scale above 1"):
        dreamt(scale=1)
    with pytest.raises(ValueError, match="a gradient is normalized by 'mean' or 'std'; found 'max'"):
        dreamt(normalize="max")
