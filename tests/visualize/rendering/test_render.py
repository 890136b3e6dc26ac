import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import models
from diffprog.optimize import ENGINES, value_and_grad
from diffprog.visualize import channel, fourier, layer, logit, objective, pixels, recipe, render
from diffprog.visualize._rendering import ascent
from diffprog.visualize._rendering.dead_units import redirect_rectifiers
from diffprog.visualize._rendering.program import program
from diffprog.visualize.objectives import difference, direction
from diffprog.visualize.penalties import total_variation
from diffprog.visualize.transforms import chain, jitter, lucid, pad, rotate, scale, still
from tests.visualize import small
from tests.visualize.rendering import many_devices

MODEL = small.model()
KEY = jax.random.key(0)
TRANSFORM = chain(pad(1), jitter(2), rotate(5))


def draw(objective, key=KEY, **options):
    return render(
        MODEL, objective, key=key, **{"parameterization": fourier(12), "transform": TRANSFORM, "steps": 20, **options}
    )


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
        transformed = jnp.stack([TRANSFORM(jax.random.fold_in(own, d), picture) for d in range(draws)])
        scores.append(MODEL.collect(MODEL.parameters, transformed, ("units",))["units"][..., 1].mean())
    drawn = draw([channel("units", 1)] * 2, num_transforms=draws, steps=1)
    np.testing.assert_allclose(drawn.scores[0], scores, rtol=1e-4)


def test_ascent_reaches_the_known_optimum():
    """Unit 1 is linear in a pixel's color until it saturates, so the best picture saturates each color by sign."""
    drawn = draw(channel("units.pre", 1), steps=200, transform=still, parameterization=pixels(12), learning_rate=0.5)
    weights = MODEL.parameters["kernel"][:, 1]
    np.testing.assert_allclose(drawn.images[0], np.broadcast_to(weights > 0, (12, 12, 3)), atol=0.02)
    best = np.abs(weights).sum() / 2 + small.BIAS[1]
    assert 0.98 * best < drawn.scores[-1, 0] <= best
    assert drawn.scores[0, 0] < 0.2 * best


def test_negation_descends():
    up, down = draw(channel("units.pre", 1)), draw(-channel("units.pre", 1))
    assert up.scores[-1, 0] > up.scores[0, 0]
    assert down.scores[-1, 0] > down.scores[0, 0] > -up.scores[-1, 0]


def test_all_channels_of_a_layer_share_one_program(monkeypatch):
    used = []
    monkeypatch.setattr(ascent, "program", lambda *how, **redirect: used.append(program(*how, **redirect)) or used[-1])
    for first in (0, 2):
        draw([channel("units.pre", first), 2 * channel("units.pre", first + 1)], image_ids=[first, first + 1])
    assert len(set(map(id, used))) == 1
    assert len(used[0]._programs) == 1


def test_numbers_take_the_place_of_places():
    both = draw([channel("units", 1), layer("units")])
    second = draw(layer("units"), image_ids=[1])
    np.testing.assert_allclose(both.images[1], second.images[0], atol=1e-5)


def test_snapshots_are_what_fewer_steps_give():
    with pytest.warns(UserWarning, match="no snapshot is taken after 99 steps: there are 24"):
        drawn = draw(channel("units", 1), steps=24, snapshots=(0, 5, 20, 24, 99))
    assert sorted(drawn.snapshots) == [0, 5, 20, 24]
    np.testing.assert_array_equal(drawn.snapshots[24], drawn.images)
    for at in (5, 20):
        np.testing.assert_array_equal(drawn.snapshots[at], draw(channel("units", 1), steps=at).images)
    key = jax.random.fold_in(jax.random.split(KEY)[0], 0)
    np.testing.assert_allclose(drawn.snapshots[0], fourier(12).decode(fourier(12).start(key[None])), atol=1e-6)


@pytest.mark.not_under("x64", reason="Adam's scalars are float64 there, and steps without gradient round otherwise")
def test_pictures_stop_at_their_levels():
    targets = [channel("units", 1), channel("units", 0)]
    free = draw(targets, steps=64, transform=still)
    levels = [free.scores[9, 0] - 1e-4, free.scores.max() + 100]
    stopped = draw(targets, steps=64, transform=still, stop_at=levels)
    np.testing.assert_array_equal(stopped.reached, [9, -1])
    np.testing.assert_allclose(stopped.images[0], draw(targets, steps=9, transform=still).images[0], atol=1e-5)
    np.testing.assert_allclose(stopped.images[1], free.images[1], atol=1e-4)
    early = draw(targets, steps=64, transform=still, stop_at=-1e9)
    np.testing.assert_array_equal(early.reached, [0, 0])
    assert len(early.scores) < 64


