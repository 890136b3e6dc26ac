"""All scores of one picture, in a record."""

import math
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from diffprog.visualize.evaluation import _picture_metrics as pictures
from diffprog.visualize.evaluation import _response_metrics as responses
from diffprog.visualize.evaluation._batched import scorer
from diffprog.visualize.objectives._base import PICTURE

SHOWN = 8  # layers through which a picture's path is followed, unless named


@dataclass(frozen=True)
class Scores:
    """Numbers on one picture of one objective; nan where one cannot be given. `str()` is a row under `HEADER`.

    activation: the objective's score of the picture, untransformed. natural_maximum: the highest of the natural crops.
    natural_ratio: the one over the other; nan unless the maximum is positive.
    quantile: the part of the natural crops that score at most as much.
    robust_ratio: the mean score under fresh transforms over the activation (`responses.robust_ratio`).
    path: {layer: likeness to the top natural crops} (`responses.Likeness.normalized`), and path_similarity, that of
        all these layers together: nan where the natural crops are too few or too unlike to set a scale.
    slope, high_frequency: of the spectrum (`pictures.spectral_slope`, `high_frequency_share`); natural_slope and
        natural_high_frequency: the means for the natural crops, top and others.
    color_distance: between the colors of the picture and of those crops (`pictures.color_distance`).
    seed_stability: likeness of pictures from other keys (`responses.seed_stability`).
    steps, seconds: until the rendering's score first reached the natural maximum (`first_step_at`).
    transfer: what other networks say of the picture of a class.
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
    transfer: tuple[responses.Transfer, ...] = ()

    def numbers(self):
        """{name: number} of all but the path, and of each network `rank in ...` and `probability in ...`."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        for found in self.transfer:
            plain[f"rank in {found.network}"] = float(found.rank)
            plain[f"probability in {found.network}"] = found.probability
        return plain

    def as_dict(self):
        """Everything as plain data for JSON, which has no nan: None stands for it."""
        data = asdict(self)
        data["transfer"] = [found._asdict() for found in self.transfer]
        known = lambda value: None if isinstance(value, float) and not math.isfinite(value) else value
        return {
            name: {key: known(part) for key, part in value.items()} if isinstance(value, dict) else known(value)
            for name, value in data.items()
        }

    def __str__(self):
        transfer = " ".join(f"{found.rank:g}:{found.probability:.2f}" for found in self.transfer)
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


def score(
    model,
    objective,
    rendering,
    natural,
    *,
    key,
    transform,
    image_index=0,
    objective_index=None,
    seconds_per_step=math.nan,
    layers=None,
    siblings=(),
    networks=(),
    label=None,
):
    """The `Scores` of a rendered picture.

    rendering:        whose picture number `image_index` shows `objective`.
    natural:          `top_activating_crops` of a list of objectives that holds `objective`, at the picture's size.
    key, transform:       of the transforms under which it is measured again (`responses.robust_ratio`): the rendering's
                      key, from which fresh draws come, and, to compare renderings, the same transforms for all.
    objective_index:  of the objective in that list; needed only if several in it have its name.
    seconds_per_step: of the rendering, compilation not counted, for `seconds`.
    layers:           through which the picture's path is followed; else up to eight of those with positions, evenly
                      spread up to the objective's deepest layer. The last one is the layer of `seed_stability`.
    siblings:         pictures (k, height, width, 3) of the objective from other keys, for `seed_stability`.
    networks, label:  networks to which to show the picture of the class `label`.

    Raises ValueError for layers that the model lacks, and where `natural` is of other objectives or another size.
    """
    if objective_index is None:
        objective_index = _index_of(natural.objectives, objective.name)
    image = np.asarray(rendering.images[image_index], np.float32)
    top, others = natural.pictures[objective_index], natural.others[objective_index]
    if image.shape != top.shape[1:]:
        raise ValueError(
            f"natural crops of shape {top.shape[1:]} are no measure for a picture of shape {image.shape}; "
            "give `top_activating_crops` the picture's size"
        )
    activation = float(scorer(model, [objective])(image[None])[0, 0])
    maximum = float(natural.maximum[objective_index])
    crops, of_unit = np.concatenate([top, others]), np.stack([image, *siblings])
    layers = model.check_layers(layers) if layers is not None else path_layers(model, objective)
    found, start = responses.features(model, np.concatenate([of_unit, crops]), layers), len(of_unit)
    path = {
        layer: responses.path_similarity(value[0], value[start : start + len(top)], value[start + len(top) :])
        for layer, value in found.items()
    }
    last = found[layers[-1]]
    steps = first_step_at(rendering.scores[:, image_index], maximum)
    return Scores(
        activation=activation,
        natural_maximum=maximum,
        natural_ratio=activation / maximum if maximum > 0 else math.nan,
        quantile=float(np.mean(natural.scores[objective_index] <= activation)),
        robust_ratio=responses.robust_ratio(model, objective, image, transform, key),
        path_similarity=responses.along_path(path.values()).normalized,
        slope=pictures.spectral_slope(image),
        natural_slope=_of_known(np.mean, [pictures.spectral_slope(crop) for crop in crops]),
        high_frequency=pictures.high_frequency_share(image),
        natural_high_frequency=_of_known(np.mean, [pictures.high_frequency_share(crop) for crop in crops]),
        color_distance=pictures.color_distance(image, crops),
        seed_stability=responses.seed_stability(last[:start], last[start:]),
        steps=steps,
        seconds=steps * seconds_per_step,
        path={layer: likeness.normalized for layer, likeness in path.items()},
        transfer=tuple(responses.transfer(networks, label, image)) if networks else (),
    )


def medians(rows):
    """`Scores` of the medians over several pictures, each over those that have the number; without a path."""
    plain = {
        each.name: _of_known(np.median, [getattr(row, each.name) for row in rows])
        for each in fields(Scores)
        if each.type is float
    }
    by_network = {}
    for found in (found for row in rows for found in row.transfer):
        by_network.setdefault(found.network, []).append(found)
    median = lambda some, of: _of_known(np.median, [getattr(found, of) for found in some])
    transfer = (
        responses.Transfer(name, median(some, "rank"), median(some, "probability")) for name, some in by_network.items()
    )
    return Scores(**plain, transfer=tuple(transfer))


def first_step_at(scores, level):
    """The number of updates after which a rendering's score (steps,) first is `level` or more; nan if it never is.

    The scores are those that the ascent saw, each under its step's random transforms.
    """
    reached = np.flatnonzero(np.asarray(scores) >= level)
    return float(reached[0]) if len(reached) else math.nan


def _index_of(names, name):
    if names.count(name) != 1:
        found = "several" if name in names else "none"
        raise ValueError(
            f"natural examples of {name!r} are needed; found {found} among those of {', '.join(names)}: "
            "give `objective_index`, or examples of this objective"
        )
    return names.index(name)


def path_layers(model, objective):
    """At most `SHOWN` layers with positions, evenly spread from the first to the objective's deepest layer."""
    order = list(model.layers)
    read = [order.index(model.layer_name(name)) for name in objective.layers - {PICTURE}]
    deepest = max(read, default=len(order) - 1)
    spatial = [name for name in order[: deepest + 1] if len(model.layers[name]) == 3] or order[:1]
    chosen = np.unique(np.linspace(0, len(spatial) - 1, min(SHOWN, len(spatial))).round().astype(int))
    return tuple(spatial[index] for index in chosen)


def _of_known(statistic, values):
    values = [value for value in values if not math.isnan(value)]
    return float(statistic(values)) if values else math.nan
