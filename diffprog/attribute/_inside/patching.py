"""Activation and attribution patching: which node, edge or line explains the difference of two runs?"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count, whole_number
from diffprog._util.warning import warn
from diffprog.attribute._core.attribution import AttributionWarning
from diffprog.attribute._inside.credits import Credits, Gradients, Line, is_inexact, line_of, value_of
from diffprog.attribute._inside.matching import Match, sites
from diffprog.attribute._inside.patched_runs import Patch, alone, argument_of, results_of
from diffprog.attribute._inside.patching_result import EdgeCredit, LineCredit, NodeCredit, Patching, filled
from diffprog.attribute._inside.runs import Runs
from diffprog.graph import Node, Place, Recording, Selector, Source
from diffprog.graph._recording.record import is_array


def patching(
    function: Callable[[Any], Any],
    clean: Any,
    corrupt: Any,
    score: int | Callable[[Any], Any] | None = None,
    *,
    at: Selector | list[Selector] | None = None,
    steps: int | None = None,
    exact: int = 3,
    max_bytes: int = 2**30,
    max_nodes: int = 100_000,
) -> Patching:
    """Explain the difference of two runs of a program by its nodes, its edges and its lines.

    Attribution patching: the difference of a value between the runs, times the gradient of the score with respect to
    this value in the corrupt run, estimates what happens to the score if the corrupt run gets the clean value there.
    One backward pass does it for all nodes and edges. For those with the largest credit, activation patching says what
    really happens: the program is run again with the clean value in that place, and goes whatever way it leads.

    A line's credit is what the differences of the values that it computes are worth, less what the differences of the
    computed values that it uses are worth; the program's inputs count to the lines that read them. So a difference
    counts where it comes in and not in every line that passes it on, and the credits of all lines add up to the
    difference of the scores, in any program. Where a program is linear in its differences, they are due to the lines
    that read what differs. Elsewhere a line gets the curvature that it adds; with `steps` the curvatures of all lines
    together vanish. A branch or a loop that goes another way counts to the line of its condition.

    Loops are unrolled. The nodes of the two runs are matched by line, scopes and iteration, and what has no partner is
    listed in the result. Every run goes operation by operation, about half a millisecond each on a CPU: two runs, one
    backward pass, and four more runs for each of `exact`.

    Args:
      function: any function of one argument to one number, or to one number per example, whose sum is explained then.
      clean: its argument in the clean run: any pytree of arrays, numbers and whatever else it takes.
      corrupt: its argument in the run to compare with, of the same structure and shapes.
      score: a function of the output, or the index of a class, of outputs (..., classes); the output itself if None.
      at: selectors of the values whose credit `values` has, see `diffprog.graph`; the inputs by default.
      steps: number of points of a Gauss-Legendre quadrature on the straight way from the corrupt to the clean run, over
        which gradients are averaged; None takes those of the corrupt run.
      exact: how many lines, nodes and edges, each, are run again to say what patching really does.
      max_bytes: bytes of values to keep of one run; what comes later gets no credit.
      max_nodes: number of nodes above which a loop stays one node.

    Returns:
      A `Patching`, which prints as the program's lines with bars beside them.

    Raises:
      TypeError: `function` takes no single argument, or its score is no real number.
      ValueError: the two arguments do not fit, or a score is not finite.

    References:
      Vig et al., "Investigating gender bias in language models using causal mediation analysis", 2020 (activation
      patching). Syed et al., "Attribution patching outperforms automated circuit discovery", 2023 (nodes and edges).
      Hanna et al., "Have faith in faithfulness", 2024 (gradients averaged over a path).
    """
    check_count(exact, "exact", 0)
    if steps is not None:
        check_count(steps, "steps")
    _check_arguments(function, clean, corrupt)
    runs = Runs(_scored(function, score), clean, corrupt, max_bytes, max_nodes)
    match = Match(runs.record(clean), runs.record(corrupt))
    check_runs(match)
    gradients = Gradients()
    nodes = {site: node for site, node in sites(match.corrupt).items()}
    for recording, weight in runs.gradients(match, steps):
        gradients.add(recording, weight, {node: nodes[s] for s, node in sites(recording).items() if s in nodes})
    credits = Credits(match, gradients)
    effects = Effects(runs, match)
    values = _values(credits, match, corrupt) if at is None else _values_at(credits, match.corrupt, at)
    result = Patching(
        values=values,
        score=match.clean.output,
        baseline_score=match.corrupt.output,
        gap=_gap(match, values),
        by_line=_by_line(credits, match, effects, exact),
        by_node=_by_node(credits, effects, exact),
        by_edge=_by_edge(credits, match, effects, exact),
        ways=list(map(str, match.differences)),
        clean=match.clean,
        corrupt=match.corrupt,
        only_clean=match.only_clean,
        only_corrupt=match.only_corrupt,
        steps=steps,
        evaluations=runs.count,
        _credit=credits.of_results,
        _effect=effects.of_nodes,
        _alone=lambda nodes: effects.of(nodes, alone),
    )
    _warn(result)
    return result


# ---------------------------------------------------------------- what is given


def _check_arguments(function, clean, corrupt):
    try:
        inspect.signature(function).bind(clean)
    except TypeError:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"patching runs a function of one argument, any pytree; {name} takes others: give "
            "lambda arguments: function(*arguments) and a tuple for each run"
        ) from None
    except ValueError:  # no signature is known
        pass
    shapes = []
    for argument in (clean, corrupt):
        paths, tree = jax.tree_util.tree_flatten_with_path(argument)
        shapes.append((tree, [(jax.tree_util.keystr(p), np.shape(x)) for p, x in paths if is_array(x)]))
    if shapes[0][0] != shapes[1][0]:
        raise ValueError(
            f"the clean and the corrupt argument must have one structure; found {shapes[0][0]} and {shapes[1][0]}"
        )
    for (path, shape), (_, other) in zip(shapes[0][1], shapes[1][1], strict=False):
        if shape != other:
            raise ValueError(
                f"the clean and the corrupt argument must have the same shapes; found {shape} and {other}"
                + (f" at {path}" if path else "")
            )


def _scored(function, score):
    """Compose a function with its score, under the function's name and signature."""
    if score is None:
        read = lambda output: output
    elif callable(score):
        read = score
    elif (number := whole_number(score)) is not None:
        read = lambda output: output[..., number]
    else:
        raise TypeError(
            f"score must be a function of the output, the index of a class, or None for the output; found {score!r}"
        )

    def scored(argument):
        found = read(function(argument))
        shape, dtype = np.shape(found), getattr(found, "dtype", np.result_type(type(found)))
        if len(shape) > 1 or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                "patching explains one real number, or one for each example, whose sum it takes; found "
                f"{'shape ' + str(shape) if shape else ''} {dtype}: give score=, a function of the output"
            )
        return found

    scored.__name__ = type(function).__name__
    return wraps(function)(scored)


