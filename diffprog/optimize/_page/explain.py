"""`explain`: why optimizers do what they do on a function of two numbers, as numbers and as a page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.files import write_text
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.optimize._curvature import rates
from diffprog.optimize._page.families import Family, default_optimizers, families_table, run_families
from diffprog.optimize._page.grid import Grid, measure_grid
from diffprog.optimize._page.objectives import BUILT_IN, Objective, Stationary, find_minima
from diffprog.optimize._page.webpage import page_text
from diffprog.optimize._search.problem import prepare

GRID_SIZE = 65
MARGIN = 0.25  # of the window around start and minimum, beyond them


@dataclass(frozen=True)
class Explained:
    """One function of an `Explanation`.

    Attributes:
      name: a word.
      title: what a reader sees.
      formula: as text.
      labels: names of the two numbers.
      start: where the optimizers began, (2,).
      view: the window ((x low, x high), (y low, y high)).
      minima: those found in the window, the lowest first.
      families: what each optimizer did.
      precision: type of the numbers.
      settings: step size and momentum with which the page opens; None for those with the best rate.
      grid: the function on a grid; None if the page has its formula.
    """

    name: str
    title: str
    formula: str
    labels: tuple[str, str]
    start: tuple[float, float]
    view: tuple[tuple[float, float], tuple[float, float]]
    minima: tuple[Stationary, ...]
    families: tuple[Family, ...]
    precision: str
    settings: tuple[float, float] | None = None
    grid: Grid | None = None

    def numbers(self) -> dict[str, Any]:
        """Return what was measured, ready for JSON.

        Returns:
          A mapping: the function, its minima with curvatures and best settings, and each optimizer's path, values and
          counts.
        """
        return {
            "name": self.name,
            "title": self.title,
            "formula": self.formula,
            "labels": list(self.labels),
            "start": list(self.start),
            "view": [list(side) for side in self.view],
            "precision": self.precision,
            "settings": None if self.settings is None else list(self.settings),
            "minima": [_minimum_numbers(minimum) for minimum in self.minima],
            "families": [_family_numbers(family) for family in self.families],
        }


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
      functions: the caller's own function first, then those that everybody knows.
    """

    functions: tuple[Explained, ...]

    def _repr_html_(self) -> str:
        """Show the page in a notebook's cell. Its scripts see nothing of the notebook."""
        look = "width:100%;height:800px;border:1px solid #8884;border-radius:8px"
        page = escape(page_text(self.functions))
        return f'<iframe sandbox="allow-scripts" style="{look}" title="Why it works" srcdoc="{page}"></iframe>'

    def __str__(self) -> str:
        return "\n\n".join(_table(explained) for explained in self.functions)

    def numbers(self) -> dict[str, Any]:
        """Return all that was measured, ready for JSON.

        Returns:
          A mapping with a list `functions`; see `Explained.numbers`.
        """
        return {"functions": [explained.numbers() for explained in self.functions]}

    def html(self, path: str | Path | None = None) -> str | Path:
        """Write the page: one file that needs nothing else, no network and no program.

        One can drag the start, and set step size and momentum on the map of exact rates; see the families side by side
        against steps, evaluations and seconds, the floor that noise has, and eight ways to fail. The address keeps the
        settings.

        Args:
          path: the file to write, whole or not at all; None returns the text.

        Returns:
          The path that was written, or the text.
        """
        text = page_text(self.functions)
        return text if path is None else write_text(path, text)


