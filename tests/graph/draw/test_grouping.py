"""The tree of groups: by path, without cycles between siblings, and never a crowd."""

import numpy as np
import pytest

from benchmarks.synthetic_graphs import chain_rows, loop_rows, random_rows, recording
from diffprog.graph._draw.grouping import MAX_MEMBERS, Group, group_tree, parts, shown


def names(group):
    return [child.name if isinstance(child, Group) else child.label for child in group.children]


def tree_of(rows):
    return group_tree(recording(rows).nodes)


def test_nodes_fold_by_path_and_parameters_stand_with_their_layer():
    tree = tree_of(
        [
            ("images", [], ""),
            ("kernel", [], ""),
            ("bias", [], ""),
            ("dot", [0, 1], "net/dense"),
            ("add", [3, 2], "net/dense"),
            ("tanh", [4], "net"),
            ("sum", [5], ""),
        ]
    )
    (net,) = [g for g in tree.groups if g.path == "net"]
    (dense,) = [g for g in tree.groups if g.path == "net/dense"]
    assert names(tree.root) == ["net", "sum"]
    assert names(net) == ["dense", "tanh"]
    assert names(dense) == ["images", "kernel", "dot", "bias", "add"]
    assert (dense.size, net.size, tree.root.size) == (5, 6, 7)


def test_a_module_called_twice_with_something_between_is_two_groups():
    tree = tree_of(
        [
            ("x", [], ""),
            ("dot", [0], "dense"),
            ("tanh", [1], "dense"),
            ("sort", [2], ""),
            ("dot", [3], "dense"),
            ("tanh", [4], "dense"),
        ]
    )
    assert names(tree.root) == ["dense", "sort", "dense (2)"]


def test_layers_of_a_list_with_something_between_are_groups_of_their_own_and_have_their_weights():
    rows, last = [("x", [], "")], 0
    for i in range(3):
        rows.append((f"weight{i}", [], ""))
        rows.append((f"bias{i}", [], ""))
        rows.append(("dot", [len(rows) - 2, last], f"mlp/layers[{i}]"))
        rows.append(("add", [len(rows) - 1, len(rows) - 2], f"mlp/layers[{i}]"))
        rows.append(("relu", [len(rows) - 1], "mlp"))
        last = len(rows) - 1
    tree = tree_of([*rows, ("sum", [last], "")])
    (mlp,) = [group for group in tree.groups if group.path == "mlp"]
    assert names(mlp) == ["layers[0]", "relu", "layers[1]", "relu", "layers[2]", "relu"]
    assert [names(layer) for layer in mlp.children[::2]] == [
        ["x", "weight0", "dot", "bias0", "add"],
        ["weight1", "dot", "bias1", "add"],
        ["weight2", "dot", "bias2", "add"],
    ]
    assert_no_cycles(tree)


def test_two_branches_through_the_same_modules_stay_without_cycles():
    # a1 -> b1 and b2 -> a2: one group a and one group b would use each other.
    tree = tree_of(
        [
            ("x", [], ""),
            ("a1", [0], "a"),
            ("b1", [1], "b"),
            ("b2", [0], "b"),
            ("a2", [3], "a"),
            ("a3", [4], "a"),
            ("b3", [1], "b"),
        ]
    )
    assert_no_cycles(tree)
    assert "a (2)" in names(tree.root)


def assert_no_cycles(tree):
    for group in tree.groups:
        within = lambda child: child.nodes() if isinstance(child, Group) else [child]
        member = {node: child for child in group.children for node in within(child)}
        after = {child: set() for child in group.children}
        for node, child in member.items():
            after[child] |= {member[e.target] for e in node.outgoing if e.target in member} - {child}
        left = set(after)
        while free := {c for c in left if not any(c in after[other] for other in left)}:
            left -= free
        assert not left, f"a cycle in {group}"


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_have_no_cycles_between_siblings_and_keep_every_node(seed):
    rows = random_rows(150, seed)
    tree = tree_of(rows)
    assert_no_cycles(tree)
    assert sorted(node.index for node in tree.root.nodes()) == list(range(150))


def test_iterations_of_a_loop_are_inside_the_loop_and_found_by_their_path():
    tree = tree_of(loop_rows(3))
    assert [(group.name, group.path) for group in tree.groups[1:]] == [
        ("rnn", "rnn"),
        ("scan", "rnn/scan"),
        *((f"scan[{i}]", f"rnn/scan[{i}]") for i in range(3)),
    ]
    assert {group.name for group in tree.opened("rnn/scan[1]")} == {"", "rnn", "scan", "scan[1]"}
    assert parts("rnn/scan[3]/cell") == ("rnn", "scan", "scan[3]", "cell")
    assert parts("blocks.12") == ("blocks", "blocks.12")
    assert parts("Dense_0") == ("Dense_0",)
    assert parts("") == ()


def test_a_crowd_without_paths_is_divided_into_stretches_without_cycles():
    tree = tree_of(random_rows(500, paths=("",)))
    assert all(len(group.children) <= MAX_MEMBERS for group in tree.groups)
    assert_no_cycles(tree)
    assert sorted(node.index for node in tree.root.nodes()) == list(range(500))


def test_what_is_open_by_default_fits_the_budget_level_by_level():
    tree = tree_of(chain_rows(12, 6))
    opened = tree.opened(budget=30)
    boxes = [child for group in opened for child in group.children if child not in opened]
    assert 12 <= len(boxes) <= 30
    blocks = [g for g in tree.groups if g.name.startswith("blocks.")]
    assert len(blocks) == 12 and not any(block in opened for block in blocks)


def test_globs_open_groups_and_what_is_around_them():
    tree = tree_of(chain_rows(3, 4))
    opened = tree.opened("net/blocks.1")
    assert {group.name for group in opened} == {"", "net/blocks", "blocks.1"}
    assert tree.opened("*") == set(tree.groups)
    assert tree.opened(0) == {tree.root}


def test_a_glob_that_matches_nothing_names_the_nearest():
    with pytest.raises(ValueError, match=r"'net/blocks.9' matches no group of nodes; the nearest are 'net/b"):
        tree_of(chain_rows(3, 4)).opened("net/blocks.9")


def test_plain_numbers_and_results_that_go_nowhere_are_left_out():
    constant = {"status": "constant", "primitive": "constant"}
    r = recording(
        [
            ("x", [], ""),
            ("two", [], "", constant | {"avals": [np.float32(2)]}),
            ("broadcast", [1], "", {"status": "constant"}),
            ("table", [], "", constant),
            ("dead", [0], ""),
            ("mul", [0, 2], ""),
            ("add", [5, 3], ""),
        ]
    )
    assert [node.label for node in shown(r)] == ["x", "table", "mul", "add"]
    assert len(shown(r, everything=True)) == 7
