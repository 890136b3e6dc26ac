"""Image files to float32 arrays and back: RGB in [0, 1], (height, width, 3), and sheets of captioned pictures."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from diffprog._util.files import replacing

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # brightness of red, green and blue (ITU-R BT.601)
LARGEST = 64_000_000  # pixels: beyond any camera's photograph, and a decoded copy still fits a laptop's memory


class ImageError(ValueError):
    """An image file or array that cannot be used; the message says why in one sentence."""


def read_image(path: str | Path) -> np.ndarray:
    """Read an image from any file that Pillow can read.

    Orientation stored in EXIF is applied, transparent pixels are composited on white, 16-bit gray keeps its precision,
    and of an animation the first frame is taken.

    Args:
      path: The file.

    Returns:
      float32 RGB (height, width, 3) in [0, 1].

    Raises:
      ImageError: The file is missing, not an image, truncated, or larger than `LARGEST` pixels, which is checked before
        anything is decoded.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            with Image.open(path) as image:
                _refuse_huge(path, *image.size)
                bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
                return _rgb(ImageOps.exif_transpose(image), bits)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; give the path of an image file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more than {LARGEST:,} pixels; scale the image down first") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path}: not an image that Pillow can read; convert it to PNG or JPEG first") from None
    except Exception as error:  # decoders of damaged files raise nearly anything: struct.error, SyntaxError, EOFError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: cannot be read ({reason}); is the file damaged or cut short?") from error


def _refuse_huge(path, width, height):
    if width * height > LARGEST:
        raise ImageError(f"{path}: {width} x {height} pixels, more than {LARGEST:,}; scale the image down first")


_BITS_PER_SAMPLE = 258  # the tag of a TIFF


def _rgb(image, bits):
    if image.mode.startswith(("I", "F")):
        return _deep_gray(np.asarray(image), bits)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float32) / 255


def _deep_gray(values, bits):
    """Convert integers of up to 16 bits, or floats, of one channel, which Pillow's own conversion to 8 would clip."""
    whole = np.issubdtype(values.dtype, np.integer)
    if whole and bits > 16:
        raise ImageError(f"integers of {bits} bits do not say which number is white; save the image with 16 bits")
    white = 2**bits - 1 if whole else 1
    values = values.astype(np.float32) / white
    if not _inside_unit_range(values):
        expected = f"0 .. {white}"
        raise ImageError(f"gray values outside {expected}; rescale the image first")
    return np.repeat(values[..., None], 3, axis=-1)


def _inside_unit_range(values):
    return bool(np.all((values >= 0) & (values <= 1)))  # written so that a NaN is outside


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Round an image to 8 bits.

    Args:
      image: Floats in [0, 1], of any shape.

    Returns:
      uint8 array of that shape.

    Raises:
      ImageError: A value is outside [0, 1].
    """
    image = np.asarray(image)
    if not _inside_unit_range(image):
        span = f"{image.min():.4g} .. {image.max():.4g}"
        raise ImageError(f"an image must be in [0, 1]; found {span}: clip or rescale it")
    return np.round(image * 255).astype(np.uint8)


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write an image as an 8-bit PNG, or in the format that the file's suffix says; it appears whole or not at all.

    Args:
      path: The file, whose suffix is .png, .jpg or another format's of still images; without one it is a PNG.
      image: Array (height, width), or (height, width, channels) with 1 channel for gray, 2 with opacity, 3 for RGB, 4
        with opacity, in [0, 1]; it is rounded to nearest. A JPEG is a little different from the image.

    Returns:
      The path.

    Raises:
      ImageError: A value is outside [0, 1], the suffix is no image format's, or the array is no such image.
    """
    form, pixels = image_format(path), to_bytes(image)
    picture = _picture(pixels)
    if form == "JPEG" and picture.mode not in ("L", "RGB"):
        raise ImageError(f"{path}: a JPEG has 1 or 3 channels, without opacity; found {pixels.shape}: write a PNG")
    with replacing(path) as file:
        picture.save(file, format=form, **_SAVING.get(form, {}))
    return Path(path)


_SAVING: dict[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}


def image_format(path: str | Path) -> str:
    """Find the format that a file's suffix says, for `save_png`.

    Args:
      path: The file.

    Returns:
      Pillow's name of the format, "PNG" without a suffix.

    Raises:
      ImageError: It is no format of still images that Pillow can write.
    """
    suffix = Path(path).suffix.lower()
    form = Image.registered_extensions().get(suffix or ".png")
    if form not in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"):
        raise ImageError(f"{path}: an image is written as .png, .jpg, .webp, .tif or .bmp; found the suffix {suffix!r}")
    return form


