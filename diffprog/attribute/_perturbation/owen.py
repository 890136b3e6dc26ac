"""Owen values: Shapley values of features in groups, which join a coalition group by group."""

from collections.abc import Callable, Iterator
from itertools import count, product
from math import comb, prod
from typing import Any

import numpy as np

from diffprog._util.numbers import whole_number
from diffprog._util.promotion import own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attribute._core.attribution import Attribution
from diffprog.attribute._core.baseline import Baseline, Data
from diffprog.attribute._core.players import Features
from diffprog.attribute._core.spelling import MEANT
from diffprog.attribute._perturbation.coalitions import credit, for_each, game, payoffs
from diffprog.attribute._perturbation.orders import check_samples, in_pairs, prefixes, ranked
from diffprog.attribute._perturbation.shapley import all_masks, mean_contributions
from diffprog.graph import Selector

MOST_TERMS = 2**16  # of the exact sum


@answers_names(MEANT)
@own_promotion()
def owen_values(
    model: Callable[..., Any],
    inputs: Any,
    score: Any = None,
    *,
    groups: Any,
    features: Features = None,
    baseline: Baseline | Data = None,
    samples: int | None = None,
    key: Any = None,
    at: Selector | list[Selector] | None = None,
    chunk: int | None = None,
    progress: str | None = None,
) -> Attribution:
    """Credit each feature with its mean contribution over the orders in which groups stay together.

    A group's sum is the Shapley value of the group, and within it features share as Shapley has it. Groups may hold
    groups. Without `samples` the values are exact; a few groups of a few features need far fewer coalitions than 2^M.
    With `samples`, so many orders are drawn, each with its reverse. Draws are the same for every example.

    Args:
      model: a function from a batch to outputs, or a `diffprog.models.Model`; see `diffprog.attribute`.
      inputs: examples, a pytree of arrays (n, ...).
      score: what is explained; a list for several.
      groups: an integer for each of M features, the number of its group; or lists of features, in which lists are
        groups again: [[0, 1], [2, [3, 4]]].
      features: the players, see `diffprog.attribute.features`; each element by default.
      baseline: what takes the place of missing features; a number, an array, a function, or a data set of m rows over
        which scores are averaged, `baselines.data(rows)`; zeros by default.
      samples: orders, at least 4, made even; the exact sum by default.
      key: a JAX random key, or a seed, for `samples`.
      at: selectors of the values that get the credit; the inputs by default.
      chunk: rows of one run; found by itself.
      progress: a caption, which switches on a progress bar.

    Returns:
      An `Attribution`: a feature's credit is divided over its elements; `per_feature` has it whole. Of sampled values,
      with standard errors.

    Raises:
      ValueError: something does not fit, or the exact sum has too many terms.

    References:
      Owen, "Values of games with a priori unions", 1977. Winter, "A value for cooperative games with levels structure
      of cooperation", 1989 (groups of groups).
    """
    asked = game("owen_values", model, inputs, score, features, baseline, at, chunk, progress)
    size = asked.players.count
    tree = _tree(groups, size)
    if samples is None:
        terms = sum(prod(2 ** (len(level) - 1) for level, _ in path) for path in _paths(tree))
        if terms > MOST_TERMS:
            raise ValueError(
                f"owen_values is a sum of {terms} terms for these groups, and exact up to {MOST_TERMS}: give samples= "
                "and key=, or smaller groups"
            )
        masks, weights = _exact(tree, size)
        found = payoffs(asked, masks)
        values, error = (
            for_each(found.coalitions, lambda scores: weights @ np.diff(scores.reshape(-1, 2), axis=1)[:, 0]),
            None,
        )
    else:
        samples, key = check_samples(samples, key)
        drawn = _orders(tree, key, samples)
        found = payoffs(asked, prefixes(drawn).reshape(-1, size))
        values, error = mean_contributions(drawn, found)
    return credit(
        asked,
        values,
        error,
        score=found.whole,
        baseline_score=found.none,
        divided=True,
        is_complete=True,
        evaluations=found.evaluations,
        steps=samples,
    )