@own_promotion()
def explain(
    function: Callable[[Any], Any] | None = None,
    start: Any = None,
    optimizers: Mapping[str, Any] | None = None,
    *,
    view: Sequence[Sequence[float]] | None = None,
    name: str | None = None,
    max_steps: int = 200,
    key: Any = None,
    well_known: bool = True,
    progress: str | None = None,
    engine: str = "diffprog",
) -> Explanation:
    """Explain by pictures and closed forms what optimizers do on a function of two numbers.

    The function's minima in a window and their curvatures are found, which give the exact rates of gradient descent,
    heavy ball and Nesterov. Each optimizer is run from the start, and what it asked is counted. `html` of the result
    makes a page of it that can be played with.

    Args:
      function: `function(parameters)`, a real scalar; None for the well-known functions alone.
      start: where to begin: a pytree with two real numbers, as an array (2,).
      optimizers: by name, as `minimize` takes them; by default gradient descent, heavy ball, Nesterov and Adam with the
        best of eight step sizes, and L-BFGS, trust region, CMA-ES and random search.
      view: window ((x low, x high), (y low, y high)); by default around start and minimum.
      name: title of the function; by default its own name.
      max_steps: steps of each optimizer.
      key: random key, or a seed, of what is drawn; 0 by default.
      well_known: whether the page also has six functions that everybody knows, among them Rosenbrock's and the one of
        Distill's article on momentum. These are run in float64.
      progress: caption of a progress bar; None shows none.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      What was measured; `html` makes the page, `numbers` is ready for JSON.

    Raises:
      ValueError: the function is not of two real numbers, or an argument cannot be used.
    """
    check_count(max_steps, "max_steps")
    key = random_key(0 if key is None else key)
    if function is None and not well_known:
        raise ValueError("there is nothing to explain: give a function, or leave well_known at True")
    names = list(default_optimizers() if optimizers is None else optimizers)
    num_functions = (function is not None) + len(BUILT_IN) * well_known
    with tqdm(total=num_functions * len(names), desc=progress, disable=progress is None) as bar:
        explained = []
        if function is not None:
            explained.append(_own(function, start, optimizers, view, name, max_steps, key, engine, bar))
        if well_known:
            with jax.enable_x64(True):
                explained += [_known(index, optimizers, max_steps, key, engine, bar) for index in range(len(BUILT_IN))]
    return Explanation(tuple(explained))


def _known(index, optimizers, max_steps, key, engine, bar) -> Explained:
    """Explain a well-known function. Which one is an argument of the compiled programs, which serve all of them."""
    objective, which = BUILT_IN[index], jnp.int32(index)

    def function(v):
        return jax.lax.switch(which, [other.function for other in BUILT_IN], v)

    oracle, start, unflatten = prepare(function, jnp.asarray(objective.start), None, engine, gives_residuals=False)
    return _explained(objective, ("x", "y"), oracle, start, unflatten, optimizers, max_steps, key, bar)


def _own(function, start, optimizers, view, name, max_steps, key, engine, bar) -> Explained:
    if start is None:
        raise ValueError("start is missing: give two numbers, where the optimizers begin, as jnp.array([-1.0, 2.0])")
    oracle, vector, unflatten = prepare(function, start, None, engine, gives_residuals=False)
    if len(vector) != 2:
        raise ValueError(
            f"explain draws functions of two real numbers; found {len(vector)} in the start: fix the others in a "
            "function of two, or draw a slice with optimize.landscape"
        )
    point = (float(vector[0]), float(vector[1]))
    title = name or getattr(function, "__name__", type(function).__name__).replace("<lambda>", "your function")
    window = _window(oracle, point) if view is None else _checked_view(view)
    objective = Objective("own", title, title, function, point, window)
    explained = _explained(objective, _labels(start), oracle, vector, unflatten, optimizers, max_steps, key, bar)
    if view is None:
        arrived = [family for family in explained.families if family.converged]
        best = min(arrived, key=lambda family: family.values[-1], default=None)
        paths, none = [family.path for family in explained.families], np.zeros((0, 2))
        # A minimum beyond the window widens it; where values fall for ever there is none.
        for ends in (none if best is None else best.path[-1:], none):
            wider = _around_paths(window, paths, ends)
            minima = find_minima(oracle, wider, np.concatenate([[point], ends]))
            if minima:
                break
        explained = replace(explained, view=wider, minima=tuple(minima))
    return replace(explained, grid=measure_grid(oracle, explained.view, GRID_SIZE))


def _around_paths(window, paths, ends) -> Any:
    """Widen a window until it holds the best end and most of what the optimizers visited near it."""
    sides = []
    visited = np.concatenate([np.zeros((0, 2)), *paths])
    for (low, high), column, end in zip(window, visited.T, ends.T, strict=True):
        low, high = min([low, *(end - 0.1 * np.abs(end - low))]), max([high, *(end + 0.1 * np.abs(end - high))])
        inside = column[(column > low - (high - low)) & (column < high + (high - low))]
        far = [low, high] if len(inside) == 0 else np.quantile(inside, [0.01, 0.99]).tolist()
        margin = 0.05 * (high - low)
        sides.append((float(min(low, far[0] - margin)), float(max(high, far[1] + margin))))
    return tuple(sides)


