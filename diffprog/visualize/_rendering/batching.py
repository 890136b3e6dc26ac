"""The objectives of a batch of pictures, sorted into what is compiled and what is data.

Which layers are read and how is compiled; which channel, class, vector or weight is data. So all the channels of a
layer, in batches of one size, share one program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.visualize.objectives._base import Objective


class Group(NamedTuple):
    """Pictures whose objectives differ in numbers only; hashable.

    pictures: their places in the batch. terms: (measure, layers, whether it is joint) of each term.
    """

    pictures: tuple[int, ...]
    terms: tuple[tuple, ...]


class Plan(NamedTuple):
    """layout: the groups, a static part of the program. numbers: one entry per group, arrays with a row per picture."""

    layout: tuple[Group, ...]
    numbers: Any


def plan(objectives: list[Objective], model, shapes) -> Plan:
    """The plan of a batch. Raises ValueError for what does not fit the model or layers of these shapes."""
    groups: dict[Any, list] = {}
    for picture, objective in enumerate(objectives):
        numbers = [tuple(map(np.asarray, each)) for each in objective.measured(model, shapes)]
        kinds = tuple((term.measure, term.layers, term.joint) for term in objective.weights)
        sizes = tuple(tuple((x.shape, x.dtype.str) for x in each) for each in numbers)
        weights = np.array([*objective.weights.values(), objective.constant], np.float32)
        groups.setdefault((kinds, sizes), []).append((picture, (weights, numbers)))
    layout = tuple(Group(tuple(i for i, _ in members), kinds) for (kinds, _), members in groups.items())
    stacked = [jax.tree.map(lambda *rows: np.stack(rows), *(row for _, row in members)) for members in groups.values()]
    return Plan(layout, stacked)


def measure(layout, numbers, values, count):
    """The scores (count,) of a batch, and each group's terms (pictures, terms); `values` are (count, ...)."""
    scores, parts = jnp.zeros(count), []
    for group, (weights, given) in zip(layout, numbers, strict=True):
        everyone = group.pictures == tuple(range(count))
        chosen = np.array(group.pictures)
        of_group = lambda array, all_of_it=everyone, chosen=chosen: array if all_of_it else array[chosen]
        own = {name: of_group(values[name]) for name in {name for _, layers, _ in group.terms for name in layers}}
        rows = [
            of_group(measured(values)) if joint else _each(measured, {name: own[name] for name in layers}, arrays)
            for (measured, layers, joint), arrays in zip(group.terms, given, strict=True)
        ]
        terms = jnp.stack(rows, axis=1) if rows else jnp.zeros((len(chosen), 0))
        total = jnp.sum(terms * weights[:, :-1], axis=1) + weights[:, -1]
        scores = total if everyone else scores.at[chosen].set(total)
        parts.append(terms)
    return scores, parts


def _each(measured, values, numbers):
    """A term of each picture, with numbers of its own."""
    return jax.vmap(lambda own, given: measured(jax.tree.map(lambda x: x[None], own), *given)[0])(values, numbers)


def parts_by_picture(objectives, layout, history):
    """One dict per picture, from a term's name to its history (steps,); `history` holds (steps, pictures, terms)."""
    found = [{} for _ in objectives]
    for group, terms in zip(layout, history, strict=True):
        for row, picture in enumerate(group.pictures):
            found[picture] = dict(zip(term_names(objectives[picture]), terms[:, row].T, strict=True))
    return tuple(found)


def term_names(objective):
    """The names of an objective's terms; of several with one name, two directions say, the second is "name #2"."""
    names = [term.name for term in objective.weights]
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} #{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]
