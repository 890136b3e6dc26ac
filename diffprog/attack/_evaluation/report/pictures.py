"""An image, its perturbation magnified and the perturbed image, as <img>s with the picture in them."""

import base64
import io

import numpy as np
from PIL import Image

SIDE = 224  # pixels of a picture's longer side, at most; smaller ones are enlarged by whole numbers


def as_picture(image) -> np.ndarray | None:
    """An array as [height, width, 1 or 3]; None of what is no picture.

    Channels may come first, and a row of a square number of elements is taken for a square.
    """
    image = np.asarray(image)
    side = round(image.size**0.5)
    if image.ndim == 1 and side >= 4 and side * side == image.size:
        image = image.reshape(side, side)
    if image.ndim == 2:
        return image[..., None]
    if image.ndim == 3 and image.shape[-1] not in (1, 3) and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    return image if image.ndim == 3 and image.shape[-1] in (1, 3) else None


def triple(hard, bounds) -> list[tuple[str, str]]:
    """(caption, <img>) of the original, the perturbation and the result; [] if the image is no picture.

    The perturbation is shown around middle gray, so many times as large as makes its largest element white or black.
    """
    low, high = bounds
    original, adversarial = (as_picture((image - low) / (high - low)) for image in (hard.original, hard.adversarial))
    if original is None:
        return []
    change = adversarial.astype(np.float64) - original
    largest = np.abs(change).max()
    times = 0.5 / largest if largest > 0 else 1.0
    factor = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return [
        ("original", _png(original, "original")),
        (f"change \N{MULTIPLICATION SIGN} {factor}", _png(0.5 + change * times, "perturbation, magnified")),
        ("adversarial", _png(adversarial, "adversarial")),
    ]


def _png(picture, alt):
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    crisp = ' class="crisp"' if max(image.size) <= SIDE // 2 else ""
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img{crisp} src="data:image/png;base64,{data}" alt="{alt}" width="{image.width}" height="{image.height}">'
