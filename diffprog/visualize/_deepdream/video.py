"""Dream films: each frame zooms into the one before, and is dreamt on."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from diffprog._util.files import check_writable, replacing
from diffprog._util.fingerprint import fingerprint
from diffprog._util.random_keys import random_key
from diffprog._util.resumable import ResumableFolder, by_content, describe, read_entry, versions
from diffprog._util.spelling import answers_names
from diffprog.images import save_png, to_bytes, to_rgb
from diffprog.images._files import with_channels
from diffprog.models import Model
from diffprog.visualize._deepdream.dream import dream
from diffprog.visualize._picture_files import HELD, keep_values, read_picture
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.objectives._base import Objective

FORMATS = {".gif": "GIF", ".webp": "WEBP"}


@answers_names(MEANT, passes_to=dream)
def dream_video(
    model: Model,
    objective: Objective,
    photograph: np.ndarray,
    path: str | Path,
    *,
    key: jax.Array,
    folder: str | Path | None = None,
    num_frames: int = 60,
    zoom: float = 1.04,
    rotate: float = 0.0,
    frames_per_second: float = 12.0,
    progress: str | None = None,
    **options: Any,
) -> Path:
    """Write a film that falls into a photograph without end.

    Each frame is dreamt from the one before, which is enlarged about its center, turned, and brought back to the
    contrast of the first. A frame's randomness is `key` folded with its index.

    Args:
        model: The network that dreams.
        objective: What each frame shows more of.
        photograph: Where the film begins, an array (height, width, channels) in [0, 1]; it is shown as by
            `images.to_rgb`.
        path: The film's file, which ends in .gif or .webp (smaller, and of all colors).
        key: A random key.
        folder: Where finished frames are kept as PNG; `path` without its suffix if None. After an interruption, the
            film goes on behind the last finished frame, and is the one that it would have been; a damaged frame is
            dreamt again, and a warning names it.
        num_frames: Number of frames, at least 1.
        zoom: Factor from frame to frame, in [0.5, 2]. Below 1, the picture recedes and its reflection surrounds it.
        rotate: Degrees from frame to frame, counterclockwise.
        frames_per_second: Speed of the film, in (0, 50].
        progress: Caption of a progress bar with the time left; None for no bar.
        **options: Options of `dream`, for every frame. A mask stays where it is.

    Returns:
        The path of the film.

    Raises:
        ValueError: For what `dream` refuses, for another suffix or numbers out of range, for a folder that cannot be
            written, and for one that holds frames of another network, objective, photograph or other settings.

    References:
        Mordvintsev, Olah, Tyka. Inceptionism: Going Deeper into Neural Networks. 2015.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a film is written as .gif or .webp; found {path.name}")
    if num_frames < 1 or not 0.5 <= zoom <= 2 or not 0 < frames_per_second <= 50:
        raise ValueError(
            "num_frames must be at least 1, zoom in [0.5, 2] and frames_per_second in (0, 50]; "
            f"found num_frames={num_frames}, zoom={zoom}, frames_per_second={frames_per_second}"
        )
    picture = model.check_image(photograph)
    manifest = _manifest(model, objective, picture, key, {"zoom": zoom, "rotate": rotate, **options})
    folder = Path(folder or path.with_suffix(""))
    for place in (folder, path.parent):
        check_writable(place, "folder")
    film = ResumableFolder(folder, manifest, holds="frames of a film", suffix=".png", name="film.json")
    names = [f"{index:05d}" for index in range(num_frames)]
    for index, name in enumerate(tqdm(names, desc=progress, disable=progress is None, unit="frame")):
        if not (film.has(name) and read_entry(film.path(name), read_picture, lambda _: True) is not None):
            if index > 0:
                frames = (read_picture(film.path(frame)) for frame in (names[index - 1], names[0]))
                before, first = (with_channels(frame, model.channels) for frame in frames)
                picture = steadied(zoomed(before, zoom, rotate), first)
            frame = dream(model, objective, picture, key=jax.random.fold_in(random_key(key), index), **options).image
            film.write(name, partial(_save_frame, image=frame))
    return _save(path, [film.path(name) for name in names], frames_per_second)


def _save_frame(path: Path, image: np.ndarray) -> None:
    """Write a frame, which the film shows in red, green and blue, or gray."""
    keep_values(path, image)
    save_png(path, image if image.shape[-1] in HELD else to_rgb(image))


def _manifest(
    model: Model, objective: Objective, picture: np.ndarray, key: jax.Array, options: dict[str, Any]
) -> dict[str, Any]:
    """Describe all that makes a film's frames."""
    manifest = {
        "network": model.name,
        "network by content": by_content(model, "network"),
        "objective": objective.name,
        "objective by content": by_content(objective, "objective"),
        "photograph": fingerprint(picture),
        "key": describe(key),
        "versions": versions(),
    }
    return manifest | describe({name: option for name, option in options.items() if name not in ("engine", "progress")})


def steadied(image: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Give an image the mean and deviation of each color in the first frame, else contrast would run away."""
    relative = (image - image.mean((0, 1))) / np.maximum(image.std((0, 1)), 1e-3)
    return (first.mean((0, 1)) + first.std((0, 1)) * relative).clip(0, 1)


def zoomed(image: np.ndarray, zoom: float, rotate: float) -> np.ndarray:
    """Enlarge and turn an image (h, w, c) about its center, at its size; beyond the edge, it is reflected."""
    height, width = image.shape[:2]
    margin = int(np.hypot(height, width) / zoom)  # more than any position in the result is outside
    padded = np.pad(to_bytes(image), [(margin, margin), (margin, margin), (0, 0)], "symmetric")
    angle = np.deg2rad(rotate)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom  # of (x, y), y downwards
    center = np.array([width, height]) / 2
    shift = center + margin - turn @ center
    coefficients = (*turn[0], shift[0], *turn[1], shift[1])
    moved = [
        np.asarray(
            Image.fromarray(plane).transform(
                (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
            )
        )
        for plane in np.moveaxis(padded, -1, 0)
    ]
    return np.stack(moved, axis=-1).astype(np.float32) / 255


def _save(path: Path, files: list[Path], frames_per_second: float) -> Path:
    """Write the film from its frames' files; returns its path."""
    first, *others = (Image.open(file).convert("RGB") for file in files)
    with replacing(path) as file:
        first.save(
            file,
            format=FORMATS[path.suffix.lower()],
            save_all=True,
            append_images=others,
            duration=round(1000 / frames_per_second),
            loop=0,
            quality=85,
        )
    return path
