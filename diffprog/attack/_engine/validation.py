"""Checks of what enters an attack, made once. Each message says what was found, what was expected and what to do."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from diffprog.attack._engine.spelling import as_norm
from diffprog.attack._norms import Norm

GENERATOR = "threefry2x32"  # of all draws

# ---------------------------------------------------------------- images and labels


def check_images(images: Any, bounds: Any = (0.0, 1.0)) -> np.ndarray:
    """Return the images as a float32 array (n, ...) within the bounds."""
    low, high = check_bounds(bounds)
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
        within = f" in [{low:g}, {high:g}]" if np.ndim(low) == 0 else ""
        raise ValueError(f"images must be float32{within}; found {images.dtype}: {remedy}")
    if images.ndim >= 1 and images.size == 0:
        raise ValueError(f"images must be at least one; found none, shape {images.shape}: was a data set filtered?")
    if images.ndim < 2:
        raise ValueError(
            f"images must have a leading batch axis; found shape {images.shape}: add one with images[None]"
        )
    if not np.isfinite(images).all():
        count = int((~np.isfinite(images).reshape(len(images), -1).all(axis=1)).sum())
        raise ValueError(f"images must be finite; found NaN or infinity in {count} of {len(images)}: mend the data")
    lower, upper = _full(images, low), _full(images, high)
    images = images.astype(np.float32)
    if np.any(images < lower) or np.any(images > upper):
        if np.ndim(low) or np.ndim(high) or not np.isfinite([low, high]).all():
            outside = int(np.any((images < lower) | (images > upper), axis=tuple(range(1, images.ndim))).sum())
            raise ValueError(f"images must be within the bounds; {outside} of {len(images)} are not: mend either")
        raise ValueError(f"images must be in [{low:g}, {high:g}]; found {_out_of_bounds(images, low, high)}")
    return images


def _out_of_bounds(images, low, high):
    """Say which values there are, and what to do about them."""
    lowest, highest = float(images.min()), float(images.max())
    if max(low - lowest, highest - high) <= 0.001 * (high - low):
        return f"{lowest:.9g} .. {highest:.9g}: clip them with np.clip(images, {low:g}, {high:g})"
    extent = f"{lowest:.4g} .. {highest:.4g}"
    if (low, high) == (0, 1) and 0 <= lowest and highest <= 255:
        return f"{extent}: divide values of 8 bits by 255"
    return f"{extent}: are they already normalized? do that in the model, or give their bounds=(lowest, highest)"


def check_pictures(images: Any) -> None:
    """Require images with a height, a width and channels last."""
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


def check_bounds(bounds: Any) -> tuple[Any, Any]:
    """Return the lowest and the highest value: numbers, or arrays where these differ; infinite for none."""
    if bounds is None:
        return -np.inf, np.inf
    try:
        low, high = bounds
        low = _without_leading_ones(np.asarray(-np.inf if low is None else low, np.float32))
        high = _without_leading_ones(np.asarray(np.inf if high is None else high, np.float32))
        fits = np.all(low < high) and not np.isposinf(low).any() and not np.isneginf(high).any()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            "bounds must be (lowest, highest), numbers or arrays with one number per channel or column, or None; "
            f"found {bounds!s:.60}: try (0, 1)"
        )
    return (float(low), float(high)) if low.ndim == high.ndim == 0 else (low, high)


def _without_leading_ones(bound):
    """Leave out axes that change nothing where a bound is broadcast, such as one of images."""
    return _without_leading_ones(bound[0]) if bound.shape[:1] == (1,) else bound


def check_finite_bounds(attack: str, bounds: Any) -> tuple[Any, Any]:
    """Return bounds that an attack draws its points from."""
    low, high = check_bounds(bounds)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            f"{attack} draws its points between the bounds, which must be finite; found {bounds!s:.60}: give "
            "bounds=(lowest, highest)"
        )
    return low, high


def _full(images, bound):
    try:
        np.broadcast_to(bound, images.shape[1:])
        return np.broadcast_to(bound, images.shape).astype(np.float32)
    except ValueError:
        raise ValueError(
            f"bounds must be numbers, or broadcast to one image, of shape {images.shape[1:]}; found "
            f"shape {np.shape(bound)}: give one number per channel or column, along the last axis"
        ) from None


def check_box(images: np.ndarray, mask: Any, bounds: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits of every element: the bounds, and the image itself where the mask is false."""
    low, high = (_full(images, bound) for bound in check_bounds(bounds))
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