def test_the_history_of_the_parts_adds_up():
    vectors = np.eye(4)
    drawn = draw(
        [
            2 * channel("units", 1) - 3 * total_variation() + 1,
            layer("units"),
            direction("units", vectors[0]) + direction("units", vectors[1]),
        ]
    )
    first = drawn.term_histories[0]
    total = 2 * first["units:1"] - 3 * first["total variation"] + 1
    np.testing.assert_allclose(drawn.scores[:, 0], total, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(drawn.scores[:, 1], drawn.term_histories[1]["units"], rtol=1e-6)
    assert list(drawn.term_histories[2]) == ["direction in units", "direction in units #2"]
    np.testing.assert_allclose(drawn.scores[:, 2], sum(drawn.term_histories[2].values()), rtol=1e-5, atol=1e-6)


def test_pictures_start_from_a_photograph():
    photograph = np.random.default_rng(5).uniform(0.1, 0.9, size=(12, 12, 3)).astype(np.float32)
    drawn = draw(channel("units", 1), start=photograph, snapshots=[0])
    np.testing.assert_allclose(drawn.snapshots[0][0], photograph, atol=1e-4)
    close = draw(channel("units", 1) - 400 * difference("image", photograph), start=photograph)
    apart = lambda images: np.abs(images[0] - photograph).mean()
    assert apart(close.images) < 0.5 * apart(drawn.images)


def test_eight_devices_draw_the_same_pictures(tmp_path):
    """In a process of its own: the number of virtual devices is fixed when JAX starts."""
    path = tmp_path / "pictures.npy"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    subprocess.run(
        [sys.executable, "-m", "tests.visualize.rendering.many_devices", str(path)], env=environment, check=True
    )
    np.testing.assert_allclose(np.load(path), many_devices.pictures(), atol=1e-5)


def test_engines_agree():
    ours, theirs = (draw(layer("units"), engine=engine) for engine in ENGINES)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4)
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-3)


def test_bad_arguments_are_refused_before_work():
    with pytest.raises(ValueError, match="units has channels 0 to 3; found 7"):
        draw(channel("units", 7))
    with pytest.raises(ValueError, match="8 pixels or more; found 4 after transforms"):
        draw(channel("units", 0), transform=jitter(8))
    for rate in (-0.1, "fast", np.nan):
        with pytest.raises(ValueError, match="learning_rate must be a positive number; found "):
            draw(channel("units", 1), learning_rate=rate)
    with pytest.raises(ValueError, match="engine 'torch' is not known"):
        draw(channel("units", 0), engine="torch")
    for options, message in (
        ({"steps": 0}, "steps must be a whole number of at least 1; found 0"),
        ({"num_transforms": 1.5}, "num_transforms must be a whole number of at least 1; found 1.5"),
        ({"stop_at": [1, 2]}, "stop_at must be a number, or one for each of 1 pictures"),
        ({"image_ids": [-1]}, "image_ids must be 1 whole numbers, not negative"),
        ({"start": np.zeros((3, 3, 3))}, r"start must have shape \(12, 12, 3\) or \(1, 12, 12, 3\); found"),
        ({"start": np.full((12, 12, 3), 2.0)}, r"start must be in \[0, 1\]; found 2 .. 2"),
        ({"parameterization": fourier(12, channels=1)}, "small takes images of 3 channels; found 1"),
        ({"num_images": 0}, "num_images must be a whole number of at least 1; found 0"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(channel("units", 0), **options)
    with pytest.raises(ValueError, match=r"takes an objective .* or a list of objectives; found \[\]"):
        draw([])


def test_what_is_not_finite_is_refused_with_its_step():
    broken = objective(lambda values: jnp.log(0.0 * values["units"].mean((1, 2, 3)) - 1), ["units"], "mine")
    with pytest.raises(ValueError, match="mine is nan at step 0; expected a finite number"):
        draw([channel("units", 0), broken])


@pytest.fixture(scope="module")
def network():
    return models.load("efficientnet_lite0")


def test_a_dead_unit_of_the_real_network_is_revived(network):
    target = channel("head", 5)  # zero on the gray start: without help its picture stays gray
    drawn = render(network, target, key=KEY, parameterization=fourier(64), transform=still, steps=24)
    assert drawn.scores[0, 0] == 0 and drawn.was_dead[0]
    assert drawn.scores[-1, 0] > 3
    assert drawn.images.std() > 0.05


def test_a_texture_unit_of_the_real_network(network):
    """Fifty steps take it far beyond what noise does, and a second run repeats the bits."""
    target, wide = channel("blocks.5", 11), chain(pad(10), jitter(20), scale(0.75, 1.25), rotate(15))
    options = dict(key=KEY, parameterization=fourier(64), transform=wide, steps=50)
    drawn, again = (render(network, target, **options) for _ in range(2))
    np.testing.assert_array_equal(drawn.images, again.images)
    noise = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    measured = lambda images: np.asarray(network.activations(images, "blocks.5")["blocks.5"])[..., 11].mean()
    assert measured(drawn.images) > 20 > 3 * abs(measured(noise))


def test_gradient_of_a_step_agrees_between_engines(network):
    image = fourier(64)
    parameters = image.start(KEY[None])

    def objective(parameters):
        transformed = lucid(KEY, image.decode(parameters)[0])[None]
        values = redirect_rectifiers(network.collect)(network.parameters, transformed, ["blocks.3"])
        return channel("blocks.3", 11).score(network, values)[0]

    steps = [jax.jit(value_and_grad(engine)(objective)) for engine in ENGINES]
    (ours, gradient), (theirs, expected) = (step(parameters) for step in steps)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.linalg.norm(gradient - expected) < 1e-5 * np.linalg.norm(expected)


def test_recipes_suit_the_depth(network):
    shallow, deep = recipe(network, channel("blocks.2", 0)), recipe(network, logit("volcano") - channel("blocks.2", 0))
    assert (shallow.parameterization, shallow.transform, shallow.num_transforms) == (fourier(128), lucid, 1)
    assert (deep.parameterization.height, deep.transform.size(224, 224), deep.num_transforms) == (224, (149, 149), 6)
    assert recipe(network, logit("volcano"), size=96).parameterization.height == 96
