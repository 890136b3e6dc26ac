"""The layout against what makes a drawing readable, and its parts against slow but plain oracles."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import scipy.optimize

from benchmarks.synthetic_graphs import chain_rows, loop_rows, random_rows, recording
from diffprog.graph._draw.coordinates import nearest
from diffprog.graph._draw.grouping import Group, group_tree
from diffprog.graph._draw.layering import _crossed, arrangements, count_crossings
from diffprog.graph._draw.layout import layout

GRAPHS = {
    "chain": chain_rows(3, 6),
    "random": random_rows(90, 1),
    "dense": random_rows(70, 2, width=30),
    "flat": random_rows(60, 3, paths=("",)),
    "loop": loop_rows(9),
}


@pytest.fixture(params=GRAPHS)
def rows(request):
    return GRAPHS[request.param]


@pytest.mark.parametrize("open", [None, 0, 1, "*"])
def test_boxes_do_not_overlap_and_open_groups_contain_their_members(rows, open):
    drawing = layout(recording(rows), open, everything=True)
    for a, b in combinations(drawing.boxes, 2):
        apart = (
            a.x + a.width <= b.x + 1e-6
            or b.x + b.width <= a.x + 1e-6
            or a.y + a.height <= b.y + 1e-6
            or b.y + b.height <= a.y + 1e-6
        )
        assert apart or contains(a, b) or contains(b, a), (a, b)
    for box in drawing.boxes:
        assert 0 <= box.x and box.x + box.width <= drawing.width
        assert 0 <= box.y and box.y + box.height <= drawing.height


def contains(outer, inner):
    if not (isinstance(outer.item, Group) and outer.open):
        return False
    within = set(outer.item.nodes())
    members = set(inner.item.nodes()) if isinstance(inner.item, Group) else {inner.item}
    return (
        members <= within
        and outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


@pytest.mark.parametrize("open", [0, 1, "*"])
def test_every_visible_edge_runs_downward_from_its_source_to_its_target(rows, open):
    """The segments of each edge, in the order of height, are one line from box to box."""
    r = recording(rows)
    drawing = layout(r, open, everything=True)
    boxes = {box.item: box for box in drawing.boxes if not box.open}
    within = lambda item: item.nodes() if isinstance(item, Group) else [item]
    box_of = {node: box for item, box in boxes.items() for node in within(item)}
    segments = {}
    for segment in drawing.segments:
        ys = [y for _, y in segment.points]
        assert np.all(np.diff(ys) >= -1e-9), "a segment goes up"
        for edge in segment.edges:
            segments.setdefault(edge, []).append(segment)
    for edge in (edge for node in r.nodes for edge in node.outgoing):
        source, target = box_of[edge.source], box_of[edge.target]
        if source is target:
            assert edge not in segments
            continue
        line = sorted(segments[edge], key=lambda segment: segment.points[0][1])
        assert np.isclose(line[0].points[0][1], source.y + source.height)
        assert source.x <= line[0].points[0][0] <= source.x + source.width
        assert np.allclose(line[-1].points[-1], (line[-1].points[-1][0], target.y))
        assert target.x <= line[-1].points[-1][0] <= target.x + target.width
        assert [segment.ends for segment in line] == [False] * (len(line) - 1) + [True]
        for upper, lower in pairwise(line):
            assert np.allclose(upper.points[-1], lower.points[0]), "a gap in a line"


def test_lines_do_not_run_through_boxes(rows):
    """Straight pieces keep clear of every box but those they belong to; bends are between the layers."""
    drawing = layout(recording(rows), "*", everything=True)
    boxes = [box for box in drawing.boxes if not box.open]
    for segment in drawing.segments:
        for (x, top), (next_x, bottom) in pairwise(segment.points):
            if x == next_x:
                for box in boxes:
                    inside = box.x + 1 < x < box.x + box.width - 1
                    assert not (inside and top < box.y + box.height - 1 and bottom > box.y + 1), (segment, box)


@pytest.mark.parametrize("seed", range(5))
def test_nearest_is_the_least_squares_solution_under_the_gaps(seed):
    rng = np.random.default_rng(seed)
    n = 7
    wishes, weights, gaps = rng.normal(0, 30, n), rng.uniform(0.1, 8, n), rng.uniform(5, 40, n - 1)
    found = np.array(nearest(list(wishes), list(weights), list(gaps)))
    assert np.all(np.diff(found) >= gaps - 1e-9)
    best = scipy.optimize.minimize(
        lambda x: np.sum(weights * (x - wishes) ** 2),
        np.cumsum(np.r_[0, gaps]),
        constraints={"type": "ineq", "fun": lambda x: np.diff(x) - gaps},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    np.testing.assert_allclose(found, best.x, atol=1e-2)


def test_crossings_are_counted_as_by_comparing_all_pairs_of_lines():
    r = recording(random_rows(60, 5, width=25, paths=("",)))
    tree = group_tree(r.nodes)
    (arranged,) = arrangements(tree, r.nodes).values()
    expected = 0
    for layer in arranged.layers:
        for i, vertex in enumerate(layer):
            vertex.position = i
    for layer in arranged.layers:
        lines = [(a.position, b.position) for a in layer for b in a.down]
        expected += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(lines, 2))
    assert expected > 0
    assert count_crossings(arranged.layers) == expected


def test_crossed_is_the_number_of_pairs_out_of_order():
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = (sorted(rng.integers(0, 6, rng.integers(0, 5)).tolist()) for _ in range(2))
        assert _crossed(left, right) == sum(a > b for a in left for b in right)


def test_a_loop_is_a_straight_column():
    """Weights beside the iterations, the carry straight down: no iteration far from the one before."""
    rows = [("w", [], ""), ("u", [], ""), ("h", [], "")]
    last = 2
    for i in range(8):
        rows.append(("dot", [0, last], f"scan[{i}]"))
        rows.append(("add", [len(rows) - 1, 1], f"scan[{i}]"))
        last = len(rows) - 1
    drawing = layout(recording(rows), 1)
    boxes = [box for box in drawing.boxes if isinstance(box.item, Group) and not box.open]
    assert [box.item.name for box in boxes] == [f"scan[{i}]" for i in range(8)]
    middles = [box.x + box.width / 2 for box in boxes]
    assert max(abs(np.diff(middles))) < boxes[0].width / 2


def test_many_results_on_one_way_are_one_line_and_all_their_edges_are_in_it():
    r = recording([*loop_rows(9), ("sum", [39], "")])
    drawing = layout(r, "rnn")
    (bundle,) = [segment for segment in drawing.segments if segment.ends and len(segment.edges) == 9]
    assert {edge.target.label for edge in bundle.edges} == {"stack"}
    drawing = layout(r, "rnn/scan")
    lines = [segment for segment in drawing.segments if any(edge.target.label == "stack" for edge in segment.edges)]
    assert [len(segment.edges) for segment in lines if segment.ends] == [9]


def test_an_empty_recording_has_a_layout():
    drawing = layout(recording([("x", [], "")]))
    assert [box.item.label for box in drawing.boxes] == ["x"] and not drawing.segments
