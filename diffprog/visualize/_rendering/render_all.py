"""Render many units into a folder; resumable."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.fingerprint import fingerprint
from diffprog._util.resumable import read_entry
from diffprog.models import Model
from diffprog.visualize._rendering.recipes import Recipe, recipe
from diffprog.visualize._rendering.render import render
from diffprog.visualize.gallery._cards import Card, card_path, save_card
from diffprog.visualize.objectives._base import Objective


def render_all(
    model: Model,
    objectives: Mapping[str, Objective],
    folder: str | Path,
    *,
    seed: int = 0,
    name: str = "default",
    size: int | None = None,
    steps: int | None = None,
    batch_size: int = 8,
    progress: str | None = None,
    **options: Any,
) -> list[Path]:
    """Draw each objective into a folder, as cards that a gallery shows.

    A card is NAME.png and NAME.json with how the picture was drawn and its history. A unit whose card is there, drawn
    with equal settings, is left alone; a card of other settings is drawn anew; cards of other units are kept. A run
    that was killed has lost no more than its last batch.

    Args:
        model: The network whose units are drawn.
        objectives: From each unit's name, after which its files are named, to its objective.
        folder: Where the cards are kept.
        seed: Of `jax.random.key`. Each picture is image 0 of its key, so it depends, beyond rounding, neither on the
            units that are drawn with it nor on those before it.
        name: Of the `recipe`.
        size: Side of the pictures in pixels; the recipe's if None.
        steps: Of gradient ascent; the recipe's if None.
        batch_size: Pictures to draw at once, by one compiled program for all units whose objectives are of a kind.
        progress: Caption of a progress bar over all pictures, with the time left; None for no bar.
        **options: Options of `render`, in place of the recipe's: numbers, texts and arrays.

    Returns:
        The paths of the cards' JSON files, in the order of the objectives.

    Raises:
        ValueError: If there is no objective, if two units' names make one file name, for an unknown recipe or unit,
            and for an option whose content cannot be compared from run to run: an optimizer, a transform.
    """
    if batch_size < 1 or not objectives:
        raise ValueError(
            f"objectives must be given, and batch_size be at least 1; found {len(objectives)} and {batch_size}"
        )
    paths = {unit: card_path(folder, unit) for unit in objectives}
    if len(set(paths.values())) < len(paths):
        raise ValueError("two units would be kept in the same file; give them names that differ in letters or digits")
    chosen = {unit: recipe(model, objective.check(model), name, size) for unit, objective in objectives.items()}
    settings = (model.name, name, seed, _comparable(options))
    fingerprints = {
        unit: _fingerprint(objective, chosen[unit], steps or chosen[unit].steps, settings)
        for unit, objective in objectives.items()
    }
    missing = [unit for unit in objectives if not _is_drawn(paths[unit], fingerprints[unit])]
    num_drawn = len(objectives) - len(missing)
    with tqdm(total=len(objectives), initial=num_drawn, desc=progress, unit="picture", disable=progress is None) as bar:
        for units, filled in _batches(missing, objectives, chosen, batch_size):
            how = chosen[units[0]].options | ({"steps": steps} if steps else {}) | options
            key, image_ids = jax.random.key(seed), np.zeros(len(filled), int)
            drawn = render(model, [objectives[unit] for unit in filled], key=key, image_ids=image_ids, **how)
            for index, unit in enumerate(units):
                layer, channel = _place(objectives[unit])
                terms = drawn.term_histories[index]
                card = Card(
                    unit,
                    drawn.images[index],
                    layer=layer,
                    channel=channel,
                    recipe=name,
                    seed=seed,
                    steps=len(drawn.scores),
                    history=drawn.scores[:, index],
                    term_histories=terms if len(terms) > 1 else {},
                    fingerprint=fingerprints[unit],
                )
                save_card(folder, card)
            bar.update(len(units))
    return list(paths.values())


def _place(objective: Objective) -> tuple[str, int | None]:
    """Name the layers that an objective reads, and its channel if it is one channel or neuron."""
    keys = [term.key[:1] for term in objective.weights]
    channel = keys[0][0] if len(keys) == 1 and keys[0] and isinstance(keys[0][0], int) else None
    return ", ".join(sorted(objective.layers)), channel


def _batches(
    units: list[str], objectives: Mapping[str, Objective], recipes: Mapping[str, Recipe], batch_size: int
) -> Iterator[tuple[list[str], list[str]]]:
    """Divide units into batches that one program draws: equal recipes and kinds of objectives.

    Yields at most `batch_size` units, and the units to draw: the last one again, where a batch would be shorter than
    others of its kind, and so need a program of its own.
    """
    kinds: dict[Any, list[str]] = {}
    for unit in units:
        terms = tuple((term.measure, term.layers) for term in objectives[unit].weights)
        kinds.setdefault((recipes[unit], terms), []).append(unit)
    for kind in kinds.values():
        for first in range(0, len(kind), batch_size):
            some = kind[first : first + batch_size]
            yield some, some + some[-1:] * (min(batch_size, len(kind)) - len(some))


def _comparable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check that options can be compared from run to run; leave out the engine, which changes nothing."""
    settings = {option: value for option, value in options.items() if option != "engine"}
    for option, value in settings.items():
        try:
            fingerprint(value)
        except TypeError:
            kind = type(value).__name__
            raise ValueError(f"{option} of a long job must be a number, a text or an array; found a {kind}") from None
    return settings


def _fingerprint(objective: Objective, chosen: Recipe, steps: int, settings: tuple[Any, ...]) -> str:
    """Take the fingerprint of all that a picture depends on."""
    terms = [(term.name, term.layers, term.key, weight) for term, weight in objective.weights.items()]
    picture = chosen.parameterization
    size = (picture.height, picture.width, picture.channels, chosen.num_transforms, chosen.learning_rate)
    return fingerprint(settings, terms, objective.constant, size, steps)


def _is_drawn(path: Path, expected: str) -> bool:
    """Say whether a unit's card is there, whole, and of these settings."""
    read = lambda path: json.loads(path.read_text(encoding="utf-8"))
    is_current = lambda card: card["fingerprint"] == expected and path.with_suffix(".png").is_file()
    return read_entry(path, read, is_current) is not None