def check_runs(match: Match):
    """Require scores of one shape that are finite, and say where they stop being so.

    Raises:
      ValueError: they are not.
    """
    for recording, name in ((match.clean, "clean"), (match.corrupt, "corrupt")):
        if np.isfinite(np.asarray(recording.output, np.float64)).all():
            continue
        first = next((node for node in recording.nodes if node.mark == "nan"), None)
        where = f", first at {first.label}" + (f" in {first.source}" if first and first.source else "") if first else ""
        raise ValueError(f"the score of the {name} run is {recording.output}, not finite{where}: repair that run first")
    shapes = np.shape(match.clean.output), np.shape(match.corrupt.output)
    if shapes[0] != shapes[1]:
        raise ValueError(f"the scores of the two runs must have one shape; found {shapes[0]} and {shapes[1]}")


# ---------------------------------------------------------------- what really happens


class Effects:
    """Runs the corrupt run again with parts of the clean one."""

    def __init__(self, runs: Runs, match: Match):
        self._runs, self._match = runs, match

    def of(self, nodes: Iterable[Node], patch: Callable[[Node], Patch]) -> float:
        """Patch these nodes of the clean run."""
        patches = {self._match.sites[node]: patch(node) for node in nodes}
        return self._runs.effect(patches, self._match.corrupt.output)

    def of_nodes(self, nodes: Iterable[Node]) -> float:
        """Give nodes the values of the clean run.

        Raises:
          ValueError: one has no value that was kept, or no partner in the clean run.
        """
        partner = self._match.partner
        found = [partner.get(node, node) for node in nodes]
        for node in found:
            values = [value_of(Place(node, i)) for i in range(len(node.values))]
            if node not in self._match.sites or any(x is None for x in values) or node.primitive == "constant":
                raise ValueError(
                    f"{node!r} has no value in the clean run: select something that both runs compute, and keep more "
                    "values by max_bytes="
                )
        return self.of(found, results_of)


# ---------------------------------------------------------------- credit, sorted


