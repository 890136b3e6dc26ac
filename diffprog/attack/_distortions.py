"""Whether an adversarial image stays adversarial when it is saved, scaled or cropped."""

import io
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from PIL import Image

from diffprog.attack._engine import validation
from diffprog.attack._engine.oracle import Oracle
from diffprog.attack._engine.result import as_8bit

BICUBIC = Image.Resampling.BICUBIC
Distortion = Callable[[np.ndarray], np.ndarray]


def survives_distortions(
    model: Callable[..., jax.Array],
    images: ArrayLike,
    labels: ArrayLike,
    *,
    targeted: bool = False,
    criterion: Callable[..., Any] | None = None,
    distortions: dict[str, Distortion] | None = None,
) -> dict[str, np.ndarray]:
    """Tell which adversarial images are still adversarial after each distortion.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, height, width, 1 or 3), floats in [0, 1], as an attack returned them.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      targeted: as in the attack.
      criterion: as in the attack.
      distortions: name -> function from an image to an image of its shape; `DISTORTIONS` by default. All of them act
        on 8-bit pixels.

    Returns:
      For each name, bool (n,).
    """
    images = validation.check_images(images)
    labels = validation.check_labels(labels, len(images))
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must have shape (n, height, width, 1 or 3); found {images.shape}: "
            "other arrays cannot be saved as pictures"
        )
    oracle, files = Oracle(model, targeted, criterion, "diffprog"), as_8bit(images)
    distorted = {
        name: np.stack([distort(image) for image in files])
        for name, distort in (DISTORTIONS if distortions is None else distortions).items()
    }
    return {name: oracle.judge(np.asarray(model(images)), labels) for name, images in distorted.items()}


def jpeg(quality: int) -> Distortion:
    """Save as JPEG of a quality from 1 (worst) to 95, with colors at half the resolution."""

    def distort(image):
        file = io.BytesIO()
        _picture(image).save(file, "JPEG", quality=quality)
        return _array(Image.open(file), image)

    return distort


def resized(factor: float) -> Distortion:
    """Scale by a factor and back, bicubically."""

    def distort(image):
        height, width = image.shape[:2]
        small = _picture(image).resize((max(1, round(width * factor)), max(1, round(height * factor))), BICUBIC)
        return _array(small.resize((width, height), BICUBIC), image)

    return distort


def cropped(fraction: float) -> Distortion:
    """Crop to the middle, a fraction of each side, and scale it to the whole size, bicubically."""

    def distort(image):
        height, width = image.shape[:2]
        left, top = (1 - fraction) / 2 * width, (1 - fraction) / 2 * height
        box = (left, top, width - left, height - top)
        return _array(_picture(image).resize((width, height), BICUBIC, box=box), image)

    return distort


def _picture(image):
    levels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _array(picture, like):
    return (np.asarray(picture, np.float32) / 255).reshape(like.shape)


DISTORTIONS = {
    "PNG": lambda image: image,
    "JPEG, quality 95": jpeg(95),
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 50": jpeg(50),
    "half the size and back": resized(0.5),
    "the middle 7/8, enlarged": cropped(7 / 8),
}
