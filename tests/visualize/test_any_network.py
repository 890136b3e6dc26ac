"""Networks of one size, of other shapes and numbers of channels, through everything that draws, measures and shows."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import images, models
from diffprog.visualize import (
    accentuate,
    activation_atlas,
    activation_grid,
    channel,
    dream,
    dream_video,
    fourier,
    layer,
    logit,
    neuron,
    objectives,
    pixels,
    recipe,
    render,
    render_all,
    score,
    top_activating_crops,
    transforms,
)
from diffprog.visualize._picture_files import read_picture
from diffprog.visualize.gallery import annotate, gallery_from, read_cards

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
SHAPES = [(9, 14, 1), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((9, 14, 3), (12, 12, 4)))]


def flattening(shape):
    """A network that takes one size only."""
    height, width, channels = shape
    weights = {
        "pixel": RANDOM.normal(size=(channels, 5)).astype(np.float32),
        "head": RANDOM.normal(size=(height * width * 5, 4)).astype(np.float32) / 30,
    }

    def network(weights, images):
        x = dp.tap(jnp.tanh(images @ weights["pixel"]), "pixel")
        return dp.tap(x.reshape(len(x), -1) @ weights["head"], "head")

    return models.wrap(network, weights, size=(height, width), channels=channels)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def model(request):
    return flattening(request.param)


def photograph(model, factor=1):
    height, width, channels = model.shape
    return RANDOM.uniform(size=(factor * height, factor * width, channels)).astype(np.float32)


def test_with_nothing_said(model):
    drawn = render(model, [logit(3), channel("pixel", 1)], key=KEY, steps=2)
    assert drawn.images.shape == (2, *model.shape) and np.isfinite(drawn.scores).all()
    assert drawn.images.min() >= 0 and drawn.images.max() <= 1


@pytest.mark.parametrize("name", ["default", "lucid", "maco"])
def test_recipes(model, name):
    options = recipe(model, logit(1), name).options | {"steps": 1, "num_transforms": 1}
    drawn = render(model, logit(1), key=KEY, **options)
    assert drawn.images.shape[-1] == model.channels and np.isfinite(drawn.scores).all()


def test_photographs_of_any_size(model):
    own, larger = photograph(model), photograph(model, 2)
    for picture in (own, larger):
        dreamt = dream(model, layer("pixel"), picture, key=KEY, octaves=2, steps=1)
        assert dreamt.image.shape == picture.shape and [*map(np.ndim, dreamt.octaves)] == [3, 3]
        assert activation_grid(model, picture, "pixel", key=KEY, cells=(1, 1), side=8, steps=1).icons.shape == (
            *(1, 1, 8, 8),
            model.channels,
        )
        accented = accentuate(model, logit(2), picture, key=KEY, steps=1, layer="pixel", transform=None)
        assert accented.images.shape == (1, *picture.shape)
    # Of its own size, a picture is seen as it is.
    values = np.asarray(model.activations(own[None], "pixel")["pixel"][0])
    made = objectives.caricature(model, own, "pixel")
    again = objectives.tensor_direction("pixel", values, 1)
    assert next(iter(made.weights)).key == next(iter(again.weights)).key
    objectives.guide(model, "pixel", larger).check(model)
    atlas = activation_atlas(
        model, [own, larger], "pixel", key=KEY, grid=(1, 1), side=8, steps=1, layout=lambda rows: rows[:, :2]
    )
    assert atlas.icons.shape[-1] == model.channels
    assert len(objectives.facets(model, logit(1), [own, larger], "pixel", 2, key=KEY)) == 2


def test_examples_scores_gallery(model, tmp_path):
    photographs = [photograph(model, 2) for _ in range(5)]
    units = {"pixel:2": channel("pixel", 2), "class 1": logit(1)}
    render_all(model, units, tmp_path, steps=2, batch_size=2, size=model.shape[:2])
    examples = top_activating_crops(model, list(units.values()), photographs, num_crops=2)
    assert examples.pictures[0].shape[1:] == model.shape
    # All crops in NumPy: the first unit's scores are those of its own definition.
    cut = lambda crop: photographs[crop.image][crop.top :, crop.left :][: crop.height, : crop.width]
    crops = np.stack([images.resize(cut(crop), *model.shape[:2]) for crop in examples.crops])
    expected = np.tanh(crops @ model.parameters["pixel"])[..., 2].mean((1, 2))
    np.testing.assert_allclose(examples.scores[0], expected, rtol=1e-3, atol=1e-4)
    picture = fourier(*model.shape[:2], channels=model.channels)
    drawn = render(model, logit(1), key=KEY, parameterization=picture, steps=2)
    found = score(model, logit(1), drawn, examples, key=KEY, transform=transforms.jitter(2))
    assert np.isfinite(found.activation) and np.isfinite(found.color_distance)
    annotate(model, units, tmp_path, photographs, num_crops=1)
    cards = read_cards(tmp_path)
    assert [card.unit for card in cards] == ["class 1", "pixel:2"]
    channels = 3 if model.channels in (1, 3) else model.channels  # an image file shows three, values lie beside it
    assert all(card.picture.shape == (*model.shape[:2], channels) for card in cards)
    assert all(np.isfinite(card.scores["activation"]) for card in cards)
    if model.channels == 1:
        assert all(np.ptp(card.picture, axis=2).max() == 0 for card in cards)
    assert Path(gallery_from(tmp_path)).is_file()


def test_a_gray_film(tmp_path):
    gray = flattening((8, 8, 1))
    film = dream_video(
        gray, layer("pixel"), photograph(gray), tmp_path / "film.gif", key=KEY, num_frames=2, octaves=1, steps=1
    )
    assert film.is_file() and len(list((tmp_path / "film").glob("*.png"))) == 2


def test_a_film_of_four_channels_goes_on_with_all_of_them(tmp_path):
    four = flattening((8, 8, 4))
    start = photograph(four)
    dreamt = lambda folder, frames: dream_video(
        four, layer("pixel"), start, tmp_path / folder / "film.gif", key=KEY, num_frames=frames, octaves=1, steps=1
    )
    dreamt("parts", 1)
    whole, parts = dreamt("whole", 2), dreamt("parts", 2)
    assert whole.read_bytes() == parts.read_bytes()
    last = read_picture(tmp_path / "parts" / "film" / "00001.png")
    assert last.shape == (8, 8, 4) and np.ptp(last[..., 3]) > 0
    np.testing.assert_array_equal(last, read_picture(tmp_path / "whole" / "film" / "00001.png"))
    values = tmp_path / "parts" / "film" / "00001.npz"
    values.write_bytes(values.read_bytes()[:40])
    with pytest.warns(UserWarning, match="00001.png is damaged"):
        assert dreamt("parts", 2).read_bytes() == whole.read_bytes()


def test_files_of_color_for_a_gray_network(tmp_path):
    gray = models.wrap(lambda x: dp.tap(x.mean((1, 2)), "brightness"), size=6, channels=1)
    colors = RANDOM.uniform(size=(3, 6, 6, 3)).astype(np.float32)
    paths = [images.save_png(tmp_path / f"{index}.png", color) for index, color in enumerate(colors)]
    unit = channel("brightness", 0)
    for photographs in (tmp_path, paths, list(colors), [color @ [0.299, 0.587, 0.114] for color in colors]):
        found = top_activating_crops(gray, unit, photographs, num_crops=1, scales=(1.0,))
        expected = (colors @ [0.299, 0.587, 0.114]).mean((1, 2))
        np.testing.assert_allclose(found.scores[0], expected, atol=1 / 255)
    two = models.wrap(lambda x: dp.tap(x.mean((1, 2)), "brightness"), size=6, channels=2)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"none of the 3 .* shape \(height, width, 2\)"):
        top_activating_crops(two, unit, tmp_path)


def test_settings_as_people_give_them():
    model = flattening((8, 8, 3))
    draw = lambda **options: (
        render(model, channel("pixel", 1), **{"key": KEY, "parameterization": pixels(8), "steps": 2, **options}).images
    )
    still, jittered = draw(transform=transforms.still), draw(transform=transforms.jitter(2))
    for same in (None, [], ()):
        np.testing.assert_array_equal(draw(transform=same), still)
    np.testing.assert_array_equal(draw(transform=[transforms.jitter(2)]), jittered)
    whole = {"steps": np.int64(2), "num_transforms": np.int32(1), "num_images": np.int64(1), "snapshots": np.arange(3)}
    np.testing.assert_array_equal(draw(transform=None, **whole), still)
    for key in (0, np.int64(0), jax.random.PRNGKey(0), jax.random.key(0, impl="threefry2x32")):
        np.testing.assert_array_equal(draw(transform=None, key=key), draw(transform=None, key=0))


def test_pictures_do_not_depend_on_the_batch_with_any_kind_of_key():
    model = flattening((8, 8, 3))
    for kind in ("rbg", "unsafe_rbg", "threefry2x32"):
        key = jax.random.key(7, impl=kind)
        draw = lambda units: render(model, units, key=key, transform=transforms.noise(0.1), steps=2).images
        np.testing.assert_allclose(draw([logit(1)])[0], draw([logit(1), logit(2)])[0], atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"transform": "jitter"}, "transform must be a transform, a list of them or None"),
        ({"transform": [3]}, "transform must be"),
        ({"parameterization": fourier}, "parameterization must be one, such as fourier"),
        ({"steps": 2.5}, "steps must be a whole number of at least 1; found 2.5"),
        ({"steps": True}, "steps must be a whole number"),
        ({"num_transforms": 0}, "num_transforms must be"),
        ({"key": "seed"}, "key must be one random key"),
        ({"key": jax.random.split(KEY)}, "key must be one random key"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        render(flattening((8, 8, 3)), logit(1), **{"key": KEY, "steps": 1, **options})


def test_a_neuron_of_a_layer_with_frames():
    def film(w, x):
        frames = jnp.moveaxis(x.reshape(*x.shape[:3], 3, 3), 3, 1)
        return dp.tap(jnp.tanh(frames @ w), "frames").mean((1, 2, 3))

    model = models.wrap(film, RANDOM.normal(size=(3, 5)).astype(np.float32), size=4, channels=9)
    values = model.activations(RANDOM.uniform(size=(2, 4, 4, 9)).astype(np.float32), "frames")
    np.testing.assert_array_equal(neuron("frames", 2).score(model, values), values["frames"][:, 1, 2, 2, 2])
    np.testing.assert_array_equal(neuron("frames", "2", 0, -1).score(model, values), values["frames"][:, 1, 0, 3, 2])
    with pytest.raises(ValueError, match=r"a position in frames is a whole number; found 1\.5"):
        neuron("frames", 2, 1.5, 1)
