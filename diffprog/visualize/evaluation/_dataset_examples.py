"""Dataset examples: the crops of the user's own photographs that excite a unit most."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from diffprog import images as files
from diffprog._util.files import read_arrays, write_arrays
from diffprog._util.fingerprint import fingerprint
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.resumable import by_content, read_entry
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.images._files import with_channels
from diffprog.models import Model
from diffprog.visualize._rendering.fitting import picture_shape
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.evaluation._scorer import BATCH, scorer
from diffprog.visualize.objectives._base import Objective

MAX_OVERLAP = 0.25  # of two crops of one image that are both shown: the part of the smaller that lies in the larger
CROPPING = 1  # version of how crops are cut and measured; a cache of another version is made anew

Scorer = Callable[[np.ndarray], np.ndarray]  # from images (n, h, w, 3) to scores (objectives, n)
Photographs = str | Path | Iterable[str | Path | np.ndarray]


class Crop(NamedTuple):
    """A part of an image: the image's index and name, the part's first row and column, and its height and width."""

    image: int
    name: str
    top: int
    left: int
    height: int
    width: int


class DatasetExamples(NamedTuple):
    """How n objectives score m crops of photographs, and the crops that each scores highest.

    Attributes:
        objectives: Names of the objectives.
        crops: All crops that were measured.
        scores: Scores of all crops, (n, m).
        top_indices: For each objective, the indices of its top crops, highest score first.
        pictures: For each objective, its top crops as (number of crops, height, width, channels) in [0, 1].
        others: For each objective, as many crops evenly spread over the lower half of its scores.
        skipped: A sentence for each file that could not be read.
    """

    objectives: tuple[str, ...]
    crops: tuple[Crop, ...]
    scores: np.ndarray
    top_indices: tuple[np.ndarray, ...]
    pictures: tuple[np.ndarray, ...]
    others: tuple[np.ndarray, ...]
    skipped: tuple[str, ...]

    @property
    def maximum(self) -> np.ndarray:
        """The highest score of each objective over all crops, (n,)."""
        return self.scores.max(axis=1)

    def quantile(self, values: np.ndarray | Sequence[float]) -> np.ndarray:
        """Compute the part of the crops that score at most a value.

        Args:
            values: One value for each objective, (n,).

        Returns:
            Parts in [0, 1], (n,).
        """
        return np.mean(self.scores <= np.reshape(values, (-1, 1)), axis=1)

    def neighbors(self, num_neighbors: int = 3) -> tuple[np.ndarray, ...]:
        """Find the objectives whose scores of the crops correlate most.

        Args:
            num_neighbors: Neighbors to find of each objective. There are fewer where too few correlations are
                positive, and none of an objective that scores all crops alike.

        Returns:
            For each objective, the indices of its neighbors, best first.
        """
        centered = self.scores - self.scores.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(centered, axis=1)
        alike = centered @ centered.T / np.maximum(np.outer(norms, norms), 1e-12)
        np.fill_diagonal(alike, -1)
        return tuple(
            order[row[order] > 1e-6][:num_neighbors]
            for row, order in zip(alike, np.argsort(-alike, axis=1, kind="stable"), strict=True)
        )


@answers_names(MEANT)
@own_promotion()
def top_activating_crops(
    model: Model,
    objectives: Objective | Sequence[Objective],
    photographs: Photographs,
    *,
    num_crops: int = 9,
    size: int | tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0, 0.6, 0.36),
    max_per_image: int = 2,
    cache: str | Path | None = None,
    progress: str | None = None,
) -> DatasetExamples:
    """Find the crops of the user's images on which each objective scores highest.

    Files that cannot be read and exact copies are skipped, with a warning that names them.

    Args:
        model: The network.
        objectives: One objective, or several.
        photographs: A folder, which is searched with its subfolders; or a list of image files, or of arrays
            (height, width, channels) or (height, width) in [0, 1]. For a network of one channel, files and arrays in
            color are brought to their brightness.
        num_crops: Crops to show for each objective. There are fewer where not so many differ enough.
        size: Side in pixels, or (height, width), to which crops are scaled before they are measured; the model's if
            None. To compare with a picture, give the picture's.
        scales: Sides of the crops as parts of those of the largest in the image, which has the proportions of `size`,
            in (0, 1]. Neighbors lie half a side apart. No crop is enlarged more than twofold, but the largest is always
            taken.
        max_per_image: Shown crops that may come from one image; they overlap by at most a quarter.
        cache: A file (.npz) that keeps the scores. It serves again for equal image files, crops, objectives and model,
            by content, if the model scores two images of noise as before; otherwise it is written anew.
        progress: Caption of a progress bar; None for no bar.

    Returns:
        The crops, all their scores, and the pictures of the best.

    Raises:
        ValueError: If no image is left, for a folder that is none, for settings out of range, and for an objective
            that is not finite on a crop or that compares pictures with each other.
    """
    objectives = [objectives] if isinstance(objectives, Objective) else list(objectives)
    height, width, channels = picture_shape(model)
    sides = (height, width) if size is None else _sides(size)
    num_crops, max_per_image = check_count(num_crops, "num_crops"), check_count(max_per_image, "max_per_image")
    if not len(scales) or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales must be numbers in (0, 1], at least one; found {scales}")
    score = scorer(model, objectives)
    sources, skipped = _sources(photographs, channels)
    crops = _all_crops(sources, sides, scales)
    measure = lambda: _scores(score, crops, _each_crop(sources, crops, sides, channels), progress)
    if cache is None:
        scores = measure()
    else:
        noise = np.random.default_rng(0).uniform(size=(2, *sides, channels)).astype(np.float32)
        scores = _cached(Path(cache), _key(model, objectives, sources, crops, sides), score(noise), measure)
    for row, index in np.argwhere(~np.isfinite(scores))[:1]:
        raise ValueError(
            f"{objectives[row].name} is {scores[row, index]} on a crop of {crops[index].name}: crops "
            "cannot be ranked by it"
        )
    top = tuple(_top(row, crops, num_crops, max_per_image) for row in scores)
    lower = tuple(_lower_half(row, len(indices)) for row, indices in zip(scores, top, strict=True))
    indices = sorted({int(index) for chosen in top + lower for index in chosen})
    cut = dict(zip(indices, _each_crop(sources, [crops[index] for index in indices], sides, channels), strict=True))
    shown = lambda chosen: np.stack([cut[int(index)] for index in chosen])
    return DatasetExamples(
        objectives=tuple(objective.name for objective in objectives),
        crops=tuple(crops),
        scores=scores,
        top_indices=top,
        pictures=tuple(map(shown, top)),
        others=tuple(map(shown, lower)),
        skipped=tuple(skipped),
    )


def square_crops(
    photographs: Photographs,
    size: int | tuple[int, int],
    scales: Sequence[float] = (1.0, 0.6, 0.36),
    channels: int = 3,
) -> list[np.ndarray]:
    """Cut all crops of images, as `top_activating_crops` does.

    Args:
        photographs: A folder, or a list of image files or arrays.
        size: Side in pixels, or (height, width), to which crops are scaled.
        scales: Sides of the crops as parts of those of the largest in the image, in (0, 1].
        channels: Number of channels.

    Returns:
        Arrays (height, width, channels) in [0, 1].
    """
    sources, _ = _sources(photographs, channels)
    sides = _sides(size)
    return list(_each_crop(sources, _all_crops(sources, sides, scales), sides, channels))


def _sides(size):
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    return tuple(check_count(side, "size") for side in sides)


class _Source(NamedTuple):
    """An image that can be read."""

    name: str
    image: str | Path | np.ndarray
    shape: tuple[int, int]  # height and width


def _sources(photographs: Photographs, channels: int) -> tuple[list[_Source], list[str]]:
    """List the readable images, each content once, and sentences that say what is wrong with the others."""
    if isinstance(photographs, str | Path):
        folder = Path(photographs)
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give a folder of images, or a list of image files")
        known = Image.registered_extensions()
        visible = lambda path: not any(part.startswith(".") for part in path.relative_to(folder).parts)
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
        paths = [path for path in paths if visible(path)]  # a Mac's archives have ._a.png beside a.png
        if not paths:
            raise ValueError(f"there is no image file in {folder}; give a folder with photographs")
        named: list[tuple[str, str | Path | np.ndarray]] = [(str(path.relative_to(folder)), path) for path in paths]
    else:
        named = [
            (str(image), image) if isinstance(image, str | Path) else (f"image {index}", image)
            for index, image in enumerate(photographs)
        ]
    sources, skipped, seen = [], [], set()
    for name, image in named:
        try:
            pixels = files.to_bytes(_pixels(image, channels, name))
        except files.ImageError as error:
            skipped.append(str(error))
            continue
        content = fingerprint(pixels)
        if content in seen:
            skipped.append(f"{name}: the same picture as one before it")
            continue
        seen.add(content)
        sources.append(_Source(name, image, pixels.shape[:2]))
    for sentence in skipped:
        warn(f"skipped {sentence}")
    if not sources:
        raise ValueError(f"none of the {len(named)} images can be used; {'; '.join(skipped[:1]) or 'give some'}")
    return sources, skipped


def _pixels(image: str | Path | np.ndarray, channels: int, name: str) -> np.ndarray:
    """Read an image, or take the array, with a network's channels."""
    return with_channels(files.read_image(image) if isinstance(image, str | Path) else image, channels, name)


