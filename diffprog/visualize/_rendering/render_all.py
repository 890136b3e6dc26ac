"""Pictures of many units, into a folder: a long work that may be killed at any moment, and goes on where it was."""

import hashlib
import json

import jax
import numpy as np
from tqdm import tqdm

from diffprog.visualize._rendering.recipes import recipe
from diffprog.visualize._rendering.render import render
from diffprog.visualize.gallery._cards import Card, card_path, save_card


def render_all(
    model, objectives, folder, *, seed=0, name="default", size=None, steps=None, batch=8, progress=None, **options
):
    """Draw each objective into `folder`, as a card: NAME.png, and NAME.json with how it was drawn and its history.

    objectives: {unit: objective}; the unit's name becomes the files'.
    seed:       of `jax.random.key`. Every picture is number 0 of its key: which units are drawn with it, before it or
                in which batch does not matter (beyond rounding).
    name, size: of the `recipe`; steps instead of the recipe's.
    batch:      pictures that are drawn at once, by one compiled program for all units whose objectives are of a kind.
    progress:   a caption, which switches on a progress bar over all pictures, with the time left.
    options:    of `render`.

    A unit whose files are there, drawn with the same settings, is left alone; other cards in the folder are kept. A
    killed run has lost no more than its last batch. Returns the paths of the cards, in the order of the objectives.
    Raises ValueError for options that cannot be told from others by their text: an optimizer, a transform.
    """
    if batch < 1 or not objectives:
        raise ValueError(f"objectives must be given, and a batch of 1 or more; found {len(objectives)} and {batch}")
    paths = {unit: card_path(folder, unit) for unit in objectives}
    if len(set(paths.values())) < len(paths):
        raise ValueError("two units would be kept in the same file; give them names that differ in letters or digits")
    chosen = {unit: recipe(model, objective.checked(model), name, size) for unit, objective in objectives.items()}
    marks = {unit: _mark(model, objectives[unit], name, chosen[unit], seed, steps, options) for unit in objectives}
    missing = [unit for unit in objectives if not _finished(paths[unit], marks[unit])]
    with tqdm(
        total=len(objectives),
        initial=len(objectives) - len(missing),
        desc=progress,
        unit="picture",
        disable=progress is None,
    ) as bar:
        for units, filled in _batches(missing, objectives, chosen, batch):
            how = chosen[units[0]].options | ({"steps": steps} if steps else {}) | options
            drawn = render(
                model,
                [objectives[unit] for unit in filled],
                key=jax.random.key(seed),
                image_ids=np.zeros(len(filled), int),
                **how,
            )
            for place, unit in enumerate(units):
                layer, channel = _place(objectives[unit])
                save_card(
                    folder,
                    Card(
                        unit,
                        drawn.images[place],
                        layer=layer,
                        channel=channel,
                        recipe=name,
                        seed=seed,
                        steps=len(drawn.scores),
                        history=drawn.scores[:, place],
                        parts=drawn.term_histories[place] if len(drawn.term_histories[place]) > 1 else {},
                        mark=marks[unit],
                    ),
                )
            bar.update(len(units))
    return list(paths.values())


def _place(objective):
    """The layers that an objective reads, and its channel if it is one channel's or neuron's."""
    keys = [term.key[:1] for term in objective.weights]
    channel = keys[0][0] if len(keys) == 1 and keys[0] and isinstance(keys[0][0], int) else None
    return ", ".join(sorted(objective.layers)), channel


def _batches(units, objectives, recipes, size):
    """Units with the same recipe and kind of objective, at most `size` at a time; and the same again, where the last
    unit fills up a batch that would be shorter than the others of its kind: one shape, one program."""
    kinds = {}
    for unit in units:
        terms = tuple((term.measure, term.layers) for term in objectives[unit].weights)
        kinds.setdefault((recipes[unit], terms), []).append(unit)
    for same in kinds.values():
        for first in range(0, len(same), size):
            some = same[first : first + size]
            yield some, some + some[-1:] * (min(size, len(same)) - len(some))


def _mark(model, objective, name, how, seed, steps, options):
    """What a picture depends on, as a digest."""
    terms = [(term.name, term.layers, _digest(term.key), weight) for term, weight in objective.weights.items()]
    settings = {option: _plain(option, value) for option, value in sorted(options.items()) if option != "engine"}
    size = (
        how.parameterization.height,
        how.parameterization.width,
        how.parameterization.channels,
        how.num_transforms,
        how.learning_rate,
    )
    return _digest((model.name, terms, objective.constant, name, size, seed, steps or how.steps, settings))


def _plain(option, value):
    """A setting as text that is the same in the next run."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, (str, int, float, tuple, list, type(None))):
        return repr(value)
    raise ValueError(f"{option} of a long job must be a number, a text or an array; found a {type(value).__name__}")


def _digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _finished(path, mark):
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("mark") == mark and path.with_suffix(".png").is_file()
