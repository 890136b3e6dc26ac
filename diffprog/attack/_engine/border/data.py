"""Images and labels: what may be attacked."""

import jax
import numpy as np


def checked_images(images, bounds=(0.0, 1.0)):
    """Images as a float32 NumPy array [n, ...] within the bounds."""
    low, high = checked_bounds(bounds)
    if isinstance(images, jax.core.Tracer):
        raise ValueError(
            "images must be numbers; found a tracer: call the attack outside of jax.jit, jax.grad and the "
            "like, it compiles by itself"
        )
    try:
        images = np.asarray(images)
    except ValueError:
        raise ValueError("images must be of one shape; found several: crop or resize them") from None
    if not jax.numpy.issubdtype(images.dtype, np.floating):
        remedy = "divide 8-bit images by 255" if images.dtype.kind in "iu" else "give one array of them"
        raise ValueError(f"images must be float32 in [{low:g}, {high:g}]; found {images.dtype}: {remedy}")
    if images.ndim < 2 or images.size == 0:
        raise ValueError(
            f"images must have a leading batch axis; found shape {images.shape}: add one with images[None]"
        )
    if not np.isfinite(images).all():
        count = int((~np.isfinite(images).reshape(len(images), -1).all(axis=1)).sum())
        raise ValueError(f"images must be finite; found NaN or infinity in {count} of {len(images)}: mend the data")
    if images.min() < low or images.max() > high:
        raise ValueError(f"images must be in [{low:g}, {high:g}]; found {_out_of_bounds(images, low, high)}")
    return np.clip(images.astype(np.float32), np.float32(low), np.float32(high))


def _out_of_bounds(images, low, high):
    """What was found, and what to do about it."""
    lowest, highest = float(images.min()), float(images.max())
    if max(low - lowest, highest - high) <= 0.001 * (high - low):
        return f"{lowest:.9g} .. {highest:.9g}: clip them with np.clip(images, {low:g}, {high:g})"
    found = f"{lowest:.4g} .. {highest:.4g}"
    if (low, high) == (0, 1) and 0 <= lowest and highest <= 255:
        return f"{found}: divide values of 8 bits by 255"
    return f"{found}: are they already normalized? do that in the model, or give their bounds=(lowest, highest)"


def checked_pictures(images):
    """Images that have a height, a width and channels."""
    if np.ndim(images) != 4:
        raise ValueError(
            "images must have shape (n, height, width, channels) for this attack; "
            f"found {np.shape(images)}: reshape them, with an axis of size 1 for gray"
        )
    if np.shape(images)[1] in (1, 3) and np.shape(images)[3] > 4:
        raise ValueError(
            "images must have shape (n, height, width, channels) for this attack; "
            f"found {np.shape(images)}: move the channels to the end with np.moveaxis(images, 1, 3), and "
            "back in the model"
        )


def checked_bounds(bounds):
    """The lowest and the highest value of every pixel."""
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"bounds must be (lowest, highest) value of a pixel; found {bounds!s:.60}: try (0, 1)")
    return low, high


def checked_box(images, mask, bounds):
    """The lowest and the highest value of every element: the bounds, and the image itself where it must not change."""
    low, high = (np.full_like(images, bound) for bound in checked_bounds(bounds))
    if mask is None:
        return low, high
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(
            f"mask must be of booleans, true where a change is allowed; found {mask.dtype}: compare it with a threshold"
        )
    try:
        mask = np.broadcast_to(mask, images.shape)
    except ValueError:
        raise ValueError(
            f"mask must have the shape of the images, {images.shape}, or of one, or sizes of 1; "
            f"found {mask.shape}: add axes with mask[..., None]"
        ) from None
    return np.where(mask, low, images), np.where(mask, high, images)


def checked_labels(labels, count):
    """Labels as an int32 NumPy array [count]."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integer class indices; found {labels.dtype}: convert them with astype(int)")
    if labels.shape != (count,):
        raise ValueError(
            f"labels must have shape ({count},), one class index per image; found {labels.shape}: "
            "take argmax of one-hot rows"
        )
    return labels.astype(np.int32)


def checked_image_ids(image_ids, count):
    """The images' numbers in their data set."""
    image_ids = np.arange(count) if image_ids is None else np.asarray(image_ids)
    if image_ids.shape != (count,) or not np.issubdtype(image_ids.dtype, np.integer):
        raise ValueError(
            f"image_ids must be integers of shape ({count},), one per image; found {image_ids.dtype} "
            f"{image_ids.shape}: leave them out for 0 .. {count - 1}"
        )
    return image_ids.astype(np.uint32)
