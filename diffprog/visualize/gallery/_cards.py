"""What a gallery shows of one unit, and the files that keep it: a picture and a JSON file of one name."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffprog import images as files
from diffprog._util.file_names import file_name
from diffprog._util.files import write_text
from diffprog._util.warning import warn
from diffprog.visualize._picture_files import keep_values, read_picture


@dataclass(frozen=True, eq=False)
class Card:
    """One unit in a gallery. All but its name and picture may be missing.

    Attributes:
        unit: Its name, under which it is found.
        picture: Array (height, width, channels) in [0, 1], of any number of channels; it is shown as by
            `images.to_rgb`.
        layer: Name of the layer, or of several.
        channel: Index of the channel, if the unit is one.
        caption: A line about the unit.
        recipe: Name of the recipe that the picture was drawn with.
        seed: Of the random key.
        steps: Of gradient ascent.
        history: The objective over the steps.
        term_histories: {name: history} of the terms that the objective sums.
        scores: {name: number} in the order in which they are shown, nan for an unknown one; see `Scores.numbers`.
        dataset_examples: Pictures, the crops of photographs that the unit scores highest.
        neighbors: Names of the units that are most alike, best first; see `DatasetExamples.neighbors`.
        fingerprint: Of all that made the picture, to tell if it is still what is asked for: the network's parameters
            and code, the objective, the settings and the versions.
    """

    unit: str
    picture: np.ndarray
    layer: str = ""
    channel: int | None = None
    caption: str = ""
    recipe: str = ""
    seed: int | None = None
    steps: int | None = None
    history: Sequence[float] | np.ndarray = ()
    term_histories: Mapping[str, Sequence[float] | np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    dataset_examples: Sequence[np.ndarray] = ()
    neighbors: Sequence[str] = ()
    fingerprint: str = ""


RESERVED = ("contact_sheet", "film")  # files beside the cards


def card_path(folder: str | Path, unit: str) -> Path:
    """Name a unit's JSON file, which is this unit's alone: see `file_name`."""
    if not isinstance(unit, str) or not unit:
        raise ValueError(f"a unit's name must be a text that is not empty; found {unit!r}: give it one")
    return Path(folder) / f"{file_name(unit, RESERVED)}.json"


def save_card(folder: str | Path, card: Card) -> Path:
    """Write a card's files, each whole or not at all, and its JSON file last: a unit that has one is complete.

    Args:
        folder: Where the files go: NAME.png, the dataset examples NAME.example0.png and so on, and NAME.json; and
            NAME.npz with the values of a picture of other than 1 or 3 channels. NAME is the unit's name if that is of
            small letters, digits and ._-, else one like it that no other unit has.
        card: What to write.

    Returns:
        The path of the JSON file.
    """
    path = card_path(folder, card.unit)
    keep_values(path.with_suffix(".png"), card.picture)
    files.save_png(path.with_suffix(".png"), files.to_rgb(card.picture))
    examples = [
        files.save_png(path.with_suffix(f".example{index}.png"), files.to_rgb(picture)).name
        for index, picture in enumerate(card.dataset_examples)
    ]
    data = {name: value for name, value in vars(card).items() if name != "picture"}
    data |= {
        "dataset_examples": examples,
        "history": _without_nan(card.history),
        "neighbors": list(card.neighbors),
        "term_histories": {name: _without_nan(values) for name, values in card.term_histories.items()},
        "scores": dict(zip(card.scores, _without_nan(card.scores.values()), strict=True)),
    }
    return write_text(path, json.dumps(data, allow_nan=False, indent=1) + "\n")


def _without_nan(numbers: Iterable[float]) -> list[float | None]:
    """Write numbers as JSON has them, which knows no nan: None."""
    return [float(number) if math.isfinite(number) else None for number in numbers]


def read_cards(folder: str | Path) -> list[Card]:
    """Read the cards of a folder: each NAME.json with a NAME.png beside it.

    A JSON file holds an object with "unit" and any of the other fields of `Card`. "dataset_examples" lists image files
    in the folder, and an unknown number is null.

    Args:
        folder: The folder.

    Returns:
        The cards in the order of their units, in which numbers count as numbers.

    Raises:
        ValueError: If there is no card that can be read. The message names a file and what is wrong in it; warnings
            tell of such files beside good ones.
    """
    folder = Path(folder)
    paths = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".png").is_file()]
    if not paths:
        raise ValueError(f"there are no cards in {folder}: a card is a picture NAME.png with NAME.json beside it")
    cards, problems = [], []
    for path in paths:
        try:
            cards.append((path, _read(path)))
        except ValueError as error:
            problems.append(str(error))
    if not cards:
        raise ValueError(problems[0])
    for problem in problems:
        warn(f"a card is left out: {problem}")
    newest = {card.unit for path, card in cards if path == card_path(folder, card.unit)}
    # a card under a name that its unit had in an earlier version gives way to the one under its own
    shown = [card for path, card in cards if card.unit not in newest or path == card_path(folder, card.unit)]
    return sorted(shown, key=lambda card: _order(card.unit))


def _read(path: Path) -> Card:
    """Read one card."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); write it anew") from None
    if not isinstance(data, dict) or not isinstance(data.get("unit"), str) or not data["unit"]:
        raise ValueError(f'{path}: a card is an object with a "unit", its name; found {str(data)[:60]!r}')
    known: dict[str, Any] = {name: data[name] for name in FIELDS if data.get(name) is not None}
    for name, value in known.items():
        if not _fits(value, FIELDS[name]):
            raise ValueError(f"{path}: {name!r} cannot be {str(value)[:60]!r}; see diffprog.visualize.gallery.Card")
    with_nan = lambda values: [math.nan if value is None else value for value in values]
    scores = known.get("scores", {})
    known |= {
        "history": with_nan(known.get("history", ())),
        "term_histories": {name: with_nan(values) for name, values in known.get("term_histories", {}).items()},
        "scores": dict(zip(scores, with_nan(scores.values()), strict=True)),
        "dataset_examples": [files.read_image(_inside(path, name)) for name in known.get("dataset_examples", ())],
    }
    return Card(picture=read_picture(path.with_suffix(".png")), **known)


def _inside(path: Path, name: str) -> Path:
    """Find a file beside `path`, and refuse one elsewhere."""
    inside = (path.parent / name).resolve()
    if not inside.is_relative_to(path.parent.resolve()):
        raise ValueError(f"{path}: {name!r} lies outside the folder; dataset examples are files within it")
    return inside


FIELDS: dict[str, Any] = {
    **dict.fromkeys(("unit", "layer", "caption", "recipe", "fingerprint"), str),
    **dict.fromkeys(("channel", "seed", "steps"), int),
    "history": [float],
    "term_histories": {str: [float]},
    "scores": {str: float},
    "dataset_examples": [str],
    "neighbors": [str],
}


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a JSON value is of a kind: a type, [a kind] or {str: a kind}; null is a float that is not known."""
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_fits(item, kind[str]) for item in value.values())
    if isinstance(value, bool):
        return False
    return value is None or isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _order(unit: str) -> list[tuple[int, str]]:
    """Sort blocks.2 before blocks.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", unit)]
