"""Natural examples: what excites a unit most among crops of the user's own photographs."""

import hashlib
import warnings
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from diffprog import images as files
from diffprog._util.files import replacing
from diffprog.visualize.evaluation._batched import BATCH, scorer
from diffprog.visualize.objectives._base import Objective

OVERLAP = 0.25  # of two crops of one image that are both shown, at most this part of the smaller lies in the larger
RULE = 1  # of how crops are cut and measured; a cache made by another rule is made anew


class Crop(NamedTuple):
    """A square of `side` pixels of an image, its first row and column, and the image's number and name."""

    image: int
    name: str
    top: int
    left: int
    side: int


class NaturalExamples(NamedTuple):
    """objectives: their n names. crops: all m that were measured. scores: (n, m).
    best: for each objective, the numbers of its top crops, highest score first.
    pictures: for each objective, its top crops as (count, size, size, 3) in [0, 1].
    others: likewise, crops evenly spread over the lower half of its scores.
    skipped: a sentence for each file that could not be read.
    """

    objectives: tuple[str, ...]
    crops: tuple[Crop, ...]
    scores: np.ndarray
    best: tuple[np.ndarray, ...]
    pictures: tuple[np.ndarray, ...]
    others: tuple[np.ndarray, ...]
    skipped: tuple[str, ...]

    @property
    def maximum(self):
        """The highest natural score of each objective, (n,)."""
        return self.scores.max(axis=1)

    def quantile(self, values):
        """The part of the natural crops that score at most `values`, one value for each objective, (n,)."""
        return np.mean(self.scores <= np.reshape(values, (-1, 1)), axis=1)

    def neighbors(self, count=3):
        """For each objective, the numbers of those whose scores of the crops correlate most with its own, best first.

        Correlations that are not positive, or of an objective that scores all crops alike, make no neighbor.
        """
        centered = self.scores - self.scores.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(centered, axis=1)
        alike = centered @ centered.T / np.maximum(np.outer(norms, norms), 1e-12)
        np.fill_diagonal(alike, -1)
        return tuple(
            order[row[order] > 1e-6][:count]
            for row, order in zip(alike, np.argsort(-alike, axis=1, kind="stable"), strict=True)
        )


def top_crops(
    model,
    objectives,
    photographs,
    *,
    count=9,
    size=None,
    scales=(1.0, 0.6, 0.36),
    per_image=2,
    cache=None,
    progress=None,
):
    """The crops of the user's images on which each objective scores highest.

    objectives:  one `Objective`, or a list.
    photographs: a folder (searched with its subfolders), or a list of image files, or of arrays (h, w, 3) in [0, 1].
    count:       crops to show for each objective; fewer where there are not so many different ones.
    size:        the side to which crops are scaled before they are measured; the model's unless given. To compare with
                 a picture, take the picture's.
    scales:      sides of the square crops, as parts of the image's shorter side; neighbors are half a side apart. A
                 crop is never enlarged more than twofold, but the largest is always taken.
    per_image:   at most so many shown crops come from one image, and they overlap by at most a quarter.
    cache:       a file (.npz) that keeps the scores. It serves again for the same image files, crops and names of
                 objectives, if the model scores two images of noise as it did then; else it is written anew.
    progress:    a caption, which switches on a progress bar.

    Files that cannot be read are skipped with a warning that names them, and so are exact copies. Raises ValueError
    if no image is left, for a folder that is none, and for settings out of range.
    """
    objectives = [objectives] if isinstance(objectives, Objective) else list(objectives)
    size = size or model.size
    if count < 1 or per_image < 1 or not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(
            f"count and per_image must be at least 1 and scales in (0, 1]; found {count}, {per_image}, {scales}"
        )
    score = scorer(model, objectives)
    sources, skipped = _sources(photographs)
    crops = [
        crop
        for number, source in enumerate(sources)
        for crop in _crops(number, source.name, *source.shape, size, scales)
    ]
    measure = lambda: _scores(score, sources, crops, size, progress)
    scores = measure() if cache is None else _cached(Path(cache), score, objectives, sources, crops, size, measure)
    for row, number in np.argwhere(~np.isfinite(scores))[:1]:
        raise ValueError(
            f"{objectives[row].name} is {scores[row, number]} on a crop of {crops[number].name}: crops "
            "cannot be ranked by it"
        )
    best = tuple(_best(row, crops, count, per_image) for row in scores)
    others = tuple(_lower_half(row, len(top)) for row, top in zip(scores, best, strict=True))
    cut = _cut(sources, crops, {int(number) for numbers in best + others for number in numbers}, size)
    shown = lambda numbers: np.stack([cut[int(number)] for number in numbers])
    return NaturalExamples(
        tuple(each.name for each in objectives),
        tuple(crops),
        scores,
        best,
        tuple(map(shown, best)),
        tuple(map(shown, others)),
        tuple(skipped),
    )


class _Source(NamedTuple):
    name: str
    image: str | Path | np.ndarray
    shape: tuple[int, int]  # height and width