def _tree(groups: Any, size: int) -> list[Any]:
    """Read groups as lists of features and lists."""
    flat = np.asarray(groups) if not isinstance(groups, list | tuple) or _is_flat(groups) else None
    if flat is not None:
        if flat.dtype.kind not in "iu" or flat.shape != (size,):
            raise ValueError(
                f"groups must be an integer for each of {size} features, or lists of features; found {flat.dtype} of "
                f"shape {flat.shape}"
            )
        return [np.flatnonzero(flat == number).tolist() for number in np.unique(flat)]
    tree = _as_lists(groups)
    members = sorted(_leaves(tree))
    if members != list(range(size)):
        raise ValueError(f"groups must have each of the features 0 to {size - 1} once; found {members}")
    return tree


def _is_flat(groups):
    return all(whole_number(each) is not None for each in groups)


def _as_lists(node):
    if isinstance(node, list | tuple | np.ndarray):
        if not len(node):
            raise ValueError("groups must not be empty; found an empty list")
        return [_as_lists(each) for each in node]
    number = whole_number(node)
    if number is None:
        raise ValueError(f"groups are lists of features, whole numbers; found {node!r}")
    return number


def _leaves(node) -> Iterator[int]:
    if isinstance(node, list):
        for each in node:
            yield from _leaves(each)
    else:
        yield node


def _paths(node, above=()) -> Iterator[list[tuple[list[Any], int]]]:
    """Find the way to each feature: at each level the siblings and which of them is on the way."""
    for place, each in enumerate(node):
        here = [*above, (node, place)]
        if isinstance(each, list):
            yield from _paths(each, here)
        else:
            yield here


def _exact(tree, size):
    """Make the coalitions of the exact sum, (2 T, M), in pairs without and with a feature, and weights (M, T)."""
    masks, entries = [], []
    for path in _paths(tree):
        level, place = path[-1]
        feature = level[place]
        choices = [_subsets(level, place) for level, place in path]
        for chosen in product(*choices):
            mask = np.zeros(size, bool)
            for members, _ in chosen:
                mask[members] = True
            weight = prod(weight for _, weight in chosen)
            entries.append((feature, len(masks) // 2, weight))
            beside = mask.copy()
            beside[feature] = True
            masks += [mask, beside]
    matrix = np.zeros((size, len(masks) // 2))
    for feature, column, weight in entries:
        matrix[feature, column] = weight
    return np.array(masks), matrix


def _subsets(level, place):
    """List the subsets of the other siblings: the features in them, and Shapley's weight."""
    others = [list(_leaves(each)) for number, each in enumerate(level) if number != place]
    found = []
    for chosen in all_masks(len(others)):
        members = [feature for is_chosen, each in zip(chosen, others, strict=True) if is_chosen for feature in each]
        found.append((members, 1 / (len(level) * comb(len(others), int(chosen.sum())))))
    return found


def _numbered(level: list[Any], numbers: Iterator[int]) -> list[tuple[int, Any]]:
    """Give all nodes of a tree a number."""
    return [(next(numbers), _numbered(each, numbers) if isinstance(each, list) else each) for each in level]


def _ordered(level: list[tuple[int, Any]], places: np.ndarray) -> list[int]:
    """List the features of a numbered tree, siblings in the order of the places of their numbers."""
    found: list[int] = []
    for _, each in sorted(level, key=lambda node: places[node[0]]):
        found += _ordered(each, places) if isinstance(each, list) else [each]
    return found


def _orders(tree: list[Any], key: Any, samples: int) -> np.ndarray:
    """Draw orders in which groups stay together, each followed by its reverse: (samples, M)."""
    numbers = count()
    numbered = _numbered(tree, numbers)
    places = ranked(key, (samples // 2, next(numbers)))
    return in_pairs(np.array([_ordered(numbered, each) for each in places]))
