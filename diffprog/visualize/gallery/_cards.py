"""What a gallery shows of one unit, and the files that keep it: a picture and a JSON file of the same name."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffprog import images as files
from diffprog._util.files import write_text


@dataclass(frozen=True, eq=False)
class Card:
    """One unit. All but the first two may be missing.

    unit: its name, under which it is found. picture: (height, width, 3) in [0, 1].
    layer, channel, caption, recipe, seed, steps: what is drawn, and how.
    history: the objective over the steps; parts: {name: history} of the terms that it sums.
    scores: {name: number}, in the order in which they are shown; nan for one that is not known. `Scores.numbers()`.
    natural: pictures like the first one, the unit's top natural examples.
    neighbors: names of the units that are most like it, best first, as by `DatasetExamples.neighbors`.
    mark: of the settings that it was drawn with, to tell whether it is still what is asked for.
    """

    unit: str
    picture: np.ndarray
    layer: str = ""
    channel: int | None = None
    caption: str = ""
    recipe: str = ""
    seed: int | None = None
    steps: int | None = None
    history: Sequence[float] = ()
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    natural: Sequence[np.ndarray] = ()
    neighbors: Sequence[str] = ()
    mark: str = ""


def card_path(folder, unit):
    """Where the card of a unit is kept: `<name>.json`, its name with "_" for what a file name should not hold."""
    return Path(folder) / (re.sub(r"[^\w.-]+", "_", unit) + ".json")


def save_card(folder, card):
    """Write `<name>.png`, its natural examples `<name>.natural<n>.png`, and then `<name>.json`, whole or not at all.

    A unit whose JSON file is there is complete. Returns the path of the JSON file, `card_path`.
    """
    folder, name = Path(folder), card_path(folder, card.unit).stem
    files.save_png(folder / f"{name}.png", card.picture)
    natural = [
        files.save_png(folder / f"{name}.natural{number}.png", picture).name
        for number, picture in enumerate(card.natural)
    ]
    data = {key: value for key, value in vars(card).items() if key != "picture"}
    data |= {
        "natural": natural,
        "history": _plain(card.history),
        "neighbors": list(card.neighbors),
        "parts": {key: _plain(values) for key, values in card.parts.items()},
        "scores": dict(zip(card.scores, _plain(card.scores.values()), strict=True)),
    }
    return write_text(card_path(folder, card.unit), json.dumps(data, allow_nan=False, indent=1) + "\n")


def _plain(numbers):
    """Numbers as JSON has them, which knows no nan: None."""
    return [float(number) if math.isfinite(number) else None for number in numbers]


def read_cards(folder):
    """The cards of a folder: of every `<name>.json` beside which there is a `<name>.png`, in the order of their units.

    The JSON file holds an object with "unit" and any of the other names of `Card`'s fields; "natural" lists image files
    in the folder, and a number that is not known is null. Raises ValueError, naming the file and what is wrong with it,
    for one that does not, and for a folder without any.
    """
    folder = Path(folder)
    found = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".png").is_file()]
    if not found:
        raise ValueError(f"there are no cards in {folder}: a card is a picture NAME.png with NAME.json beside it")
    return sorted((_read(path) for path in found), key=lambda card: _order(card.unit))


def _read(path):
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); write it anew") from None
    if not isinstance(data, dict) or not isinstance(data.get("unit"), str) or not data["unit"]:
        raise ValueError(f'{path}: a card is an object with a "unit", its name; found {str(data)[:60]!r}')
    known = {name: data[name] for name in FIELDS if data.get(name) is not None}
    for name, value in known.items():
        if not FIELDS[name](value):
            raise ValueError(f"{path}: {name!r} cannot be {str(value)[:60]!r}; see diffprog.visualize.gallery.Card")
    unknown = lambda values: [math.nan if value is None else value for value in values]
    known["history"] = unknown(known.get("history", ()))
    known["parts"] = {name: unknown(values) for name, values in known.get("parts", {}).items()}
    scores = known.get("scores", {})
    known["scores"] = dict(zip(scores, unknown(scores.values()), strict=True))
    known["natural"] = [files.read_image(_inside(path, name)) for name in known.get("natural", ())]
    return Card(picture=files.read_image(path.with_suffix(".png")), **known)


def _inside(path, name):
    """A file beside `path`; ValueError for one elsewhere."""
    found = (path.parent / name).resolve()
    if not found.is_relative_to(path.parent.resolve()):
        raise ValueError(f"{path}: {name!r} lies outside the folder; natural examples are files within it")
    return found


_text = lambda value: isinstance(value, str)
_whole = lambda value: isinstance(value, int) and not isinstance(value, bool)
_number = lambda value: value is None or (isinstance(value, int | float) and not isinstance(value, bool))
_list_of = lambda kind: lambda value: isinstance(value, list) and all(map(kind, value))
_named = lambda kind: lambda value: isinstance(value, dict) and all(map(kind, value.values()))
FIELDS = {
    "unit": _text,
    "layer": _text,
    "channel": _whole,
    "caption": _text,
    "recipe": _text,
    "seed": _whole,
    "steps": _whole,
    "history": _list_of(_number),
    "parts": _named(_list_of(_number)),
    "scores": _named(_number),
    "natural": _list_of(_text),
    "neighbors": _list_of(_text),
    "mark": _text,
}


def _order(unit):
    """blocks.2 before blocks.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", unit)]
