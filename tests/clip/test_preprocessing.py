"""Pictures as CLIP sees them, held against open_clip's own preprocessing (3.3, on Pillow 13) and against Pillow."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import diffprog as dp
from diffprog.clip._preprocessing import MEAN, STD, Preprocessing, _resampling, cropped, prepared
from tests.clip import weights

with np.load(Path(__file__).parents[1] / "data" / "clip_tiny.npz") as archive:
    SQUARES = archive["squares"]
SIZE = weights.SIZES["vit"]
PHOTOGRAPHS = [photograph.astype(np.float32) / 255 for photograph in weights.photographs()]


def test_squares_are_the_originals_but_for_rounding_to_bytes():
    for photograph, wanted in zip(PHOTOGRAPHS, SQUARES, strict=True):
        steps = np.abs(cropped(photograph[None], SIZE)[0] * 255 - wanted)
        assert steps.max() < 1 and steps.mean() < 0.3  # Pillow rounds twice


def test_the_filter_is_pillows():
    """Without clipping and rounding, which Pillow leaves out for floats."""
    for photograph in PHOTOGRAPHS:
        height, width, _ = photograph.shape
        if min(height, width) == SIZE:
            continue
        rows, columns = (int(SIZE * side / min(height, width)) for side in (height, width))
        whole = Image.fromarray(photograph[..., 0]).resize((columns, rows), Image.Resampling.BICUBIC)
        top, left = round((rows - SIZE) / 2), round((columns - SIZE) / 2)
        wanted = np.asarray(whole)[top : top + SIZE, left : left + SIZE]
        found = _resampling(height, width, SIZE) @ photograph[..., 0] @ _resampling(width, height, SIZE).T
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("index", range(len(PHOTOGRAPHS)))
def test_jax_computes_what_numpy_computes(index):
    images = PHOTOGRAPHS[index][None]
    found = jax.jit(cropped, static_argnums=1)(jnp.asarray(images), SIZE)
    np.testing.assert_allclose(found, cropped(images, SIZE), atol=2e-6)


def test_colors_are_normalized():
    found = prepared(jnp.full((1, SIZE, SIZE, 3), 0.5), Preprocessing(SIZE))
    np.testing.assert_allclose(found[0, 0, 0], (0.5 - np.array(MEAN)) / np.array(STD), rtol=1e-6)


def test_gradients_are_those_of_jax_and_reach_black_and_white():
    """A white picture is at the edge of what is clipped: all of its pixels that are seen count."""
    images = jnp.asarray(PHOTOGRAPHS[1][None])
    direction = jnp.asarray(np.random.RandomState(0).standard_normal((1, SIZE, SIZE, 3)), jnp.float32)
    score = lambda images: (prepared(images, Preprocessing(SIZE)) * direction).sum()
    found, wanted = jax.jit(dp.grad(score))(images), jax.jit(jax.grad(score))(images)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    for level in (0.0, 1.0):
        slope = dp.grad(lambda images: cropped(images, SIZE).sum())(jnp.full((1, 80, 40, 3), level))
        assert np.abs(np.asarray(slope)[:, 25:55]).min() > 0.1  # each of 40 x 40 pixels gives to 32 x 32
        assert np.asarray(slope)[:, :15].max() == 0  # what is cut off