def _picture(pixels):
    """Make Pillow's image of bytes (height, width) or (height, width, 1 to 4 channels)."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (2, 3, 4))) or 0 in pixels.shape:
        raise ImageError(
            f"an image file has 1 to 4 channels (height, width, channels); found shape {pixels.shape}: "
            "choose channels that can be shown"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Show an image of any number of channels in red, green and blue.

    Args:
      image: Array (height, width) or (height, width, channels). One channel is gray, a second or fourth one is the
        opacity, before white; of five and more the first three are shown.

    Returns:
      Array (height, width, 3).
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    channels = image.shape[-1]
    if channels in (2, 4):
        opacity = image[..., -1:]
        image = opacity * image[..., :-1] + (1 - opacity)
    return np.repeat(image[..., :1], 3, axis=-1) if channels < 3 else image[..., :3]


def with_channels(image: np.ndarray, channels: int, name: str = "the image") -> np.ndarray:
    """Bring an image to a network's number of channels: gray to RGB, and RGB to gray by its brightness.

    Args:
      image: Array (height, width) or (height, width, channels).
      channels: The wanted number.
      name: What to call the image in a message.

    Returns:
      Array (height, width, channels).

    Raises:
      ImageError: It is of another number of channels.
    """
    image = np.asarray(image, np.float32)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[-1] not in ({1, 3, channels} if channels in (1, 3) else {channels}):
        raise ImageError(f"{name}: an image has shape (height, width, {channels}); found {image.shape}")
    if image.shape[-1] == channels:
        return image
    return np.repeat(image, 3, axis=-1) if channels == 3 else (image @ LUMA)[..., None].clip(0, 1)


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    *,
    to_8_bits: bool = True,
) -> np.ndarray:
    """Resize an image by Pillow's antialiased filters.

    Args:
      image: Array (h, w, channels) or (h, w), of any number of channels, none of which counts as opacity.
      height: The new height in pixels.
      width: The new width in pixels.
      resample: Pillow's filter.
      to_8_bits: Round to 8 bits on the way, as image editors do. False takes values of any range and any number of
        channels, and does not clip what a bicubic filter overshoots.

    Returns:
      float32 array (height, width, channels) or (height, width).
    """
    if np.ndim(image) == 3 and not (to_8_bits and np.shape(image)[-1] == 3):
        planes = np.moveaxis(np.asarray(image), -1, 0)
        return np.stack([resize(plane, height, width, resample, to_8_bits=to_8_bits) for plane in planes], axis=-1)
    if to_8_bits:
        return np.asarray(_picture(to_bytes(image)).resize((width, height), resample), np.float32) / 255
    return np.asarray(Image.fromarray(np.ascontiguousarray(image, np.float32)).resize((width, height), resample))


def resize_short_side(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image so that its shorter side has a given length (bicubic).

    Args:
      image: Array (height, width, 3) in [0, 1].
      size: The shorter side in pixels.

    Returns:
      The scaled image.
    """
    height, width = np.shape(image)[:2]
    short = min(height, width)
    return resize(image, round(size * height / short), round(size * width / short))


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Crop the central square of an image.

    Args:
      image: Array (height, width, channels).
      size: Side of the square in pixels.

    Returns:
      The square.

    Raises:
      ImageError: The image is smaller.
    """
    height, width = np.shape(image)[:2]
    if min(height, width) < size:
        raise ImageError(f"a crop of {size} pixels needs a larger image; found {height} x {width}")
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def network_crop(image: np.ndarray, size: int = 224) -> np.ndarray:
    """Crop an image as ImageNet networks are tested: short side to 8/7 of the size, then the central square.

    Args:
      image: Array (height, width, 3) in [0, 1].
      size: Side of the square in pixels.

    Returns:
      The square (size, size, 3).
    """
    return center_crop(resize_short_side(image, round(size * 8 / 7)), size)


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    columns: int | None = None,
    cell: int = 224,
    title: str | None = None,
) -> np.ndarray:
    """Set captioned pictures on a white sheet.

    Args:
      pictures: A list of arrays (height, width, channels) or (height, width) in [0, 1], of any sizes, or one array of
        them. They are shown as by `to_rgb`.
      captions: One text for each picture. Lines break at newlines; a line too long for its cell is set smaller.
      columns: Pictures in a row; the sheet is about square by default.
      cell: Side in pixels of the square into which each picture is fitted.
      title: A line above the pictures.

    Returns:
      float32 array (height, width, 3) in [0, 1].
    """
    if len(pictures) != len(captions) or not len(pictures):
        raise ImageError(f"a sheet needs one caption per picture; found {len(pictures)} and {len(captions)}")
    columns = columns or int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    gap, size = max(cell // 16, 4), max(cell // 14, 11)
    line = round(size * 1.35)
    band = line * max(caption.count("\n") + 1 for caption in captions) + gap
    header = 2 * line + gap if title else 0
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, header + gap + rows * (cell + band)), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        _centered(draw, title, sheet.width / 2, gap + line, round(size * 1.3), sheet.width - 2 * gap)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = gap + column * (cell + gap), header + gap + row * (cell + band)
        shown = Image.fromarray(to_bytes(to_rgb(picture)))
        fitted = ImageOps.contain(shown, (cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (left + (cell - fitted.width) // 2, top + (cell - fitted.height) // 2))
        for line_index, text in enumerate(caption.split("\n")):
            _centered(draw, text, left + cell / 2, top + cell + line * (line_index + 0.6), size, cell)
    return np.asarray(sheet, np.float32) / 255


def _centered(draw, text, x, y, size, width):
    """Draw one line of text around (x, y), set smaller if `width` needs it, and cut where that would be illegible."""
    size = max(min(size, size * width / max(draw.textlength(text, font=ImageFont.load_default(size)), 1)), 9)
    font = ImageFont.load_default(size)
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text.rstrip("\N{HORIZONTAL ELLIPSIS}")[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    draw.text((x, y), text, font=font, fill=(50, 50, 50), anchor="mm")
