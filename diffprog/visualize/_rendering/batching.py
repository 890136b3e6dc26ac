"""Sort the objectives of a batch of pictures into what is compiled and what is data.

Which layers are read, and how, is compiled; which channel, class, vector or weight is data. All channels of a layer, in
batches of one size, share one program.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.models import Model
from diffprog.visualize.objectives._base import Objective


class TermKind(NamedTuple):
    """The compiled part of a `Term`; see there."""

    measure: Any
    layers: tuple[str, ...]
    joint: bool


class Group(NamedTuple):
    """Pictures whose objectives differ in data only; hashable.

    Attributes:
      pictures: The pictures' positions in the batch.
      terms: The kinds of their objectives' terms.
    """

    pictures: tuple[int, ...]
    terms: tuple[TermKind, ...]


class Plan(NamedTuple):
    """A batch of objectives.

    Attributes:
      layout: The groups, a static part of the program.
      arguments: For each group the pair (weights, arguments of each term), arrays with a row per picture.
    """

    layout: tuple[Group, ...]
    arguments: Any


def plan(objectives: Sequence[Objective], model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    """Group a batch of objectives.

    Raises:
      ValueError: An objective does not fit the model, or layers of these shapes.
    """
    groups: dict[Any, list] = {}
    for picture, objective in enumerate(objectives):
        arguments = [tuple(map(np.asarray, numbers)) for numbers in objective.term_arguments(model, shapes)]
        kinds = tuple(TermKind(term.measure, term.layers, term.joint) for term in objective.weights)
        types = tuple(tuple((x.shape, x.dtype.str) for x in numbers) for numbers in arguments)
        weights = np.array([*objective.weights.values(), objective.constant], np.float32)
        groups.setdefault((kinds, types), []).append((picture, (weights, arguments)))
    layout = tuple(Group(tuple(i for i, _ in members), kinds) for (kinds, _), members in groups.items())
    stacked = [jax.tree.map(lambda *rows: np.stack(rows), *(row for _, row in members)) for members in groups.values()]
    return Plan(layout, stacked)


def measure(
    layout: tuple[Group, ...], arguments: Any, values: Mapping[str, jax.Array], num_images: int
) -> tuple[jax.Array, list[jax.Array]]:
    """Score a batch: scores (num_images,), and for each group its unweighted terms (pictures, terms).

    Args:
      layout: A plan's groups.
      arguments: The plan's arguments.
      values: Each layer's values (num_images, ...), and the pictures as the layer "image".
      num_images: The number of pictures.
    """
    scores, group_terms = jnp.zeros(num_images, jnp.float32), []
    for group, (weights, term_arguments) in zip(layout, arguments, strict=True):
        rows = np.array(group.pictures)
        whole_batch = group.pictures == tuple(range(num_images))
        select = (lambda array: array) if whole_batch else (lambda array: array[rows])
        read = {name: select(values[name]) for name in {name for kind in group.terms for name in kind.layers}}
        columns = [
            select(kind.measure(values))
            if kind.joint
            else _measure_rows(kind.measure, {name: read[name] for name in kind.layers}, arrays)
            for kind, arrays in zip(group.terms, term_arguments, strict=True)
        ]
        terms = jnp.stack(columns, axis=1) if columns else jnp.zeros((len(rows), 0), jnp.float32)
        total = jnp.sum(terms * weights[:, :-1], axis=1) + weights[:, -1]
        scores = total if whole_batch else scores.at[rows].set(total)
        group_terms.append(terms)
    return scores, group_terms


def _measure_rows(measure, values, arguments):
    """Measure a term of each picture, with the picture's own arguments."""
    one = lambda row, row_arguments: measure(jax.tree.map(lambda x: x[None], row), *row_arguments)[0]
    return jax.vmap(one)(values, arguments)


def term_histories(
    objectives: Sequence[Objective], layout: tuple[Group, ...], group_terms: Sequence[np.ndarray]
) -> tuple[dict[str, np.ndarray], ...]:
    """Map, for each picture, its terms' names to histories (steps,); a group's terms are (steps, pictures, terms)."""
    histories: list[dict] = [{} for _ in objectives]
    for group, terms in zip(layout, group_terms, strict=True):
        for row, picture in enumerate(group.pictures):
            histories[picture] = dict(zip(_term_names(objectives[picture]), terms[:, row].T, strict=True))
    return tuple(histories)


def _term_names(objective):
    """Name an objective's terms; of several with one name, two directions say, the second is "name #2"."""
    names = [term.name for term in objective.weights]
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} #{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]