def _by_line(credits: Credits, match: Match, effects: Effects, exact: int) -> list[LineCredit]:
    sources: dict[Line, Source] = {}
    clean: dict[Line, list[Node]] = defaultdict(list)
    counts: dict[Line, list[int]] = defaultdict(lambda: [0, 0])
    for node in (*match.corrupt.nodes, *match.only_clean):
        line = line_of(node.source)
        if node.source is not None:
            sources.setdefault(line, node.source)
        if node.primitive not in ("input", "constant"):
            counts[line][0 if node in match.partner else 1] += 1
    for node in match.clean.nodes:
        if node.primitive not in ("input", "constant"):
            clean[line_of(node.source)].append(node)
    found = []
    ranked = sorted(credits.lines.items(), key=lambda item: -abs(item[1]))
    for place, (line, credit) in enumerate(ranked):
        if line is None and credit == 0:
            continue
        is_run = place < exact and credit != 0 and clean[line]
        found.append(
            LineCredit(
                *(line or ("", 0)),
                sources[line].function if line in sources else "",
                credit,
                effects.of(clean[line], alone) if is_run else None,
                effects.of(clean[line], results_of) if is_run else None,
                *counts[line],
            )
        )
    return found


def _by_node(credits: Credits, effects: Effects, exact: int) -> list[NodeCredit]:
    ranked = sorted(credits.nodes.items(), key=lambda item: -abs(item[1]))
    return [
        NodeCredit(node, credit, credits.own[node], effects.of_nodes([node]) if i < exact and credit else None)
        for i, (node, credit) in enumerate(ranked)
    ]


def _by_edge(credits: Credits, match: Match, effects: Effects, exact: int) -> list[EdgeCredit]:
    ranked = sorted(credits.edges.items(), key=lambda item: -abs(item[1]))
    found = []
    for i, (edge, credit) in enumerate(ranked):
        is_run = i < exact and credit and edge.target in match.partner
        patch = lambda node, edge=edge: argument_of(node, edge.argument)
        found.append(EdgeCredit(edge, credit, effects.of([match.partner[edge.target]], patch) if is_run else None))
    return found


# ---------------------------------------------------------------- the inputs' credit


def _values(credits: Credits, match: Match, argument: Any) -> Any:
    """Lay the credit of the inputs out as the argument."""
    tree: Any
    leaves, tree = jax.tree.flatten(argument)
    inputs = iter(match.corrupt.inputs)
    found = []
    for leaf in leaves:
        part = credits.of_results(next(inputs))[0] if is_array(leaf) else None
        if part is None and is_array(leaf) and is_inexact(leaf):
            part = np.zeros(np.shape(leaf))
        found.append(None if part is None else jnp.asarray(part, jnp.finfo(jnp.asarray(leaf).dtype).dtype))
    return tree.unflatten(found)


def _values_at(credits: Credits, recording: Recording, at: Selector | list[Selector]) -> dict:
    selectors = [at] if isinstance(at, str) or callable(at) else list(at)
    if not selectors:
        raise ValueError("at= takes a selector, or a list of them; found an empty one")
    found = {}
    for selector in selectors:
        parts = [part for node in recording.select(selector) for part in filled(node, credits.of_results(node))]
        found[selector] = parts[0] if len(parts) == 1 else parts
    return found


def _gap(match: Match, values: Any) -> jax.Array | None:
    score, start = (np.asarray(x.output, np.float64) for x in (match.clean, match.corrupt))
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(values)]
    if score.ndim == 1:
        if any(leaf.ndim == 0 or len(leaf) != len(score) for leaf in leaves):
            return None
        total = sum((leaf.reshape(len(leaf), -1).sum(axis=1) for leaf in leaves), np.zeros(len(score)))
    else:
        total = sum(float(leaf.sum()) for leaf in leaves)
    return jnp.asarray(score - start - total, match.clean.output.dtype)


def _warn(result: Patching):
    difference = result.difference
    if difference == 0:
        warn("patching: the two runs have the same score, there is nothing to explain", AttributionWarning)
        return
    bad = next((found.node for found in result.by_node if not np.isfinite(found.credit)), None)
    if bad is not None:
        warn(
            f"patching: credit is not finite, as the slope at {bad.label} in {bad.source} is not: look at the corrupt "
            "run with diffprog.diagnose, or go around that point by steps=",
            AttributionWarning,
        )
    elif abs(result.unexplained) > 0.01 * abs(difference):
        notes = "; ".join(dict.fromkeys([*result.clean.notes, *result.corrupt.notes]))
        why = notes or "the runs on the way do not all go through the operations of the corrupt run"
        warn(
            f"patching: the credits of all lines miss {result.unexplained:.3g} of {difference:.3g}: {why}",
            AttributionWarning,
        )
