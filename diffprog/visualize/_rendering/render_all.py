"""Render many units into a folder; resumable."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.content_digest import content_digest
from diffprog._util.files import check_writable
from diffprog._util.fingerprint import fingerprint
from diffprog._util.numbers import whole_number
from diffprog._util.random_keys import random_key
from diffprog._util.resumable import read_entry, versions
from diffprog._util.spelling import answers_names
from diffprog._util.warning import warn
from diffprog.models import Model
from diffprog.visualize._picture_files import read_picture
from diffprog.visualize._rendering.ascent import NotFiniteError
from diffprog.visualize._rendering.recipes import Recipe, recipe
from diffprog.visualize._rendering.render import render
from diffprog.visualize._spelling import MEANT
from diffprog.visualize.gallery._cards import Card, card_path, save_card
from diffprog.visualize.objectives._base import Objective


@answers_names(MEANT, passes_to=render)
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
    for the same objective by the same network with equal settings, is left alone; functions count by their code and
    what that reads, networks by their parameters, see `Card.fingerprint`. A card of other settings is drawn anew, and
    so is a damaged one, of which a warning tells. Cards of other units are kept. A run that was killed has lost no more
    than its last batch.

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
        **options: Options of `render`, in place of the recipe's. Those that cannot be compared from run to run, like a
            generator, are warned of: units drawn with them are drawn again by every run.

    Returns:
        The paths of the cards' JSON files, in the order of the objectives.

    Raises:
        ValueError: If there is no objective, for an unnamed unit, for an unknown recipe, layer, channel or class, for a
            folder that cannot be written, and, after all others were drawn, for units whose objectives are not finite.
    """
    if batch_size < 1 or not objectives:
        raise ValueError(
            f"objectives must be given, and batch_size be at least 1; found {len(objectives)} and {batch_size}"
        )
    if (whole := whole_number(seed)) is None:
        raise ValueError(f"seed must be a whole number, from which the keys are made; found {seed!s:.60}")
    seed = whole
    paths = {unit: card_path(folder, unit) for unit in objectives}
    chosen = {unit: recipe(model, objective.check(model), name, size) for unit, objective in objectives.items()}
    check_writable(folder, "folder")
    options = ({"steps": steps} if steps else {}) | options
    fingerprints = _fingerprints(model, objectives, chosen, options, (name, seed))
    missing = [unit for unit in objectives if not _is_drawn(paths[unit], fingerprints[unit])]
    num_drawn = len(objectives) - len(missing)
    problems: dict[str, str] = {}
    with tqdm(total=len(objectives), initial=num_drawn, desc=progress, unit="picture", disable=progress is None) as bar:
        for units in _batches(missing, objectives, chosen, batch_size):
            how = chosen[units[0]].options | options
            drawn, broken = _drawn(model, objectives, units, random_key(seed), how)
            problems |= broken
            for index, unit in enumerate(unit for unit in dict.fromkeys(units) if unit not in broken):
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
            bar.update(len(set(units)))
    if problems:
        unit, problem = next(iter(problems.items()))
        number = f"{len(problems)} of {len(objectives)} units are" if len(problems) > 1 else f"unit {unit!r} is"
        raise ValueError(f"{number} not drawn, all others are: {problem}")
    return list(paths.values())


def _drawn(
    model: Model, objectives: Mapping[str, Objective], units: list[str], key: jax.Array, how: dict[str, Any]
) -> tuple[Any, dict[str, str]]:
    """Draw a batch of units, less those whose objectives turn out not to be finite.

    Returns the rendering of the others, in their order, and a sentence for each unit that is not in it. The batch keeps
    its size, and so its program: the last unit stands in for those that are left out.
    """
    left = list(units)
    broken: dict[str, str] = {}
    while left:
        filled = left + left[-1:] * (len(units) - len(left))
        try:
            batch = [objectives[unit] for unit in filled]
            return render(model, batch, key=key, image_ids=np.zeros(len(filled), int), **how), broken
        except NotFiniteError as error:
            broken |= {filled[picture]: str(error) for picture in error.pictures}
            left = [unit for unit in left if unit not in broken]
    return None, broken


def _place(objective: Objective) -> tuple[str, int | None]:
    """Name the layers that an objective reads, and its channel if it is one channel or neuron."""
    keys = [term.key[:1] for term in objective.weights]
    channel = keys[0][0] if len(keys) == 1 and keys[0] and isinstance(keys[0][0], int) else None
    return ", ".join(sorted(objective.layers)), channel


def _batches(
    units: list[str], objectives: Mapping[str, Objective], recipes: Mapping[str, Recipe], batch_size: int
) -> Iterator[list[str]]:
    """Divide units into batches that one program draws: equal recipes and kinds of objectives.

    The last unit of a kind stands several times in a batch that would be shorter than others of its kind, and so need a
    program of its own.
    """
    kinds: dict[Any, list[str]] = {}
    for unit in units:
        terms = tuple((term.measure, term.layers) for term in objectives[unit].weights)
        kinds.setdefault((recipes[unit], terms), []).append(unit)
    for kind in kinds.values():
        for first in range(0, len(kind), batch_size):
            some = kind[first : first + batch_size]
            yield some + some[-1:] * (min(batch_size, len(kind)) - len(some))


def _fingerprints(
    model: Model,
    objectives: Mapping[str, Objective],
    recipes: Mapping[str, Recipe],
    options: dict[str, Any],
    seed: tuple[str, int],
) -> dict[str, str]:
    """Take, for each unit, the fingerprint of all that its picture depends on."""
    network, single = content_digest(model, "model"), {}
    for unit, objective in objectives.items():
        how = recipes[unit].options | options | {"engine": None}  # the engine changes nothing
        single[unit] = content_digest({"objective": objective, "options": how}, unit)
    unknown = [phrase for digest in (network, *single.values()) for phrase in digest.unknown]
    if unknown:
        warn(f"{unknown[0]}, which cannot be compared from run to run: every run draws anew what depends on it")
    return {unit: fingerprint(network.key, digest.key, seed, versions()) for unit, digest in single.items()}


def _is_drawn(path: Path, expected: str) -> bool:
    """Say whether a unit's card is there, whole, and of these settings; set aside what is damaged."""
    picture = path.with_suffix(".png")
    read = lambda path: json.loads(path.read_text(encoding="utf-8"))
    is_current = lambda card: card["fingerprint"] == expected and picture.is_file()
    return (
        read_entry(path, read, is_current) is not None and read_entry(picture, read_picture, lambda _: True) is not None
    )
