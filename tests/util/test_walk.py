"""A walk meets what can be reached, once, in the order that it states, and looks no further than it is asked."""

import numpy as np
import pytest

from diffprog._util.walk import walk


def recursive(starts, next_of):
    """Depth first in preorder, as one writes it down."""
    seen = []

    def visit(item):
        if item not in seen:
            seen.append(item)
            for following in next_of(item):
                visit(following)

    for start in starts:
        visit(start)
    return seen


@pytest.mark.parametrize("seed", range(20))
def test_against_recursion_and_powers_of_the_matrix(seed):
    rng = np.random.default_rng(seed)
    edges = rng.random((12, 12)) < 0.12
    next_of = lambda item: rng_order[item]
    rng_order = [list(map(int, rng.permutation(np.flatnonzero(row)))) for row in edges]
    starts = [int(x) for x in rng.permutation(12)[:2]]
    depth_first, nearest_first = list(walk(starts, next_of)), list(walk(starts, next_of, nearest_first=True))
    assert depth_first == recursive(starts, next_of)

    distance = np.full(12, 99)
    reached = np.isin(np.arange(12), starts)
    for step in range(12):
        distance[reached] = np.minimum(distance[reached], step)
        reached = reached | (reached @ edges)
    assert sorted(depth_first) == sorted(nearest_first) == list(np.flatnonzero(distance < 99))
    assert list(distance[nearest_first]) == sorted(distance[nearest_first])


def test_no_further_than_asked():
    asked = []

    def next_of(item):
        asked.append(item)
        return [item + 1]

    assert next(item for item in walk([0], next_of) if item == 3) == 3
    assert asked == [0, 1, 2]
