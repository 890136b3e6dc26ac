from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from diffprog.images import read_image
from diffprog.visualize import channel, layer, objective
from diffprog.visualize._deepdream.dream import dream
from diffprog.visualize._deepdream.video import dream_video, steadied, zoomed
from tests.visualize import small

MODEL = small.model()
KEY = jax.random.key(0)
PHOTOGRAPH = np.mgrid[0.2:0.8:12j, 0.3:0.7:16j][[0, 1, 0]].transpose(1, 2, 0).astype(np.float32)
OPTIONS = dict(octaves=1, steps=2, jitter=2)
GOAL = layer("units")


def film(path, **options):
    return dream_video(MODEL, GOAL, PHOTOGRAPH, path, key=KEY, **{"num_frames": 3, **OPTIONS, **options})


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_a_film_has_its_frames(tmp_path, suffix):
    with Image.open(film(tmp_path / f"film.{suffix}")) as found:
        found.seek(2)
        assert (found.n_frames, found.size, found.info["loop"]) == (3, (16, 12), 0)
        shown = np.asarray(found.convert("RGB"), np.float32) / 255
    assert np.abs(shown - read_image(tmp_path / "film" / "00002.png")).mean() < 0.03  # packed with loss
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film", f"film.{suffix}"]


def test_each_frame_is_a_dream_of_the_one_before(tmp_path):
    film(tmp_path / "film.webp", num_frames=2, zoom=1.1)
    first, second = (read_image(tmp_path / "film" / f"0000{number}.png") for number in (0, 1))
    for number, start, found in ((0, PHOTOGRAPH, first), (1, steadied(zoomed(first, 1.1, 0), first), second)):
        expected = dream(MODEL, GOAL, start, key=jax.random.fold_in(KEY, number), **OPTIONS).image
        np.testing.assert_allclose(found, expected, atol=0.51 / 255)


def test_an_interrupted_film_goes_on(tmp_path):
    film(tmp_path / "whole.webp", num_frames=3)
    film(tmp_path / "broken.webp", num_frames=2)
    frame = tmp_path / "broken" / "00000.png"
    written = frame.stat().st_mtime_ns
    film(tmp_path / "broken.webp", num_frames=3)
    assert frame.stat().st_mtime_ns == written  # not redone
    assert (tmp_path / "broken.webp").read_bytes() == (tmp_path / "whole.webp").read_bytes()
    with pytest.raises(ValueError, match=r"frames of a film of other settings \(zoom: 1.04, not 1.2\): give another"):
        film(tmp_path / "broken.webp", zoom=1.2)
    with pytest.raises(ValueError, match=r"holds frames of a film of other settings \(objective: .*: give another"):
        dream_video(MODEL, channel("units", 1), PHOTOGRAPH, tmp_path / "broken.webp", key=KEY, num_frames=3, **OPTIONS)


def test_a_film_knows_its_network_and_objective_and_mends_a_damaged_frame(tmp_path):
    path = film(tmp_path / "film.webp")
    whole = path.read_bytes()
    other = replace(MODEL, parameters=jax.tree.map(lambda leaf: leaf * 1.5, MODEL.parameters))
    again = dict(key=KEY, num_frames=3, **OPTIONS)
    with pytest.raises(ValueError, match=r"of other settings \(network by content: \w+, not \w+\): give another"):
        dream_video(other, GOAL, PHOTOGRAPH, path, **again)
    mine = [objective(lambda v, factor=f: factor * v["units"][..., 0].mean((1, 2)), "units", "mine") for f in (1, 1, 2)]
    dream_video(MODEL, mine[0], PHOTOGRAPH, tmp_path / "mine.webp", **again)
    dream_video(MODEL, mine[1], PHOTOGRAPH, tmp_path / "mine.webp", engine="jax", **again)
    with pytest.raises(ValueError, match=r"of other settings \(objective by content: \w+, not \w+\): give another"):
        dream_video(MODEL, mine[2], PHOTOGRAPH, tmp_path / "mine.webp", **again)
    frame = tmp_path / "film" / "00001.png"
    written = (tmp_path / "film" / "00002.png").stat().st_mtime_ns
    frame.write_bytes(frame.read_bytes()[:-30])
    with pytest.warns(UserWarning, match=r"00001.png is damaged \(.*\): it is now 00001.png.damaged, and is made anew"):
        film(path)
    assert path.read_bytes() == whole and (tmp_path / "film" / "00002.png").stat().st_mtime_ns == written


def test_zooming_keeps_the_center_and_reflects_beyond_the_edge():
    image = np.random.default_rng(1).integers(0, 256, (8, 12, 3)).astype(np.float32) / 255
    np.testing.assert_array_equal(zoomed(image, 1, 0), image)
    np.testing.assert_allclose(zoomed(image, 1, 180), image[::-1, ::-1], atol=1.01 / 255)
    ramp = np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32)[:, None, None], (40, 60, 3))
    steepness = lambda ramp: np.polyfit(range(10), ramp[15:25, 30, 0], 1)[0] * 39
    np.testing.assert_allclose([steepness(zoomed(ramp, 2, 0)), steepness(zoomed(ramp, 0.8, 0))], [0.5, 1.25], atol=0.03)
    turned = np.zeros((9, 9, 3), np.float32)
    turned[4, 8] = 1  # to the right of the center; counterclockwise, that turns to the top
    np.testing.assert_array_equal(np.argwhere(zoomed(turned, 1, 90)[..., 0] > 0.5), [[0, 4]])
    half = zoomed(image, 0.5, 0)
    np.testing.assert_allclose(half[:2], half[2:4][::-1], atol=1e-6)


def test_contrast_comes_back():
    image, first = (np.random.default_rng(2).normal(0.5, spread, (20, 20, 3)).clip(0, 1) for spread in (0.2, 0.05))
    found = steadied(image, first)
    np.testing.assert_allclose(found.mean((0, 1)), first.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found.std((0, 1)), first.std((0, 1)), atol=1e-6)
    np.testing.assert_allclose(np.corrcoef(found[..., 0].ravel(), image[..., 0].ravel())[0, 1], 1)


def test_bad_arguments_are_refused_before_work(tmp_path):
    with pytest.raises(ValueError, match=r"a film is written as .gif or .webp; found film.mp4"):
        film(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"zoom in \[0.5, 2\] .*; found num_frames=3, zoom=3"):
        film(tmp_path / "film.gif", zoom=3)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="8 pixels or more, but the smallest of 9 octaves"):
        film(tmp_path / "film.gif", octaves=9)
    assert film(tmp_path / "film.gif").exists()  # what was refused left no claim on its folder
    (tmp_path / "film" / "film.json").unlink()
    with pytest.raises(ValueError, match=r"found .png files without film.json: give another"):  # somebody's pictures?
        film(tmp_path / "film.gif")