def _sources(photographs):
    """The readable images, each content once; and what was wrong with the others."""
    if isinstance(photographs, str | Path):
        folder = Path(photographs)
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give a folder of images, or a list of image files")
        known = Image.registered_extensions()
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
        if not found:
            raise ValueError(f"there is no image file in {folder}; give a folder with photographs")
        named = [(str(path.relative_to(folder)), path) for path in found]
    else:
        named = [
            (str(image), image) if isinstance(image, str | Path) else (f"image {number}", image)
            for number, image in enumerate(photographs)
        ]
    sources, skipped, seen = [], [], set()
    for name, image in named:
        try:
            pixels = files.to_bytes(_pixels(image))
            if pixels.ndim != 3 or pixels.shape[-1] != 3:
                raise files.ImageError(f"{name}: an image has shape (height, width, 3); found {pixels.shape}")
        except files.ImageError as error:
            skipped.append(str(error))
            continue
        content = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        if content in seen:
            skipped.append(f"{name}: the same picture as one before it")
            continue
        seen.add(content)
        sources.append(_Source(name, image, pixels.shape[:2]))
    for sentence in skipped:
        warnings.warn(f"skipped {sentence}", stacklevel=3)
    if not sources:
        raise ValueError(f"none of the {len(named)} images can be used; give photographs that Pillow can read")
    return sources, skipped


def _pixels(image):
    return files.read_image(image) if isinstance(image, str | Path) else np.asarray(image, np.float32)


def _crops(number, name, height, width, size, scales):
    """The crops of one image: windows of each side, half a side apart, the last ones flush with the edge."""
    short = min(height, width)
    sides = sorted({round(scale * short) for scale in scales}, reverse=True)
    sides = [side for side in sides if side >= size / 2] or sides[:1]
    starts = lambda length, side: sorted({*range(0, length - side, max(side // 2, 1)), length - side})
    return [
        Crop(number, name, top, left, side)
        for side in sides
        for top in starts(height, side)
        for left in starts(width, side)
    ]


def _scores(score, sources, crops, size, progress):
    """Every objective's score of every crop, an image at a time, batches filled across images."""
    rows, waiting = [], []
    with tqdm(total=len(crops), desc=progress, disable=progress is None) as bar:
        for crop, pixels in _each_crop(sources, crops, size):
            waiting.append(pixels)
            if len(waiting) == BATCH or crop is crops[-1]:
                filled = waiting + [pixels] * (BATCH - len(waiting) if rows else 0)  # one shape, compiled once
                rows.append(score(np.stack(filled))[:, : len(waiting)])
                bar.update(len(waiting))
                waiting = []
    return np.concatenate(rows, axis=1)


def _each_crop(sources, crops, size):
    """(crop, its pixels at the wanted size) in order, each image read once."""
    number = None
    for crop in crops:
        if crop.image != number:
            number, image = crop.image, _pixels(sources[crop.image].image)
        square = image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        yield crop, files.resize(square, size, size)


def _cut(sources, crops, numbers, size):
    """{number: pixels} of some crops."""
    numbers = sorted(numbers)
    cut = _each_crop(sources, [crops[number] for number in numbers], size)
    return {number: pixels for number, (_, pixels) in zip(numbers, cut, strict=True)}


def _best(scores, crops, count, per_image):
    """The highest scores whose crops are not much of the same: numbers, best first."""
    chosen = []
    for number in np.argsort(-scores, kind="stable"):
        rivals = [crops[other] for other in chosen if crops[other].image == crops[number].image]
        if len(rivals) < per_image and all(_overlap(crops[number], rival) <= OVERLAP for rival in rivals):
            chosen.append(int(number))
        if len(chosen) == count:
            break
    return np.array(chosen)


def _overlap(a, b):
    """What part of the smaller crop lies in the other."""
    rows = min(a.top + a.side, b.top + b.side) - max(a.top, b.top)
    columns = min(a.left + a.side, b.left + b.side) - max(a.left, b.left)
    return max(rows, 0) * max(columns, 0) / min(a.side, b.side) ** 2


def _lower_half(scores, count):
    """Numbers of crops evenly spread over the lower half of the scores (all of them for a single crop)."""
    order = np.argsort(scores, kind="stable")[: max(len(scores) // 2, 1)]
    return order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]


def _cached(path, score, objectives, sources, crops, size, measure):
    """`measure()`, or what it gave when the same was asked before."""
    noise = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype(np.float32)
    asked = hashlib.sha256(repr((RULE, size, [each.name for each in objectives], crops)).encode())
    for _, image, _ in sources:
        asked.update(Path(image).read_bytes() if isinstance(image, str | Path) else np.asarray(image).tobytes())
    probe, asked = score(noise), np.frombuffer(asked.digest(), np.uint8)
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                if np.array_equal(kept["asked"], asked) and np.allclose(kept["probe"], probe, rtol=1e-3, atol=1e-4):
                    return kept["scores"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass  # not a cache, or one that is damaged: it is replaced below
    scores = measure()
    with replacing(path) as file:
        np.savez(file, asked=asked, probe=probe, scores=scores)
    return scores


def every_crop(photographs, size, scales=(1.0, 0.6, 0.36)):
    """All square crops of images, as `top_crops` takes and cuts them: a list of arrays (size, size, 3) in [0, 1]."""
    sources, _ = _sources(photographs)
    crops = [
        crop
        for number, source in enumerate(sources)
        for crop in _crops(number, source.name, *source.shape, size, scales)
    ]
    return [pixels for _, pixels in _each_crop(sources, crops, size)]
