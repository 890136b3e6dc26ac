"""Whether an adversarial image stays one when it is saved, scaled or cut."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Oracle
from diffprog.attack._engine.result import as_8bit


def survives_distortions(
    model: Callable,
    images,
    labels,
    *,
    targeted: bool = False,
    criterion: Callable | None = None,
    distortions: dict[str, Callable] | None = None,
) -> dict[str, np.ndarray]:
    """For each distortion, bool [n]: whether the model still says what the attack wanted.

    images:      float32 (n, height, width, 1 or 3) in [0, 1], as an attack returned them, with its labels.
    distortions: name -> function from one image to another of the same shape; `DISTORTIONS` unless given. All of them
                 act on 8-bit pixels.
    """
    images = border.checked_images(images)
    labels = border.checked_labels(labels, len(images))
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must have shape (n, height, width, 1 or 3); found {images.shape}: "
            "other arrays cannot be saved as pictures"
        )
    oracle = Oracle(model, targeted, criterion, "diffprog")
    found = {}
    for name, distort in (DISTORTIONS if distortions is None else distortions).items():
        distorted = np.stack([distort(image) for image in as_8bit(images)])
        found[name] = oracle.verdict(np.asarray(model(distorted)), labels)
    return found


def jpeg(quality: int) -> Callable:
    """Saving as JPEG, 1 (worst) to 95, with Pillow's defaults otherwise: colors at half the resolution."""

    def distort(image):
        file = io.BytesIO()
        _picture(image).save(file, "JPEG", quality=quality)
        return _array(Image.open(file), image)

    return distort


def resized(factor: float) -> Callable:
    """Scaling by `factor` and back, bicubic."""

    def distort(image):
        height, width = image.shape[:2]
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        return _array(_picture(image).resize(small, Image.BICUBIC).resize((width, height), Image.BICUBIC), image)

    return distort


def cropped(part: float) -> Callable:
    """The middle, `part` of each side, scaled back to the whole size, bicubic."""

    def distort(image):
        height, width = image.shape[:2]
        left, top = (1 - part) / 2 * width, (1 - part) / 2 * height
        box = (left, top, width - left, height - top)
        return _array(_picture(image).resize((width, height), Image.BICUBIC, box=box), image)

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
