"""Image files of every kind that users have, against values known in advance."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from diffprog import images
from diffprog._util import files
from diffprog.images import ImageError

COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]], [[255, 255, 255], [0, 0, 0]]], np.uint8)


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_png_and_bytes_are_exact(tmp_path):
    image = images.read_image(saved(tmp_path / "a.png", COLORS))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, COLORS.astype(np.float32) / 255)
    np.testing.assert_array_equal(images.to_bytes(image), COLORS)


def test_every_byte_survives_saving(tmp_path):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3)
    path = images.save_png(tmp_path / "new" / "b.png", every.astype(np.float32) / 255)
    np.testing.assert_array_equal(images.to_bytes(images.read_image(path)), every)
    assert [file.name for file in path.parent.iterdir()] == ["b.png"]


def test_saving_rounds_to_nearest_and_refuses_what_is_no_image(tmp_path):
    assert images.to_bytes(np.array([[0.0, 0.4 / 255, 0.6 / 255, 1.0]])).tolist() == [[0, 0, 1, 255]]
    for wrong, found in ((1.5, r"0 \.\. 1.5"), (-0.1, r"-0.1 \.\. 0"), (np.nan, "nan")):
        with pytest.raises(ImageError, match=rf"must be in \[0, 1\]; found {found}"):
            images.save_png(tmp_path / "c.png", np.array([[[0, 0, wrong]]]))
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = images.save_png(tmp_path / "d.png", np.zeros((2, 2, 3)))
    before = path.read_bytes()
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        images.save_png(path, np.ones((2, 2, 3)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_gray_and_palette_become_rgb(tmp_path):
    gray = np.array([[0, 128, 255]], np.uint8)
    expected = gray[..., None].repeat(3, -1).astype(np.float32) / 255
    np.testing.assert_array_equal(images.read_image(saved(tmp_path / "gray.png", gray)), expected)
    bits = images.read_image(saved(tmp_path / "bits.png", gray > 200))
    np.testing.assert_array_equal(bits, [[[0, 0, 0], [0, 0, 0], [1, 1, 1]]])
    Image.fromarray(COLORS).quantize(8).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(images.to_bytes(images.read_image(tmp_path / "palette.png")), COLORS)


def test_transparency_is_composited_on_white(tmp_path):
    red = np.array([[[255, 0, 0, 0], [255, 0, 0, 51], [255, 0, 0, 255]]], np.uint8)
    image = images.read_image(saved(tmp_path / "rgba.png", red))
    np.testing.assert_allclose(image, [[[1, 1, 1], [1, 0.8, 0.8], [1, 0, 0]]], atol=1e-6)
    palette = Image.fromarray(COLORS).quantize(8)
    clear = palette.getpixel((0, 0))
    palette.save(tmp_path / "clear.png", transparency=clear)
    expected = COLORS.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(images.to_bytes(images.read_image(tmp_path / "clear.png")), expected)


def test_sixteen_bits_keep_their_precision(tmp_path):
    deep = np.array([[0, 1, 256, 32768, 65535]], np.uint16)
    for name in ("deep.png", "deep.tif"):
        image = images.read_image(saved(tmp_path / name, deep))
        np.testing.assert_array_equal(image, (deep.astype(np.float32) / 65535)[..., None].repeat(3, -1))
    floats = saved(tmp_path / "float.tif", np.array([[0.0, 2.0]], np.float32))
    with pytest.raises(ImageError, match=r"gray values outside 0 \.\. 1"):
        images.read_image(floats)


@pytest.mark.parametrize("orientation, quarter_turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", COLORS, exif=exif)
    np.testing.assert_array_equal(images.to_bytes(images.read_image(path)), np.rot90(COLORS, quarter_turns))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_color_spaces_in_jpeg(tmp_path, mode):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).convert(mode).save(tmp_path / "space.jpg", quality=95)
    np.testing.assert_allclose(images.read_image(tmp_path / "space.jpg"), flat / 255, atol=3 / 255)


@pytest.mark.parametrize("name", ["whole.png", "whole.jpg"])
def test_truncated_files_are_refused(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(tmp_path / name, noise).read_bytes()
    for length in (len(data) // 2, len(data) // 10, 20):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(ImageError, match=name) as error:
            images.read_image(tmp_path / name)
        assert "\n" not in str(error.value)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    refused = "not an image that Pillow can read"
    expected = {"text.png": refused, "empty.png": refused, "none.png": "no such file", ".": "cannot be read"}
    for name, message in expected.items():
        with pytest.raises(ImageError, match=message):
            images.read_image(tmp_path / name)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with warnings.catch_warnings(), pytest.raises(ImageError, match="more than 64,000,000"):
        warnings.simplefilter("error")
        images.read_image(tmp_path / "bomb.png")


def test_network_crop_takes_the_center_at_seven_eighths():
    step = np.zeros((300, 451, 3), np.float32)
    step[:, 225:] = 1
    crop = images.network_crop(step)
    assert crop.shape == (224, 224, 3)
    np.testing.assert_array_equal(crop[:, :108], 0)  # the edge stays in the middle, softened by the filter
    np.testing.assert_array_equal(crop[:, 116:], 1)
    assert images.resize_short_side(step, 256).shape == (256, 385, 3)
    with pytest.raises(ImageError, match="needs a larger image; found 100 x 300"):
        images.center_crop(np.zeros((100, 300, 3)), 200)


def test_contact_sheet_places_pictures_and_captions():
    red, blue = np.zeros((8, 8, 3)), np.zeros((16, 8, 3))
    red[..., 0], blue[..., 2] = 1, 1
    sheet = images.contact_sheet(
        [red, blue, red],
        ["one", "two\nlines", "a caption far too long for its cell " * 3],
        columns=2,
        cell=64,
        title="title",
    )
    is_red, is_blue = (sheet == [1, 0, 0]).all(-1), (sheet == [0, 0, 1]).all(-1)
    assert is_red.sum() == 2 * 64 * 64
    assert is_blue.sum() == 64 * 32  # fitted, not squashed
    dark = sheet.max(-1) < 0.5
    assert dark.any()
    assert (sheet[:, [0, -1]] == 1).all()  # nothing runs over the margin
    with pytest.raises(ImageError, match="one caption per picture; found 1 and 2"):
        images.contact_sheet([red], ["a", "b"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_one_to_four_channels(tmp_path, channels):
    image = np.random.default_rng(0).uniform(size=(7, 9, channels)).astype(np.float32)
    stored = np.asarray(Image.open(images.save_png(tmp_path / "a.png", image)))
    np.testing.assert_array_equal(stored.reshape(image.shape), images.to_bytes(image))
    np.testing.assert_allclose(images.read_image(tmp_path / "a.png"), images.to_rgb(image), atol=2 / 255)
    np.testing.assert_array_equal(
        images.contact_sheet(image[None], ["a"]), images.contact_sheet([images.to_rgb(image)], ["a"])
    )


def test_every_channel_is_resized_alike():
    image = np.random.default_rng(0).uniform(size=(7, 9, 6)).astype(np.float32)
    found = images.resize(image, 5, 4)
    for plane in range(6):
        np.testing.assert_array_equal(found[..., plane], images.resize(image[..., plane], 5, 4))
    np.testing.assert_array_equal(found[..., :3], images.resize(image[..., :3], 5, 4))
    with pytest.raises(ImageError, match=r"1 to 4 channels .* found shape \(7, 9, 6\)"):
        images.save_png("never.png", image)


@pytest.mark.parametrize(
    "suffix, start", [(".jpg", b"\xff\xd8"), (".png", b"\x89PNG"), (".webp", b"RIFF"), (".bmp", b"BM")]
)
def test_a_suffix_says_what_is_in_the_file(tmp_path, suffix, start):
    path = images.save_png(tmp_path / f"a{suffix}", np.full((8, 8, 3), 0.5, np.float32))
    assert path.read_bytes().startswith(start)
    with pytest.raises(ImageError, match=r"the suffix '\.txt'"):
        images.save_png(tmp_path / "a.txt", np.zeros((8, 8, 3)))
    with pytest.raises(ImageError, match="a JPEG has 1 or 3 channels"):
        images.save_png(tmp_path / "a.jpg", np.zeros((8, 8, 4)))


def test_gray_of_other_depths(tmp_path):
    values = np.arange(0, 65535, 5000, dtype=np.uint16).reshape(1, -1)
    Image.fromarray(values).save(tmp_path / "16.tif")
    np.testing.assert_allclose(images.read_image(tmp_path / "16.tif")[..., 0], values / 65535, atol=1e-6)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "32.tif")
    with pytest.raises(ImageError, match="integers of 32 bits do not say which number is white"):
        images.read_image(tmp_path / "32.tif")
