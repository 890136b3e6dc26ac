"""`landscape`: an objective's values on a line or a plane through a point."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog.optimize._landscape import picture, webpage
from diffprog.optimize._landscape.directions import Directions, filter_normalized, hessian, pca, stack
from diffprog.optimize._search.flat import flatten
from diffprog.optimize._search.oracle import Counts
from diffprog.optimize._search.problem import prepare

WORDS = ("random", "pca", "hessian")
SCALES = ("auto", "linear", "log")
MARGIN = 0.15  # room around a path, as a fraction of its extent


@dataclass(frozen=True)
class Landscape:
    """Values of an objective on a line or a plane, center + x * first direction + y * second direction.

    Attributes:
      values: (k,) along a line; (k, m) on a plane, rows of equal y, from the lowest y on.
      coordinates: (x,) or (x, y), ascending.
      directions: the directions, with names and notes.
      center_value: at the center.
      path: (T, 1 or 2), the projected path; None without one.
      path_distances: (T,), Euclidean distances of the path's points from the line or plane.
      path_values: (T,), of the objective at the path's own points, which may lie off the plane.
      scale: of the colors: "linear", "log", or "auto" for log where most values are crowded at the lower end.
    """

    values: np.ndarray
    coordinates: tuple[np.ndarray, ...]
    directions: Directions
    center_value: float
    path: np.ndarray | None = None
    path_distances: np.ndarray | None = None
    path_values: np.ndarray | None = None
    scale: str = "auto"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a picture has to know."""
        notes = list(self.directions.notes)
        if self.path is not None and self.path_distances is not None:
            away = self.path_distances.max()
            if away > 1e-6 * np.abs(self.path).max():
                notes.append(f"the path's points are up to {away:.3g} away from what is shown")
        lost = int(np.sum(~np.isfinite(self.values)))
        if lost:
            notes.append(f"{lost} of {self.values.size} values are not finite")
        return tuple(notes)

    def png(self, path: str | Path | None = None, *, title: str = "", width: int = 900) -> bytes | Path:
        """Draw the values: a curve, or colors with contours, and the path.

        Args:
          path: the file to write; None returns the bytes.
          title: above the picture.
          width: in pixels.

        Returns:
          The PNG, or the path that was written.

        Raises:
          ImportError: matplotlib is not installed.
        """
        return picture.png(self, path, title, width)

    def animation(
        self,
        path: str | Path,
        *,
        title: str = "",
        width: int = 600,
        max_frames: int = 60,
        frames_per_second: float = 12.0,
    ) -> Path:
        """Write a film of the path as it grows.

        Args:
          path: the file, which ends in .gif, .webp or .png (an animated PNG).
          title: above the picture.
          width: in pixels.
          max_frames: points of the path that are shown at most, evenly chosen.
          frames_per_second: speed; the last frame stays for a second.

        Returns:
          The path that was written.

        Raises:
          ValueError: there is no path, or the file's ending is another.
          ImportError: matplotlib is not installed.
        """
        return picture.animation(self, path, title, width, max_frames, frames_per_second)

    def html(self, path: str | Path | None = None, *, title: str = "Landscape") -> str | Path:
        """Write a page to explore: colors, contours, a surface that turns, and the path step by step.

        Args:
          path: the file to write; None returns the text.
          title: of the page.

        Returns:
          The text, or the path that was written.
        """
        return webpage.html(self, path, title)


