"""All scores of a picture, in a record."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import jax
import numpy as np

from diffprog._util.promotion import own_promotion
from diffprog.models import Model
from diffprog.visualize.evaluation import _metrics as metrics
from diffprog.visualize.evaluation._dataset_examples import DatasetExamples
from diffprog.visualize.evaluation._scorer import scorer
from diffprog.visualize.objectives._base import PICTURE, Objective
from diffprog.visualize.transforms import Transform

SHOWN = 8  # layers through which a picture's path is followed, unless named


@dataclass(frozen=True)
class Scores:
    """Measures of one picture of one objective; nan where one cannot be given. `str()` is a row under `HEADER`.

    Attributes:
      activation: The objective's score of the picture, untransformed.
      natural_maximum: The highest score of the natural crops.
      natural_ratio: `activation` over `natural_maximum`; nan unless the maximum is positive.
      quantile: The share of the natural crops that score at most as much.
      robust_ratio: The mean score under fresh transforms over the activation (`robust_ratio`).
      path_similarity: Likeness to the top natural crops in all layers of the path together; nan where the crops are too
        few or too unlike to set a scale.
      slope: Slope of the spectrum (`spectral_slope`).
      natural_slope: Its mean for the natural crops, top and others.
      high_frequency: Share of high frequencies (`high_frequency_share`).
      natural_high_frequency: Its mean for the natural crops, top and others.
      color_distance: Distance between the colors of the picture and of the crops (`color_distance`).
      seed_stability: Likeness of pictures from other keys (`seed_stability`).
      steps: Updates until the rendering's score first reached the natural maximum (`first_step_at`).
      seconds: The time that these took.
      path: {layer: likeness to the top natural crops} (`Likeness.normalized`).
      transfer: What other networks say of the picture of a class.
    """

    activation: float
    natural_maximum: float
    natural_ratio: float
    quantile: float
    robust_ratio: float
    path_similarity: float
    slope: float
    natural_slope: float
    high_frequency: float
    natural_high_frequency: float
    color_distance: float
    seed_stability: float
    steps: float
    seconds: float
    path: dict[str, float] = field(default_factory=dict)
    transfer: tuple[metrics.Transfer, ...] = ()

    def numbers(self) -> dict[str, float]:
        """List all numbers but the path's by name.

        Returns:
          {name: number}, with `rank in ...` and `probability in ...` for each other network.
        """
        plain = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        for seen in self.transfer:
            plain[f"rank in {seen.network}"] = float(seen.rank)
            plain[f"probability in {seen.network}"] = seen.probability
        return plain

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data for JSON, which has no nan: None stands for it.

        Returns:
          {field: value}.
        """
        data = asdict(self)
        data["transfer"] = [seen._asdict() for seen in self.transfer]
        known = lambda value: None if isinstance(value, float) and not math.isfinite(value) else value
        return {
            name: {key: known(part) for key, part in value.items()} if isinstance(value, dict) else known(value)
            for name, value in data.items()
        }

    def __str__(self):
        transfer = " ".join(f"{seen.rank:g}:{seen.probability:.2f}" for seen in self.transfer)
        return "".join(_cell(getattr(self, name), width, form) for _, name, width, form in COLUMNS) + f"  {transfer}"


COLUMNS = (  # heading, field, width, format
    ("activation", "activation", 11, ".3g"),
    ("/natural", "natural_ratio", 9, ".2f"),
    ("quantile", "quantile", 9, ".3f"),
    ("robust", "robust_ratio", 7, ".2f"),
    ("path", "path_similarity", 7, ".2f"),
    ("slope", "slope", 7, ".2f"),
    ("(natural)", "natural_slope", 10, ".2f"),
    ("high f", "high_frequency", 7, ".3f"),
    ("(natural)", "natural_high_frequency", 10, ".3f"),
    ("color", "color_distance", 7, ".3f"),
    ("seeds", "seed_stability", 6, ".2f"),
    ("steps", "steps", 6, ".0f"),
    ("seconds", "seconds", 8, ".1f"),
)
HEADER = "".join(f"{heading:>{width}}" for heading, _, width, _ in COLUMNS) + "  rank:probability elsewhere"


def _cell(value, width, form):
    return f"{'-' if math.isnan(value) else format(value, form):>{width}}"


