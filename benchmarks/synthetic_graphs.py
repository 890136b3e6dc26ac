"""Recordings put together by hand: graphs of any size and shape, without running anything."""

from types import SimpleNamespace

import numpy as np

from diffprog.graph._recording.nodes import Edge, Node, Place, Source


def recording(rows, differentiated=True):
    """A recording with one node per row.

    Args:
      rows: (label, sources, path) with sources the positions of the rows used; a fourth entry, a dict, sets fields of
        the node.
    """
    nodes = []
    for index, (label, sources, path, *more) in enumerate(rows):
        value = np.float32([0.5, -index])
        node = Node(
            index=index,
            primitive="add" if sources else "input",
            label=label,
            params={},
            arguments=tuple(Place(nodes[i], 0) for i in sources),
            source=Source(__file__, 10 + index % 20, "recording"),
            path=path,
            iteration=(),
            tap=None,
            single=True,
            avals=[value],
            differentiable=[True],
            values=[value],
            status="live",
            gradients=[np.float32([1.0, 0.25])] if differentiated else [],
        )
        for name, content in (more[0] if more else {}).items():
            setattr(node, name, content)
        for argument, i in enumerate(sources):
            gradient = np.float32([1.0, 0.25]) if differentiated else None
            edge = Edge(nodes[i], 0, node, argument, nodes[i].status == "live" and node.status == "live", gradient)
            nodes[i].outgoing.append(edge)
            node.incoming.append(edge)
        nodes.append(node)
    return SimpleNamespace(
        nodes=nodes,
        outputs=[Place(nodes[-1], 0)],
        output=nodes[-1].value,
        differentiated=differentiated,
        notes=[],
        function="loss",
    )


def random_rows(count, seed=0, width=8, paths=("", "a", "a/b", "a/c", "d", "d/e")):
    """A random graph: each node uses one to three of about `width` before it, and is in one of `paths`."""
    rng = np.random.default_rng(seed)
    rows = [("x", [], "")]
    for index in range(1, count):
        fan = rng.integers(0, 4) if index > 3 else 1
        sources = sorted({int(max(0, index - 1 - rng.integers(0, width))) for _ in range(fan)})
        rows.append((f"op{index}", sources, str(rng.choice(paths))))
    return rows


def chain_rows(blocks, size):
    """A network of `blocks` blocks of `size` operations with a parameter each, and a skip over each block."""
    rows = [("images", [], "")]
    last = 0
    for block in range(blocks):
        start, path = last, f"net/blocks.{block}"
        for operation in range(size // 2):
            rows.append((f"params[{block}][{operation}]", [], ""))
            rows.append(("dot_general", [last, len(rows) - 1], f"{path}/layer{operation}"))
            rows.append(("tanh", [len(rows) - 1], f"{path}/layer{operation}"))
            last = len(rows) - 1
        rows.append(("add", [last, start], path))
        last = len(rows) - 1
    rows.append(("reduce_sum", [last], "loss"))
    return rows


def loop_rows(iterations):
    """A recurrent network: in each iteration two products with the same weights, a sum, a nonlinearity; all states
    are used at the end."""
    rows, states = [("w", [], ""), ("u", [], ""), ("xs", [], "")], []
    last = 2
    for i in range(iterations):
        path = f"rnn/scan[{i}]"
        start = len(rows)
        rows += [("dot", [0, last], path), ("dot", [1, 2], path)]
        rows += [("add", [start, start + 1], path), ("tanh", [start + 2], path)]
        last = start + 3
        states.append(last)
    return [*rows, ("stack", states, "rnn")]