def _all_crops(sources: Sequence[_Source], size: tuple[int, int], scales: Sequence[float]) -> list[Crop]:
    """List the crops of all images."""
    return [
        crop for index, source in enumerate(sources) for crop in _crops(index, source.name, *source.shape, size, scales)
    ]


def _crops(
    index: int, name: str, height: int, width: int, size: tuple[int, int], scales: Sequence[float]
) -> list[Crop]:
    """List the crops of one image: windows of each size, half a side apart, the last ones flush with the edge."""
    largest = min(height / size[0], width / size[1])
    fitting = [tuple(max(round(scale * largest * side), 1) for side in size) for scale in scales]
    sides = sorted(set(fitting), reverse=True)
    sides = [side for side in sides if side[0] >= size[0] / 2] or sides[:1]
    starts = lambda length, side: sorted({*range(0, length - side, max(side // 2, 1)), length - side})
    return [
        Crop(index, name, top, left, *side)
        for side in sides
        for top in starts(height, side[0])
        for left in starts(width, side[1])
    ]


def _scores(score: Scorer, crops: list[Crop], pixels: Iterator[np.ndarray], progress: str | None) -> np.ndarray:
    """Score every crop by every objective, in batches that are filled across images."""
    rows: list[np.ndarray] = []
    with tqdm(total=len(crops), desc=progress, disable=progress is None) as bar:
        while batch := list(islice(pixels, BATCH)):
            filled = batch + batch[-1:] * (BATCH - len(batch) if rows else 0)  # one shape, compiled once
            rows.append(score(np.stack(filled))[:, : len(batch)])
            bar.update(len(batch))
    return np.concatenate(rows, axis=1)


def _each_crop(
    sources: Sequence[_Source], crops: Iterable[Crop], size: tuple[int, int], channels: int
) -> Iterator[np.ndarray]:
    """Yield the pixels of crops at the wanted size, in order, and read each image once."""
    current, image = None, np.empty(0)
    for crop in crops:
        if crop.image != current:
            current, image = crop.image, _pixels(sources[crop.image].image, channels, crop.name)
        part = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        yield files.resize(part, *size)


def _top(scores: np.ndarray, crops: Sequence[Crop], num_crops: int, max_per_image: int) -> np.ndarray:
    """Rank the crops of the highest scores that hardly overlap: indices, best first."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        same_image = [crops[other] for other in chosen if crops[other].image == crops[index].image]
        apart = all(_overlap(crops[index], other) <= MAX_OVERLAP for other in same_image)
        if len(same_image) < max_per_image and apart:
            chosen.append(int(index))
        if len(chosen) == num_crops:
            break
    return np.array(chosen)


def _overlap(a: Crop, b: Crop) -> float:
    """Compute the part of the smaller crop that lies in the other."""
    rows = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    columns = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    return max(rows, 0) * max(columns, 0) / min(a.height * a.width, b.height * b.width)


def _lower_half(scores: np.ndarray, num_crops: int) -> np.ndarray:
    """Choose crops evenly spread over the lower half of the scores (over all of them for a single crop)."""
    order = np.argsort(scores, kind="stable")[: max(len(scores) // 2, 1)]
    return order[np.unique(np.linspace(0, len(order) - 1, num_crops).round().astype(int))]


def _cached(path: Path, key: str, probe: np.ndarray, measure: Callable[[], np.ndarray]) -> np.ndarray:
    """Read the scores of an equal key, or measure and keep them. `probe` tells models apart, up to rounding."""
    is_current = lambda entry: entry["key"] == key and np.allclose(entry["probe"], probe, rtol=1e-3, atol=1e-4)
    if (entry := read_entry(path, read_arrays, is_current)) is None:
        entry = {"key": np.array(key), "probe": probe, "scores": measure()}
        write_arrays(path, entry)
    return entry["scores"]


def _key(
    model: Model,
    objectives: Sequence[Objective],
    sources: Sequence[_Source],
    crops: Sequence[Crop],
    size: tuple[int, int],
) -> str:
    """Take the fingerprint of all that scores depend on."""
    made_by = by_content((model, list(objectives)), "[model, objectives]")
    images = [source.image for source in sources]
    contents = [fingerprint(Path(i).read_bytes() if isinstance(i, str | Path) else np.asarray(i)) for i in images]
    return fingerprint(CROPPING, size, made_by, crops, contents)
