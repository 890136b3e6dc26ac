import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import models
from diffprog.optimize import ENGINES, value_and_grad
from diffprog.visualize import chain, channel, fourier, layer, logit, pixels, recipe, render
from diffprog.visualize.rendering import read
from diffprog.visualize.transforms import jitter, lucid, pad, rotate, still, wide
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
SHAKE = chain(pad(1), jitter(2), rotate(5))


def draw(objective, key=KEY, **options):
    return render(MODEL, objective, key=key, **{"image": fourier(12), "shake": SHAKE, "steps": 20, **options})


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first, again, other = (draw(channel("units", 1), jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.allclose(first.images, other.images, atol=1e-3)


def test_a_picture_does_not_depend_on_its_batch():
    targets = [channel("units", 1), layer("units"), logit("two")]
    alone, together = draw(targets[0]), draw(targets)
    assert together.images.shape == (3, 12, 12, 3)
    np.testing.assert_allclose(together.images[0], alone.images[0], atol=1e-5)
    np.testing.assert_allclose(together.scores[:, 0], alone.scores[:, 0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(*draw([targets[0]] * 2).images, atol=1e-3)  # the same objective, another picture


def test_the_first_scores_are_the_objective_on_the_shaken_start():
    """Worked out from the documented keys: start and loop split the key, both folded with the picture's index."""
    image, draws = fourier(12), 3
    beginning, loop = jax.random.split(KEY)
    scores = []
    for index in range(2):
        picture = image.decode(image.start(jax.random.fold_in(beginning, index)[None]))[0]
        own = jax.random.fold_in(jax.random.fold_in(loop, 0), index)
        shaken = jnp.stack([SHAKE(jax.random.fold_in(own, d), picture) for d in range(draws)])
        scores.append(MODEL.collect(MODEL.parameters, shaken, ("units",))["units"][..., 1].mean())
    rendering = draw([channel("units", 1)] * 2, draws=draws, steps=1)
    np.testing.assert_allclose(rendering.scores[0], scores, rtol=1e-4)


def test_ascent_reaches_the_known_optimum():
    """Unit 1 is linear in a pixel's colour until it saturates, so the best picture saturates each colour by sign."""
    rendering = draw(channel("units.pre", 1), steps=200, shake=still, image=pixels(12), rate=0.5)
    weights = MODEL.parameters["kernel"][:, 1]
    np.testing.assert_allclose(rendering.images[0], np.broadcast_to(weights > 0, (12, 12, 3)), atol=0.02)
    best = np.abs(weights).sum() / 2 + small.BIAS[1]
    assert 0.98 * best < rendering.scores[-1, 0] <= best
    assert rendering.scores[0, 0] < 0.2 * best


def test_negation_descends():
    up, down = draw(channel("units.pre", 1)), draw(-channel("units.pre", 1))
    assert up.scores[-1, 0] > up.scores[0, 0]
    assert down.scores[-1, 0] > down.scores[0, 0] > -up.scores[-1, 0]


def test_a_dead_unit_is_revived():
    dead = draw(channel("units", 2), image=pixels(12), shake=still, steps=60, rate=0.3)
    assert dead.scores[0, 0] == 0  # no gradient of its own
    assert dead.scores[-1, 0] > 0.5


def test_reviving_changes_gradients_and_not_values():
    images = np.random.default_rng(0).uniform(0.4, 0.6, size=(2, 8, 8, 3)).astype(np.float32)
    total = lambda x, revive: read(MODEL, MODEL.parameters, x, ["units"], revive)["units"][..., 2].sum()
    for revive, slope in ((True, MODEL.parameters["kernel"][:, 2]), (False, np.zeros(3))):
        value, gradient = jax.value_and_grad(total)(images, revive)
        assert value == 0
        np.testing.assert_allclose(gradient, np.broadcast_to(slope, images.shape), rtol=1e-6)


def test_engines_agree():
    ours, theirs = (draw(layer("units"), engine=engine) for engine in ENGINES)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4)
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-3)


def test_bad_arguments_are_refused_before_work():
    with pytest.raises(ValueError, match="units has channels 0 to 3; found 7"):
        draw(channel("units", 7))
    with pytest.raises(ValueError, match="8 pixels or more; found 4 after transforms"):
        draw(channel("units", 0), shake=jitter(8))
    with pytest.raises(ValueError, match="engine 'torch' is not known"):
        draw(channel("units", 0), engine="torch")


@pytest.fixture(scope="module")
def network():
    return models.load("efficientnet_lite0")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dead_unit_of_the_real_network_is_revived(network, engine):
    target = channel("head", 5)  # zero on the grey start: without help its picture stays grey
    rendering = render(network, target, key=KEY, image=fourier(64), shake=still, steps=48, engine=engine)
    assert rendering.scores[0, 0] == 0
    assert rendering.scores[-1, 0] > 3
    assert rendering.images.std() > 0.05


def test_a_texture_unit_of_the_real_network(network):
    """Fifty steps take it far beyond what noise does, and a second run repeats the bits."""
    target = channel("blocks.5", 11)
    rendering, again = (render(network, target, key=KEY, image=fourier(64), shake=wide, steps=50) for _ in range(2))
    np.testing.assert_array_equal(rendering.images, again.images)
    noise = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    measured = lambda images: np.asarray(network.activations(images, "blocks.5")["blocks.5"])[..., 11].mean()
    assert measured(rendering.images) > 20 > 3 * abs(measured(noise))


def test_gradient_of_a_step_agrees_between_engines(network):
    image = fourier(64)
    parameters = image.start(KEY[None])

    def objective(parameters):
        shaken = lucid(KEY, image.decode(parameters)[0])[None]
        return channel("blocks.3", 11).score(network, read(network, network.parameters, shaken, ["blocks.3"], True))[0]

    steps = [jax.jit(value_and_grad(engine)(objective)) for engine in ENGINES]
    (ours, gradient), (theirs, expected) = (step(parameters) for step in steps)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.linalg.norm(gradient - expected) < 1e-5 * np.linalg.norm(expected)


def test_recipes_suit_the_depth(network):
    shallow, deep = recipe(network, channel("blocks.2", 0)), recipe(network, logit("volcano") - channel("blocks.2", 0))
    assert (shallow.image.height, shallow.shake) == (128, lucid)
    assert (deep.image.height, deep.shake) == (224, wide)
    assert recipe(network, logit("volcano"), size=96).image.height == 96
