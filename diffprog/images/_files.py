"""Image files to float32 arrays and back: RGB in [0, 1], (height, width, 3), and sheets of captioned pictures."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from diffprog._util.files import replacing

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
                return _rgb(ImageOps.exif_transpose(image))
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


def _rgb(image):
    if image.mode.startswith(("I", "F")):
        return _deep_gray(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float32) / 255


def _deep_gray(values):
    """Convert 16-bit integers or floats of one channel, which Pillow's own conversion to 8 bits would clip."""
    whole = np.issubdtype(values.dtype, np.integer)
    values = values.astype(np.float32) / (65535 if whole else 1)
    if not _inside_unit_range(values):
        expected = "0 .. 65535" if whole else "0 .. 1"
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
    """Write an image as an 8-bit PNG; the file appears whole or not at all.

    Args:
      path: The file.
      image: Array (height, width, 3) or (height, width) in [0, 1], which is rounded to nearest.

    Returns:
      The path.

    Raises:
      ImageError: A value is outside [0, 1].
    """
    picture = Image.fromarray(to_bytes(image))
    with replacing(path) as file:
        picture.save(file, format="PNG", optimize=True)
    return Path(path)


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
      image: Array (h, w, channels) or (h, w).
      height: The new height in pixels.
      width: The new width in pixels.
      resample: Pillow's filter.
      to_8_bits: Round to 8 bits on the way, as image editors do. False takes values of any range and any number of
        channels, and does not clip what a bicubic filter overshoots.

    Returns:
      float32 array (height, width, channels) or (height, width).
    """
    if to_8_bits:
        return np.asarray(Image.fromarray(to_bytes(image)).resize((width, height), resample), np.float32) / 255
    if np.ndim(image) == 3:
        planes = [resize(plane, height, width, resample, to_8_bits=False) for plane in np.moveaxis(image, -1, 0)]
        return np.stack(planes, axis=-1)
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
      pictures: Arrays (height, width, 3) in [0, 1] of any sizes.
      captions: One text for each picture. Lines break at newlines; a line too long for its cell is set smaller.
      columns: Pictures in a row; the sheet is about square by default.
      cell: Side in pixels of the square into which each picture is fitted.
      title: A line above the pictures.

    Returns:
      float32 array (height, width, 3) in [0, 1].
    """
    if len(pictures) != len(captions) or not pictures:
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
        fitted = ImageOps.contain(Image.fromarray(to_bytes(picture)), (cell, cell), Image.Resampling.LANCZOS)
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