def check_labels(labels: Any, count: int, are_free: bool = False) -> np.ndarray:
    """Return the labels as an int32 array (count,), or where they are `are_free`, as an array with a row per image."""
    labels = np.asarray(labels)
    if are_free:
        if labels.ndim < 1 or len(labels) != count or labels.dtype.kind not in "biuf":
            raise ValueError(
                f"labels must be an array of numbers with one row for each of {count} images; found {labels.dtype} of "
                f"shape {labels.shape}: give what the loss and the criterion read"
            )
        return labels.astype({"f": np.float32, "b": bool}.get(labels.dtype.kind, np.int32))
    if labels.size == 1 < count:
        raise ValueError(
            f"labels must have shape ({count},), one class index per image; found {labels.shape}: for one image, give "
            "images[None] and [label]"
        )
    if labels.shape != (count,):
        raise ValueError(
            f"labels must have shape ({count},), one class index per image; found {labels.shape}: "
            "take argmax of one-hot rows, or give loss= and criterion= that read such labels"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integer class indices; found {labels.dtype}: convert them with astype(int)")
    return labels.astype(np.int32)


def check_image_ids(image_ids: Any, count: int) -> np.ndarray:
    """Return the images' numbers in their data set as a uint32 array (count,)."""
    image_ids = np.arange(count) if image_ids is None else np.asarray(image_ids)
    if image_ids.shape != (count,) or not np.issubdtype(image_ids.dtype, np.integer):
        raise ValueError(
            f"image_ids must be integers of shape ({count},), one per image; found {image_ids.dtype} "
            f"{image_ids.shape}: leave them out for 0 .. {count - 1}"
        )
    return image_ids.astype(np.uint32)


# ---------------------------------------------------------------- keys, budgets, norms, counts and lengths


def check_key(key: Any) -> jax.Array:
    """Return a key of the default generator: a fixed one for an attack that draws nothing, and a seed's or one like it.

    Keys of other generators draw for a whole batch at once, so that an image's draws would depend on its neighbors.
    """
    if key is None:
        return jax.random.key(0, impl=GENERATOR)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return jax.random.key(int(key), impl=GENERATOR)
    if not jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        if getattr(key, "dtype", None) != np.uint32 or np.shape(key) not in ((2,), (4,)):
            raise ValueError(f"key must be a JAX random key; found {key!s:.60}: make one with jax.random.key(0)")
        key = jax.random.wrap_key_data(jax.numpy.asarray(key), impl=GENERATOR if np.shape(key) == (2,) else "rbg")
    if key.shape:
        raise ValueError(
            f"key must be one key; found an array of shape {key.shape}: give key[0], from "
            "which an attack draws for each image by its number"
        )
    if str(jax.random.key_impl(key)) != GENERATOR:
        key = jax.random.wrap_key_data(jax.random.bits(key, (2,), np.uint32), impl=GENERATOR)
    return key


def check_budgets(epsilon: Any, count: int) -> tuple[np.ndarray, bool]:
    """Return budgets (K, count) in float64; true if the user gave an axis of several budgets."""
    try:
        budgets = np.asarray(epsilon, np.float64)
    except (TypeError, ValueError):
        budgets = np.array(np.nan)
    if not np.all(budgets >= 0):
        raise ValueError(
            f"epsilon must be a number of at least 0; found {epsilon!s:.60}: for images in [0, 1] try 8 / 255"
        )
    several = budgets.ndim == 2
    if budgets.shape not in ((), (count,)) and not (several and len(budgets) and budgets.shape[1] in (1, count)):
        raise ValueError(
            f"epsilon must be a number, one per image ({count},), or several budgets (K, 1) or "
            f"(K, {count}); found shape {budgets.shape}: add an axis with epsilon[:, None]"
        )
    if several and np.any(np.diff(budgets, axis=0) <= 0):
        raise ValueError(f"budgets must increase; found {budgets[:, 0].tolist()} for image 0: sort them")
    return np.broadcast_to(budgets, (len(budgets) if several else 1, count)), several


def excessive_budget(epsilons: Any, norm: Norm, images: np.ndarray, bounds: tuple[Any, Any]) -> str:
    """Say that within the largest finite budget every image is any other's neighbor; "" if none is."""
    whole, budgets = size_of_box(norm, images, bounds), np.asarray(epsilons, np.float64)
    largest = np.max(budgets, where=np.isfinite(budgets), initial=0)
    if largest <= whole:
        return ""
    low, high = bounds
    meant = f"pixels are in [{low:g}, {high:g}], so try {largest:g} / 255" if np.ndim(low) == np.ndim(high) == 0 else ""
    return (
        f"epsilon must be at most {whole:.4g} in {norm.name}, which takes any image to any other; "
        f"found {largest:g}: {meant or 'try less'}, or infinity for no budget"
    )


def size_of_box(norm: Norm, images: np.ndarray, bounds: tuple[Any, Any]) -> float:
    """Measure the way from one corner of the box to the other; infinite without bounds."""
    low, high = (_full(images[:1], bound).astype(np.float64) for bound in bounds)
    return float(norm.measure(high - low)[0]) if np.isfinite(high - low).all() else np.inf


def check_largest_budget(epsilons: Any, norm: Norm, images: np.ndarray, bounds: tuple[Any, Any]) -> None:
    """Refuse budgets within which every image is any other's neighbor."""
    if message := excessive_budget(epsilons, norm, images, check_bounds(bounds)):
        raise ValueError(message)


def check_norm(norm: Any, allowed: Sequence[Norm]) -> Norm:
    """Require one of the norms for which an attack is defined, and return it."""
    norm = as_norm(norm)
    if not isinstance(norm, Norm) or norm not in allowed:
        name = norm.name if isinstance(norm, Norm) else repr(norm)
        raise ValueError(
            f"norm must be one of {', '.join(known.name for known in allowed)}, Norms of diffprog.attack; "
            f"found {name}: choose one or another attack"
        )
    return norm


def check_switch(name: str, switch: Any) -> bool:
    """Return what switches an option on or off as a bool; 0 and 1 will do."""
    if np.ndim(switch) or isinstance(switch, str) or switch not in (False, True):
        raise ValueError(f"{name} must be True or False; found {switch!s:.60}: give one of them")
    return bool(switch)


def check_devices(devices: Any) -> list[jax.Device] | None:
    """Return devices, of which one will do, as a list; None for the default device."""
    if devices is None:
        return None
    several = devices if isinstance(devices, list | tuple | np.ndarray) else [devices]
    if not all(isinstance(device, jax.Device) for device in several):
        raise ValueError(f"devices must be devices of JAX; found {devices!s:.60}: try jax.devices()")
    return list(several)


def check_caption(progress: Any) -> str | None:
    """Return the caption of a progress bar, "attack" for True; None for no bar."""
    if progress is None or isinstance(progress, str):
        return progress
    return "attack" if check_switch("progress", progress) else None


def check_skip(skip: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return which rows (K, n) are not attacked; None for none."""
    skip = np.asarray(False if skip is None else skip)
    if skip.dtype != bool or skip.shape not in ((), shape, shape[1:], (1, *shape[1:])):
        raise ValueError(
            f"skip must be of booleans, one for each of {shape[1]} images, or of several budgets {shape}; found "
            f"{skip.dtype} of shape {skip.shape}: compare numbers with 0"
        )
    return np.broadcast_to(skip, shape)


def check_choice(choice: Any, allowed: Sequence[str], name: str) -> None:
    """Require one of the words that an argument knows."""
    if choice not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {choice!r}: choose one of them")


def check_counts(**counts: Any) -> None:
    """Require whole numbers of at least 1."""
    for name, count in counts.items():
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise ValueError(f"{name} must be a whole number of at least 1; found {count!r}: give one, or leave it out")


def check_positive(**numbers: Any) -> None:
    """Require finite numbers above zero."""
    for name, number in numbers.items():
        if not (_is_number(number) and np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number; found {number!r}: leave it out for the default")


def check_fractions(**numbers: Any) -> None:
    """Require numbers above zero that are at most 1."""
    for name, number in numbers.items():
        if not (_is_number(number) and 0 < number <= 1):
            raise ValueError(f"{name} must be a number in (0, 1]; found {number!r}: leave it out for the default")


def check_nonnegative(**numbers: Any) -> None:
    """Require finite numbers of at least 0."""
    for name, number in numbers.items():
        if not (_is_number(number) and np.isfinite(number) and number >= 0):
            raise ValueError(f"{name} must be a number of at least 0; found {number!r}: leave it out for the default")


def _is_number(value):
    kind = getattr(value, "dtype", np.dtype(type(value)) if isinstance(value, int | float) else np.dtype(object)).kind
    return np.ndim(value) == 0 and kind in "iuf"


def round_down_to_float32(epsilon: Any) -> np.ndarray:
    """Find the largest float32 that is not above `epsilon`: float32(8 / 255) itself is."""
    nearest = np.asarray(epsilon, np.float64).astype(np.float32)
    return np.where(nearest.astype(np.float64) <= epsilon, nearest, np.nextafter(nearest, np.float32(0)))
