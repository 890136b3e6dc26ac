"""Maps: colors fixed at zero, scales, contours, sheets."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffprog import attribute
from diffprog.attribute import Attribution, pictures
from diffprog.attribute._draw.colors import MISSING, colored, number, scale_of
from diffprog.attribute._draw.maps import contour, maps_of, over, pale

UNIT = scale_of(np.ones(1), limit=1)


def linear(rgb):
    rgb = np.asarray(rgb, np.float64)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """Lightness and two hues, from Ottosson's matrices of the way back."""
    to_cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    to_cones += [[0.0883024619, 0.2817188376, 0.6299787005]]
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    to_lab += [[0.0259040371, 0.7827717662, -0.8086757660]]
    return np.cbrt(linear(rgb) @ np.array(to_cones).T) @ np.array(to_lab).T


def test_zero_is_white_and_a_value_is_as_dark_as_its_negative():
    values = np.linspace(0, 1, 21)
    light = oklab(colored(values, UNIT))[:, 0], oklab(colored(-values, UNIT))[:, 0]
    np.testing.assert_allclose(colored(np.zeros(1), UNIT), 1, atol=1e-6)
    np.testing.assert_allclose(*light, atol=0.012)  # colors beyond the screen's are clipped
    assert (np.diff(light[0]) < -0.01).all() and (np.diff(light[1]) < -0.01).all()
    red, _, blue = np.moveaxis(colored(values[1:], UNIT), -1, 0)
    assert (red > blue).all()
    red, _, blue = np.moveaxis(colored(-values[1:], UNIT), -1, 0)
    assert (red < blue).all()


@pytest.mark.parametrize(
    "seen",  # Machado et al. 2009: what red-blind, green-blind and blue-blind people see, of linear colors
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ],
    ids=["protanopia", "deuteranopia", "tritanopia"],
)
def test_signs_are_told_apart_by_the_color_blind(seen):
    def lab(value):
        rgb = np.clip(linear(colored(np.float64(value), UNIT)) @ np.array(seen).T, 0, 1)
        encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
        return oklab(encoded)

    for size in (0.25, 0.5, 1.0):
        # A just noticeable difference is about 0.02.
        assert np.linalg.norm(lab(size) - lab(-size)) > 0.1


def test_the_scale_has_symmetric_limits_and_says_what_it_clips():
    values = np.random.default_rng(0).normal(size=(1, 50, 40)) + 0.7
    scale = scale_of(values, 90)
    assert scale.limit == pytest.approx(np.percentile(np.abs(values), 90), rel=1e-12)
    assert scale.largest == np.abs(values).max()
    assert scale.note == f"largest {number(scale.largest)}, clipped"
    shown = pictures.heatmap(values, percentile=90)
    np.testing.assert_allclose(shown[0], colored(np.clip(values[0], -scale.limit, scale.limit), scale), atol=1e-6)
    np.testing.assert_allclose(pictures.heatmap(-values, limit=1.0)[0], colored(-values[0], UNIT))
    assert scale_of(np.zeros((2, 2))).note == "no credit at all"
    np.testing.assert_allclose(pictures.heatmap(np.zeros((1, 2, 2))), 1, atol=1e-6)
    few = np.zeros((1, 100, 100))
    few[0, 3, 4] = 2.0  # the percentile is 0
    assert scale_of(few).limit == 2.0
    hole = np.array([[[np.nan, 1.0], [-1.0, np.inf]]])
    np.testing.assert_allclose(pictures.heatmap(hole)[0, 0, 0], MISSING, rtol=1e-6)