@own_promotion()
def landscape(
    objective: Callable[..., Any],
    center: Any,
    directions: Any = "random",
    *,
    data: Any = None,
    path: Any = None,
    extent: Any = None,
    num_points: int = 41,
    scale: str = "auto",
    batch_size: int = 64,
    key: Any = 0,
) -> Landscape:
    """Evaluate an objective on a line or a plane through a point.

    Args:
      objective: `objective(parameters)`, a real scalar; with `data`, `objective(parameters, data)`.
      center: parameters in the middle: a pytree. Leaves that are no arrays of floats or complex numbers stay.
      directions: "random" (filter-normalized), "pca" (of `path`), "hessian" (eigenvectors of the largest and smallest
        eigenvalue), a `Directions` of `optimize.directions`, or one or two pytrees like `center` in a list.
      data: what the objective takes beside the parameters.
      path: parameters along a run, drawn into the picture: a list of pytrees, or one with the points along a first
        axis.
      extent: how far to look along each direction: a number for both senses, or a pair (low, high), or one of these per
        direction in a list. By default 1 for random directions, what shows the path for others if there is one.
      num_points: points along each direction; an odd number has the center among them if the extent is symmetric.
      scale: of the colors: "linear", "log", or "auto" for log where most values are crowded at the lower end.
      batch_size: points that are evaluated together.
      key: random key, or a seed, of random directions.

    Returns:
      The values, to be drawn by `.png()`, `.animation()` or `.html()`.

    Raises:
      ValueError: an argument that cannot be used.

    References:
      Goodfellow, Vinyals & Saxe 2015, "Qualitatively characterizing neural network optimization problems".
      Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the loss landscape of neural nets".
    """
    num_points, batch_size = check_count(num_points, "num_points", least=2), check_count(batch_size, "batch_size")
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} is not known; use one of {', '.join(map(repr, SCALES))}")
    chosen = _directions(directions, objective, center, data, path, key)
    whole = objective if data is None else lambda parameters: objective(parameters, data)
    oracle, point, _ = prepare(whole, center, None, "diffprog", gives_residuals=False)
    basis = np.stack([np.asarray(flatten(vector)[0], np.float64) for vector in chosen.vectors])
    if basis.shape[1] != len(point):
        raise ValueError(
            f"directions must be pytrees like the center, of {len(point)} numbers; found {basis.shape[1]} numbers"
        )
    projected = distances = path_values = None
    if path is not None:
        points, _ = stack(path)
        offsets = points - np.asarray(point, np.float64)
        projected = np.linalg.lstsq(basis.T, offsets.T, rcond=None)[0].T
        distances = np.linalg.norm(offsets - projected @ basis, axis=1)
        path_values = np.asarray(_at(oracle, jnp.asarray(points, point.dtype), batch_size), np.float64)
    ranges = _ranges(extent, chosen, projected)
    coordinates = tuple(np.linspace(low, high, num_points) for low, high in ranges)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*coordinates)], axis=1)
    values = _on_plane(oracle, point, jnp.asarray(basis, point.dtype), jnp.asarray(grid, point.dtype), batch_size)
    return Landscape(
        values=np.asarray(values, np.float64).reshape([num_points] * len(coordinates)),
        coordinates=coordinates,
        directions=chosen,
        center_value=float(_at(oracle, point[None], 1)[0]),
        path=projected,
        path_distances=distances,
        path_values=path_values,
        scale=scale,
    )


@partial(jax.jit, static_argnames="batch_size")
def _on_plane(oracle, point, basis, grid, batch_size):
    value = lambda coordinates: oracle.value(point + coordinates @ basis, Counts.none())[0]
    return jax.lax.map(value, grid, batch_size=min(batch_size, len(grid)))


@partial(jax.jit, static_argnames="batch_size")
def _at(oracle, points, batch_size):
    value = lambda point: oracle.value(point, Counts.none())[0]
    return jax.lax.map(value, points, batch_size=min(batch_size, len(points)))


def _directions(directions: Any, objective, center, data, path, key) -> Directions:
    if isinstance(directions, Directions):
        return directions
    if isinstance(directions, str):
        if directions not in WORDS:
            raise ValueError(
                f"directions {directions!r} are not known; use one of {', '.join(map(repr, WORDS))}, or pytrees"
            )
        if directions == "pca" and path is None:
            raise ValueError('directions="pca" needs the path whose components are wanted: give path=')
        if directions == "pca":
            return pca(path)
        return (
            filter_normalized(center, key=key) if directions == "random" else hessian(objective, center, data, key=key)
        )
    structure: Any = jax.tree.structure(center)
    if jax.tree.structure(directions) == structure and not isinstance(center, list | tuple):
        directions = [directions]
    vectors = tuple(directions)
    if len(vectors) not in (1, 2) or any(jax.tree.structure(v) != structure for v in vectors):
        raise ValueError(
            f"directions must be one or two pytrees like the center, in a list; found {len(vectors)} of them, or of "
            "another structure"
        )
    return Directions(vectors, tuple(f"direction {i + 1}" for i in range(len(vectors))))


def _ranges(extent: Any, directions: Directions, path: np.ndarray | None) -> list[tuple[float, float]]:
    count = len(directions.vectors)
    if extent is None:
        reach = 1.0 if directions.reach is None else directions.reach
        if path is None:
            return [(-reach, reach)] * count
        low, high = np.minimum(path.min(axis=0), 0), np.maximum(path.max(axis=0), 0)
        if directions.reach is not None and np.all(np.maximum(-low, high) <= reach):
            return [(-reach, reach)] * count
        room = MARGIN * np.maximum(high - low, 0.1 * np.max(high - low, initial=1e-300))
        return [(float(a - r), float(b + r)) for a, b, r in zip(low, high, room, strict=True)]
    per_direction = extent if isinstance(extent, list) else [extent] * count
    ranges = [(-x, x) if np.ndim(x) == 0 else tuple(x) for x in per_direction]
    if len(ranges) != count or any(len(r) != 2 or not r[0] < r[1] for r in ranges):
        raise ValueError(
            f"extent must be a positive number or a pair (low, high), or a list of one for each of {count} directions; "
            f"found {extent!r:.60}"
        )
    return [(float(a), float(b)) for a, b in ranges]