def _explained(objective, labels, oracle, start, unflatten, optimizers, max_steps, key, bar) -> Explained:
    minima = find_minima(oracle, objective.view, np.asarray(objective.start))
    (left, right), (bottom, top) = objective.view
    families = []
    chosen = default_optimizers() if optimizers is None else optimizers
    size = float(np.hypot(right - left, top - bottom))
    for family in run_families(oracle, start, unflatten, chosen, size, max_steps, key):
        families.append(family)
        bar.update()
    name, title, formula, _, point, view, settings = objective
    return Explained(
        name, title, formula, labels, point, view, tuple(minima), tuple(families), str(start.dtype), settings
    )


def _window(oracle, point) -> tuple[tuple[float, float], tuple[float, float]]:
    """Choose a window around the start and the minimum nearest to it."""
    x, y = point
    reach = max(1.0, abs(x), abs(y))
    wide = ((x - 2 * reach, x + 2 * reach), (y - 2 * reach, y + 2 * reach))
    minima = find_minima(oracle, wide, np.asarray(point))
    nearest = min(minima, key=lambda m: float(np.hypot(*(m.point - np.asarray(point)))), default=None)
    if nearest is None or np.hypot(*(nearest.point - np.asarray(point))) < 1e-3 * reach:
        return ((x - reach, x + reach), (y - reach, y + reach))
    sides = []
    for a, b in zip(point, nearest.point.tolist(), strict=True):
        half = max(abs(a - b) / 2, 0.25 * float(np.hypot(*(nearest.point - np.asarray(point)))))
        middle = (a + b) / 2
        sides.append((middle - half * (1 + 2 * MARGIN), middle + half * (1 + 2 * MARGIN)))
    return tuple(sides)  # type: ignore[return-value]


def _checked_view(view) -> tuple[tuple[float, float], tuple[float, float]]:
    sides = np.asarray(view, np.float64) if np.shape(view) == (2, 2) else np.zeros((2, 2))
    if not (np.all(np.isfinite(sides)) and np.all(sides[:, 0] < sides[:, 1])):
        raise ValueError(f"view must be ((x low, x high), (y low, y high)) with low < high; found {view!r:.80}")
    return tuple(tuple(side) for side in sides.tolist())  # type: ignore[return-value]


def _labels(start) -> tuple[str, str]:
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(start)]
    return (paths[0], paths[1]) if len(paths) == 2 and all(paths) else ("x", "y")


def _minimum_numbers(minimum: Stationary) -> dict[str, Any]:
    small, large = minimum.eigenvalues.tolist()
    return {
        "point": minimum.point.tolist(),
        "value": minimum.value,
        "hessian": minimum.hessian.tolist(),
        "eigenvalues": [small, large],
        "eigenvectors": minimum.eigenvectors.tolist(),
        "best": {method: rates.best(method, small, large)._asdict() for method in rates.METHODS},
    }


def _family_numbers(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "settings": family.settings,
        "converged": family.converged,
        "reason": family.reason,
        "seconds": float(f"{family.seconds:.3g}"),
        "path": _rounded(family.path),
        "values": _rounded(family.values),
        "counts": {name: column.tolist() for name, column in family.counts.items()},
        "ellipses": None if family.ellipses is None else _rounded(family.ellipses),
    }


def _rounded(array: np.ndarray) -> list:
    """Keep nine digits; what is not finite is None, as in JSON."""
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    return [float(f"{x:.9g}") if np.isfinite(x) else None for x in array.tolist()]


def _table(explained: Explained) -> str:
    lines = [f"{explained.title}, from ({explained.start[0]:g}, {explained.start[1]:g})"]
    for minimum in explained.minima[:3]:
        small, large = minimum.eigenvalues
        best = rates.best("heavy ball", small, large)
        lines.append(
            f"minimum {minimum.value:.6g} at ({minimum.point[0]:.6g}, {minimum.point[1]:.6g}), curvatures {small:.4g} "
            f"and {large:.4g}: heavy ball is stable up to alpha = (2 + 2 beta) / {large:.4g}, best at alpha "
            f"{best.alpha:.4g}, beta {best.beta:.4g}, factor {best.rate:.4g} a step"
        )
    return "\n".join([*lines, families_table(explained.families)])