def test_channels_are_added_up_or_the_largest_size_is_taken():
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 3))
    np.testing.assert_allclose(maps_of(jnp.asarray(values, jnp.float32)), values.sum(axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(maps_of(values, "magnitude"), np.abs(values).max(axis=-1))
    several = Attribution(values[None].repeat(5, axis=0), np.zeros((5, 2)))
    assert maps_of(several).shape == (5, 2, 3, 4) and pictures.heatmap(several).shape == (5, 2, 3, 4, 3)
    np.testing.assert_array_equal(maps_of({"head": values}), values.sum(axis=-1))
    for wrong, sentence in [
        (values[0, 0], "credit of shape"),
        ([values], "found list"),
        ({"a": values, "b": values}, "a map shows one place; found 2"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            maps_of(wrong)
    with pytest.raises(ValueError, match="channels must be 'sum' or 'magnitude'; found 'max'"):
        pictures.heatmap(values, channels="max")


def test_ink_is_transparent():
    image = np.random.default_rng(2).random((6, 8, 3)).astype(np.float32)
    scale = scale_of(np.ones(1), limit=1)
    np.testing.assert_allclose(over(image, np.zeros((6, 8)), scale), pale(image), atol=1e-5)
    assert np.ptp(pale(image), axis=-1).max() == 0 and pale(image).min() > 0.7  # gray and bright
    np.testing.assert_allclose(
        over(image, np.ones((6, 8)), scale), pale(image) * colored(np.float64(1), scale), atol=1e-6
    )


def test_a_contour_holds_the_smallest_region_with_a_share():
    rows, columns = np.mgrid[:100, :100]
    bump = np.exp(-((rows - 40) ** 2 + (columns - 60) ** 2) / (2 * 10**2)) - 0.0
    values = bump - 3 * np.exp(-((rows - 80) ** 2 + (columns - 20) ** 2) / (2 * 3**2))
    # A Gaussian bump of deviation s holds the share p within radius s sqrt(-2 log(1 - p)); the blur adds 4 % of 100.
    for share in (0.3, 0.5):
        region = contour(values, 1, share)
        area = np.pi * (10**2 + 4**2) * -2 * np.log(1 - share)
        assert region.sum() == pytest.approx(area, rel=0.03)
        assert abs(rows[region].mean() - 40) < 0.3 and abs(columns[region].mean() - 60) < 0.3
    against = contour(values, -1)
    assert against[80, 20] and not against[40, 60]
    assert not contour(np.ones((5, 5)), -1).any()


def one(values, **parts):
    return Attribution(jnp.asarray(values), jnp.array([2.0]), method="gradient", **parts)


def test_a_row_is_the_picture_the_map_and_both():
    image = np.full((1, 20, 20, 3), 0.5, np.float32)
    image[0, :, :10] = 0.2
    values = np.full((1, 20, 20, 1), -0.3, np.float32)
    drawn = pictures.draw(one(values), image, cell=80, contours=None, limit=0.3)
    assert drawn.dtype == np.float32 and 0 <= drawn.min() and drawn.max() <= 1
    gap = 6
    middle = lambda column: drawn[gap + 60, gap + column * (80 + gap) + 60]
    np.testing.assert_allclose(middle(0), 0.5, atol=0.01)
    np.testing.assert_allclose(middle(1), colored(np.float64(-1), UNIT), atol=0.01)
    np.testing.assert_allclose(middle(2), pale(image[0])[15, 15] * colored(np.float64(-1), UNIT), atol=0.01)
    alone = pictures.draw(np.concatenate([values] * 3), cell=80)
    assert alone.shape[1] == 3 * 86 + 6
    with pytest.raises(ValueError, match=r"images must be \(1, height, width, channels\)"):
        pictures.draw(one(values), image[0])
    with pytest.raises(ValueError, match="images must be in"):
        pictures.draw(one(values), image * 255)
    with pytest.raises(ValueError, match="names must be 1 titles"):
        pictures.draw(one(values), image, names=["a", "b"])


def test_a_blur_keeps_the_sum():
    from diffprog.attribute._draw.maps import blurred

    maps = np.random.default_rng(3).normal(size=(2, 30, 20))
    np.testing.assert_allclose(blurred(maps, 2.0).sum(axis=(1, 2)), maps.sum(axis=(1, 2)), rtol=1e-9)
    assert blurred(maps, 0) is maps


def test_what_one_needs_to_trust_a_map_is_said():
    from diffprog.attribute._draw.draw import facts_of

    parts = dict(baseline_score=jnp.array([-1.0]), gap=jnp.array([0.3]), evaluations=np.array([22]))
    result = one(np.zeros((1, 2, 2, 1)), converged=np.array([False]), unruled=("sort at model.py:12",), **parts)
    assert facts_of(result) == [
        (
            "score 2.00, of the baseline -1.00",
            "gap 0.300 of 3.00 (10.0%)",
            "22 evaluations",
            "the gap asked for was not met",
            "no rule for sort at model.py:12",
        )
    ]
    assert facts_of(one(np.zeros((1, 2, 2, 1)))) == [("score 2.00", "no axiom gives the sum")]


def test_a_sheet_has_a_cell_for_each_method():
    image = np.full((20, 20, 3), 0.5, np.float32)
    image[:10] = 0.4
    values = np.full((1, 20, 20), 0.3, np.float32)
    coarse = one(np.full((1, 4, 4), -0.1))
    drawn = pictures.sheet(image, {"a": one(values), "b": coarse}, cell=80, columns=6, lines={"a": ["1 s"]})
    assert drawn.shape[1] == 3 * 86 + 6
    bottom = pale(image)[15, 15]
    for column, sign in ((1, 1.0), (2, -1.0)):
        shown = drawn[6 + 60, 6 + column * 86 + 60]
        np.testing.assert_allclose(shown, bottom * colored(np.float64(sign), UNIT), atol=0.01)
    several = Attribution(np.zeros((2, 1, 4, 4)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="a sheet shows one score; c has 2"):
        pictures.sheet(image, {"c": several})


def test_a_notebook_shows_pictures_alone():
    found = attribute.gradient(lambda x: (x**2).sum(axis=(1, 2, 3)), np.ones((2, 8, 8, 3), np.float32))
    shown = Image.open(io.BytesIO(found._repr_png_()))
    assert shown.size[0] > 400
    assert attribute.gradient(lambda x: x.sum(axis=1), np.ones((2, 8), np.float32))._repr_png_() is None