class Rendered(Protocol):
    """What `score` reads of a `Rendering`: images (n, height, width, 3) and scores (steps, n)."""

    @property
    def images(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...


@own_promotion()
def score(
    model: Model,
    objective: Objective,
    rendering: Rendered,
    examples: DatasetExamples,
    *,
    key: jax.Array,
    transform: Transform,
    image_index: int = 0,
    objective_index: int | None = None,
    seconds_per_step: float = math.nan,
    layers: Sequence[str] | None = None,
    siblings: Sequence[np.ndarray] | np.ndarray = (),
    networks: Sequence[Model] = (),
    label: str | int | None = None,
) -> Scores:
    """Measure a rendered picture.

    Args:
      model: The network.
      objective: What the picture was drawn for.
      rendering: A `Rendering`.
      examples: `top_activating_crops` of a list of objectives that holds `objective`, at the picture's size.
      key: The rendering's key, from which fresh draws come.
      transform: Transforms under which the picture is measured again; to compare renderings, equal ones for all.
      image_index: Index of the picture in the rendering.
      objective_index: Index of the objective in that list; needed only if several in it have its name.
      seconds_per_step: Of the rendering, compilation not counted, for `Scores.seconds`.
      layers: Layers through which the picture's path is followed; by default up to eight of those with positions,
        evenly spread up to the objective's deepest layer. The last one is the layer of `Scores.seed_stability`.
      siblings: Pictures (k, height, width, 3) of the objective from other keys, for `Scores.seed_stability`.
      networks: Other networks, to which the picture of a class is shown.
      label: The class.

    Returns:
      The picture's `Scores`.

    Raises:
      ValueError: For layers that the model lacks, and where `examples` are of other objectives or another size.
    """
    if networks and label is None:
        raise ValueError("other networks need the class that the picture shows; give its label")
    if objective_index is None:
        objective_index = _index_of(examples.objectives, objective.name)
    image = np.asarray(rendering.images[image_index], np.float32)
    top, others = examples.pictures[objective_index], examples.others[objective_index]
    if image.shape != top.shape[1:]:
        raise ValueError(
            f"natural crops of shape {top.shape[1:]} are no measure for a picture of shape {image.shape}; "
            "give `top_activating_crops` the picture's size"
        )
    activation = float(scorer(model, [objective])(image[None])[0, 0])
    maximum = float(examples.maximum[objective_index])
    crops, of_unit = np.concatenate([top, others]), np.stack([image, *siblings])
    layers = model.check_layers(layers) if layers is not None else path_layers(model, objective)
    values, num_own = metrics.features(model, np.concatenate([of_unit, crops]), layers), len(of_unit)
    path = {
        layer: metrics.path_similarity(value[0], *np.split(value[num_own:], [len(top)]))
        for layer, value in values.items()
    }
    last = values[layers[-1]]
    steps = first_step_at(rendering.scores[:, image_index], maximum)
    return Scores(
        activation=activation,
        natural_maximum=maximum,
        natural_ratio=activation / maximum if maximum > 0 else math.nan,
        quantile=float(np.mean(examples.scores[objective_index] <= activation)),
        robust_ratio=metrics.robust_ratio(model, objective, image, transform, key),
        path_similarity=metrics.along_path(path.values()).normalized,
        slope=metrics.spectral_slope(image),
        natural_slope=_of_known(np.mean, [metrics.spectral_slope(crop) for crop in crops]),
        high_frequency=metrics.high_frequency_share(image),
        natural_high_frequency=_of_known(np.mean, [metrics.high_frequency_share(crop) for crop in crops]),
        color_distance=metrics.color_distance(image, crops),
        seed_stability=metrics.seed_stability(last[:num_own], last[num_own:]),
        steps=steps,
        seconds=steps * seconds_per_step,
        path={layer: likeness.normalized for layer, likeness in path.items()},
        transfer=() if label is None else tuple(metrics.transfer(networks, label, image)),
    )


def medians(rows: Sequence[Scores]) -> Scores:
    """Take the medians over several pictures, each over those that have the number; without a path.

    Args:
      rows: Scores of several pictures.

    Returns:
      `Scores` of medians.
    """
    plain: dict[str, Any] = {
        column.name: _of_known(np.median, [getattr(row, column.name) for row in rows])
        for column in fields(Scores)
        if column.type is float
    }
    by_network: dict[str, list[metrics.Transfer]] = {}
    for seen in (seen for row in rows for seen in row.transfer):
        by_network.setdefault(seen.network, []).append(seen)
    median = lambda some, name: _of_known(np.median, [getattr(seen, name) for seen in some])
    transfer = (
        metrics.Transfer(name, median(some, "rank"), median(some, "probability")) for name, some in by_network.items()
    )
    return Scores(**plain, transfer=tuple(transfer))


def first_step_at(scores: np.ndarray | Sequence[float], level: float) -> float:
    """Count the updates until a rendering's score first reaches a level.

    The scores are those that the ascent saw, each under its step's random transforms.

    Args:
      scores: A picture's scores (steps,).
      level: The level.

    Returns:
      The number of updates; nan if the level is never reached.
    """
    reached = np.flatnonzero(np.asarray(scores) >= level)
    return float(reached[0]) if len(reached) else math.nan


def _index_of(names, name):
    if names.count(name) != 1:
        how_many = "several" if name in names else "none"
        raise ValueError(
            f"natural examples of {name!r} are needed; found {how_many} among those of {', '.join(names)}: "
            "give `objective_index`, or examples of this objective"
        )
    return names.index(name)


def path_layers(model: Model, objective: Objective) -> tuple[str, ...]:
    """Choose at most `SHOWN` layers with positions, evenly spread from the first to the objective's deepest layer."""
    order = list(model.layers)
    read = [order.index(model.layer_name(name)) for name in objective.layers - {PICTURE}]
    deepest = max(read, default=len(order) - 1)
    spatial = [name for name in order[: deepest + 1] if len(model.layers[name]) == 3] or order[:1]
    chosen = np.unique(np.linspace(0, len(spatial) - 1, min(SHOWN, len(spatial))).round().astype(int))
    return tuple(spatial[index] for index in chosen)


def _of_known(statistic: Callable, values: Iterable[float]) -> float:
    values = [value for value in values if not math.isnan(value)]
    return float(statistic(values)) if values else math.nan
