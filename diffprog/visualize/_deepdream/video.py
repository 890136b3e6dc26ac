"""A dream of a dream of a dream: each frame zooms into the one before, and is dreamt on."""

import json
from hashlib import sha256
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from diffprog._util.files import replacing, write_text
from diffprog.images import read_image, save_png, to_bytes
from diffprog.visualize._deepdream.dream import checked_photograph, dream

FORMATS = {".gif": "GIF", ".webp": "WEBP"}


def dream_video(
    model,
    objective,
    photograph,
    path,
    *,
    key,
    folder=None,
    frames=60,
    zoom=1.04,
    rotate=0.0,
    speed=12.0,
    progress=None,
    **options,
):
    """Write a film that falls into the photograph without end (Mordvintsev et al. 2015); returns its path.

    path:   ends in .gif or .webp (smaller, and of all colors).
    folder: where finished frames are kept as PNG, `path` without its suffix unless given. Run again after an
            interruption, the film goes on after the last finished frame, and is the one that would have been.
    frames: how many; each is dreamt from the one before, enlarged by `zoom` about the center (below 1: the picture
            recedes and is continued by its reflection), turned by `rotate` degrees, counterclockwise, and brought
            back to the contrast of the first.
    speed:  frames per second.
    progress: a caption, which switches on a progress bar with the time left.
    options: of `dream`, for every frame; a mask stays where it is.

    A frame's randomness is `key` folded with its number. Raises ValueError for what `dream` refuses, for another
    suffix, and for a folder that holds the frames of another film.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a film is written as .gif or .webp; found {path.name}")
    if frames < 1 or not 0.5 <= zoom <= 2 or not 0 < speed <= 50:
        raise ValueError(
            "frames must be at least 1, zoom in [0.5, 2] and speed in (0, 50]; "
            f"found frames={frames}, zoom={zoom}, speed={speed}"
        )
    picture = checked_photograph(model, photograph)
    folder = Path(folder or path.with_suffix(""))
    _claim(folder, _description(model, objective, picture, key, zoom=zoom, rotate=rotate, **options))
    files = [folder / f"{number:05d}.png" for number in range(frames)]
    for number, file in enumerate(tqdm(files, desc=progress, disable=progress is None, unit="frame")):
        if not file.exists():
            if number > 0:
                picture = steadied(zoomed(read_image(files[number - 1]), zoom, rotate), read_image(files[0]))
            own = jax.random.fold_in(key, number)
            save_png(file, dream(model, objective, picture, key=own, **options).image)
    return _save(path, files, speed)


def steadied(image, first):
    """The image with each color's mean and deviation in `first`: dream upon dream, contrast would run away."""
    over = dict(axis=(0, 1), keepdims=True)
    relative = (image - image.mean(**over)) / np.maximum(image.std(**over), 1e-3)
    return (first.mean(**over) + first.std(**over) * relative).clip(0, 1)


def zoomed(image, zoom, rotate):
    """The image (h, w, c) enlarged and turned about its center, at its own size; beyond the edge, its reflection."""
    height, width = image.shape[:2]
    margin = int(np.hypot(height, width) / zoom)  # more than any position in the result is outside
    padded = np.pad(to_bytes(image), [(margin, margin), (margin, margin), (0, 0)], "symmetric")
    angle = np.deg2rad(rotate)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom  # of (x, y), y downwards
    center = np.array([width, height]) / 2
    shift = center + margin - turn @ center
    coefficients = (*turn[0], shift[0], *turn[1], shift[1])
    moved = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(moved, np.float32) / 255


def _description(model, objective, photograph, key, **options):
    """What a frame depends on, as text: JSON, arrays by their digest."""
    digest = lambda array: sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    unit = lambda term: sha256(repr(term.key).encode()).hexdigest()
    told = lambda value: digest(value) if isinstance(value, np.ndarray) else value
    terms = [(term.name, unit(term), weight) for term, weight in objective.weights.items()]
    told_options = {name: told(value) for name, value in options.items()}
    described = {
        "network": model.name,
        "objective": terms,
        "photograph": digest(photograph),
        "size": photograph.shape[:2],
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        **told_options,
    }
    return json.dumps(described, indent=2, default=str) + "\n"


def _claim(folder, description):
    """Mark the folder as this film's, or see that it is."""
    note = folder / "film.json"
    same = note.exists() and note.read_text(encoding="utf-8") == description
    if not same and any(folder.glob("*.png")):
        raise ValueError(f"{folder} holds frames of another film: give another folder, or remove this one")
    write_text(note, description)


def _save(path, files, speed):
    first, *others = (Image.open(file).convert("RGB") for file in files)
    with replacing(path) as file:
        first.save(
            file,
            format=FORMATS[path.suffix.lower()],
            save_all=True,
            append_images=others,
            duration=round(1000 / speed),
            loop=0,
            quality=85,
        )
    return path
