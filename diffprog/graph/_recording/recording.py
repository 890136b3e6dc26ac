"""`Recording`: one run of a program as a graph, with every value, and after `backward` every gradient."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._jax_internals import instantiate
from diffprog._jax_internals.devices import one_cotangent
from diffprog._tracer import cotangents
from diffprog._tracer.backward import backward
from diffprog.graph._recording.nodes import Decision, Edge, Node, Place
from diffprog.graph._recording.recorder import Recorder
from diffprog.graph._recording.summaries import Summary
from diffprog.graph._selection import selectors
from diffprog.graph._selection.selectors import Selector


class Recording:
    """One run of a function.

    Attributes:
      function: the function's name.
      output: what it returned, an array or a pytree of arrays.
      nodes: inputs, constants and operations, in the order in which they ran.
      outputs: per array of `output` the `Place` that made it; None for one that is no result of any node.
      decisions: the branches that were taken and how often loops ran, inner ones before those around them.
      differentiated: whether `backward` was run.
      notes: what was not kept, and why.
    """

    def __init__(self, function: str, output: Any, outputs: list[Place | None], recorder: Recorder):
        self.function, self.output, self.outputs = function, output, outputs
        self.nodes: list[Node] = recorder.nodes
        self.decisions: list[Decision] = recorder.decisions
        self.differentiated = False
        self.notes = recorder.retention.notes
        self._recorder = recorder

    @property
    def inputs(self) -> list[Node]:
        """The nodes of the inputs, in order."""
        return [node for node in self.nodes if node.primitive == "input"]

    @property
    def edges(self) -> list[Edge]:
        """All edges, in the order of the nodes that they lead to."""
        return [edge for node in self.nodes for edge in node.incoming]

    # ------------------------------------------------------------ gradients

    def backward(self, cotangent: Any = None) -> "Recording":
        """Fill in the gradient at every node and every edge, in one reverse pass.

        Args:
          cotangent: what to send back from the output, a pytree like it. By default the output has to be a real
            scalar, and the gradients are those of this scalar.

        Returns:
          The recording itself.

        Raises:
          ValueError: the output is not a scalar and there is no cotangent, or one of another structure or shape.
        """
        seeds = self._seeds(cotangent)
        for node in self.nodes:
            node.gradients = [None] * len(node.avals)
            for edge in node.incoming:
                edge.gradient = None
        retain, node_of = self._recorder.retention.retain, self._recorder.node_of

        def note(taped, arrived, sent):
            node = node_of.get(taped)
            if node is None:
                return
            node.gradients = list(map(retain, arrived))
            for edge in node.incoming if sent else ():
                edge.gradient = retain(cotangents.materialize(sent[edge.argument]))

        backward(seeds, [], visit=note)
        self.differentiated = True
        return self

    def gradient_of(
        self, node: Node | Place | Selector, *, wrt: Node | Place | Selector, cotangent: ArrayLike | None = None
    ) -> jax.Array:
        """Compute the gradient of one node's value with respect to another's.

        Args:
          node: what is differentiated: a `Node`, a `Place` (one of several results), or a selector of a single node.
          wrt: the node, place or selector with respect to which it is differentiated.
          cotangent: what to send back from `node`, an array like its value; by default the value has to be a scalar.

        Returns:
          An array like the value of `wrt`, zero where `node` does not depend on it.

        Raises:
          ValueError: a selector means no node or several, or the cotangent is missing or has another shape.
        """
        start, end = self._place(node), self._place(wrt)
        aval, target = start.node.avals[start.output], end.node.avals[end.output]
        if cotangent is None:
            if aval.shape != ():
                raise ValueError(
                    f"gradient_of needs a cotangent, as node {start.node.index} ({start.node.label}) is no scalar: it "
                    f"has shape {aval.shape}; pass cotangent= with an array of that shape"
                )
            cotangent = jnp.ones(aval.shape, aval.dtype)
        elif jnp.shape(cotangent) != aval.shape:
            raise ValueError(f"the cotangent has shape {jnp.shape(cotangent)}; the node's value has {aval.shape}")
        gradient = None
        source, goal = self._on_tape(start), self._on_tape(end)
        if source is not None and goal is not None:

            def note(taped, arrived, _):
                nonlocal gradient
                if taped is goal[0]:
                    gradient = arrived[goal[1]]

            backward([(source, jnp.asarray(cotangent, aval.dtype))], [], visit=note)
        return instantiate(target) if gradient is None else gradient

    def _seeds(self, cotangent) -> list:
        """Pair each result that has a gradient with its cotangent: ((operation on the tape, output), cotangent)."""
        cotangents = zip(self.outputs, self._cotangents(cotangent), strict=True)
        places = ((self._on_tape(place), g) for place, g in cotangents if place is not None)
        return [(place, g) for place, g in places if place is not None]

    def _cotangents(self, cotangent) -> list:
        tree: Any
        leaves, tree = jax.tree.flatten(self.output)
        if cotangent is None:
            if len(leaves) != 1 or np.shape(leaves[0]) != ():
                shapes = ", ".join(str(np.shape(x)) for x in leaves)
                raise ValueError(
                    f"backward() starts from a scalar; the output has {len(leaves)} array(s), of shape {shapes}: "
                    "pass a cotangent like the output, or record a function that returns a scalar"
                )
            return [one_cotangent(leaves[0])]
        cotangents, cotangent_tree = jax.tree.flatten(cotangent)
        if cotangent_tree != tree or list(map(np.shape, cotangents)) != list(map(np.shape, leaves)):
            expected, shapes = jax.tree.map(np.shape, self.output), jax.tree.map(np.shape, cotangent)
            raise ValueError(f"the cotangent must be like the output, of shapes {expected}; found {shapes}")
        return [jnp.asarray(g, getattr(x, "dtype", None)) for g, x in zip(cotangents, leaves, strict=True)]

    def _on_tape(self, place: Place):
        """Find a place on the tape: (operation, output); None if it has no gradient."""
        return None if place.node.taped is None else (place.node.taped, place.output)

    # ------------------------------------------------------------ looking up

    def select(self, selector: Node | Selector) -> list[Node]:
        """List the nodes that a selector means, in order.

        Args:
          selector: a tap's name, a primitive, a path ("*/Dense_1/*"), a module ("MLP/Dense_1"), a line ("model.py:31"),
            or a function of a node; see `dp.graph`.

        Returns:
          The nodes.

        Raises:
          ValueError: it means none; the message has the nearest names.
        """
        return [selector] if isinstance(selector, Node) else selectors.select(selector, self.nodes)

    def __getitem__(self, selector: int | Selector) -> Node:
        """Return the only node that a selector means; a number is a node's index.

        Raises:
          ValueError: there is none, or more than one.
        """
        return self.nodes[selector] if isinstance(selector, int) else selectors.select_one(selector, self.nodes)

    def _place(self, chosen: Node | Place | Selector) -> Place:
        if isinstance(chosen, Place):
            return chosen
        return Place(chosen if isinstance(chosen, Node) else self[chosen], 0)

    def values(self, selector: Node | Selector) -> jax.Array:
        """Stack the values of the nodes that a selector means, such as those of a loop's iterations.

        Args:
          selector: as in `select`.

        Returns:
          An array whose first axis counts the nodes.

        Raises:
          ValueError: the selector means no node, values were not kept whole, or they differ in shape.
        """
        return _stacked(selector, [node.value for node in self.select(selector)])

    def gradients(self, selector: Node | Selector) -> jax.Array:
        """Stack the gradients with respect to `values(selector)`; where none arrived, they are zero.

        Args:
          selector: as in `select`.

        Returns:
          An array like `values(selector)`.

        Raises:
          ValueError: `backward` was not run, the selector means no node, or gradients were not kept whole.
        """
        if not self.differentiated or self._recorder.retention.keep == "nothing":
            raise ValueError("there are no gradients yet: run backward() first, of a recording that keeps them")
        nodes = self.select(selector)
        return _stacked(selector, [instantiate(n.avals[0]) if n.gradient is None else n.gradient for n in nodes])

    # ------------------------------------------------------------ to read: what draws and explains is loaded on use

    def explain(self, digits: int = 4, max_elements: int = 12) -> str:
        """Write out the derivation: every step forward, every gradient back, with the rule's formula and the numbers.

        Args:
          digits: number of significant digits.
          max_elements: number of elements above which an array is summarized.

        Returns:
          The lines, as one text.
        """
        from diffprog.graph._explain.derivation import explain

        return explain(self, digits, max_elements)

    def text(
        self,
        open: int | str | list[str] | None = None,
        budget: int = 200,
        everything: bool = False,
        width: int | None = None,
        color: bool = False,
    ) -> str:
        """Draw the graph as a tree for a terminal.

        Args:
          open: which groups are spelled out: None for as many as leave about `budget` lines, a depth, a glob for paths
            ("MLP/*", "*" for all), or several globs.
          budget: about how many lines to write if `open` is None.
          everything: whether to show plain numbers that the program used, and operations whose results go nowhere.
          width: width of the lines, in characters; by default the terminal's.
          color: whether to color marks, by ANSI codes.

        Returns:
          The lines, as one text.

        Raises:
          ValueError: a glob matches no group.
        """
        from diffprog.graph._draw import text

        return text(self, open, budget, everything, width, color)

    def svg(
        self,
        open: int | str | list[str] | None = None,
        budget: int = 40,
        everything: bool = False,
        credit: Mapping[Node | Edge, float] | None = None,
    ) -> str:
        """Draw the graph as SVG text, for which no program has to be installed.

        Args:
          open: which groups are drawn open, as in `text`.
          budget: about how many boxes to draw if `open` is None.
          everything: whether to draw plain numbers that the program used, and operations whose results go nowhere.
          credit: numbers of nodes and edges that are drawn in place of the sizes of gradients: by width and color, blue
            below 0, orange above. `attribute.patching` gives such numbers.

        Returns:
          The text of an SVG file.

        Raises:
          ValueError: a glob matches no group, or credit is of another recording.
        """
        from diffprog.graph._draw import svg

        return svg(self, open, budget, everything, credit)

    def dot(self, everything: bool = False) -> str:
        """Draw the graph as Graphviz text.

        Args:
          everything: whether to draw plain numbers that the program used, and operations whose results go nowhere.

        Returns:
          The text of a file for `dot`.
        """
        from diffprog.graph._draw import dot

        return dot(self, everything)

    def html(self, path: str | Path | None = None, **options: Any) -> str | Path:
        """Write a page to walk through the graph, one file that needs no network.

        Args:
          path: the file to write; None returns the text instead.
          **options: `open`, `budget`, `everything` and `credit` as in `svg`; `step_size` ends the walk with an update
            of the inputs, value - step_size * gradient; `update` says which: a glob for their labels, or several.

        Returns:
          The path that was written, or the page's text.

        Raises:
          ValueError: a glob matches no group, or no input.
        """
        from diffprog.graph._draw import html

        return html(self, path, **options)

    def _repr_html_(self) -> str:
        from diffprog.graph._draw import embedded

        return embedded(self)

    def __repr__(self):
        gradients = "with gradients" if self.differentiated else "before backward"
        return f"<recording of {self.function}: {len(self.nodes)} nodes, {gradients}>"

    # ------------------------------------------------------------ running it again

    def replay(self, replace: dict | None = None) -> Any:
        """Run the graph again from its own nodes.

        Args:
          replace: values, or functions of values, for nodes: {selector: array or function}. What depends on them is
            computed anew; which branches and how many iterations run stays as recorded.

        Returns:
          The output, a pytree like the recorded one.

        Raises:
          ValueError: a selector means no node or several, or a replacement has another shape.
        """
        changes = {self._place(chosen): change for chosen, change in (replace or {}).items()}
        computed: dict[Place, Any] = {}
        for node in self.nodes:
            results = node.values
            if node.compute is not None and node.avals:  # what has no result was done for its effect, once
                values = [computed[x] if isinstance(x, Place) else x for x in node.arguments]
                results = node.compute(*values)
            for i, result in enumerate(results):
                place = Place(node, i)
                if place in changes:
                    change = changes[place]
                    result = change(result) if callable(change) else jnp.asarray(change, node.avals[i].dtype)
                    if result.shape != node.avals[i].shape:
                        raise ValueError(
                            f"node {node.index} ({node.label}) has shape {node.avals[i].shape}; found a replacement of "
                            f"shape {result.shape}"
                        )
                computed[place] = result
        tree: Any
        leaves, tree = jax.tree.flatten(self.output)
        places = zip(leaves, self.outputs, strict=True)
        return tree.unflatten([x if place is None else computed[place] for x, place in places])

    def check(self) -> "Recording":
        """Replay the graph and confirm that it gives the recorded output.

        Returns:
          The recording itself.

        Raises:
          AssertionError: it does not.
        """
        again = jax.tree.leaves(self.replay())
        for i, (x, y) in enumerate(zip(jax.tree.leaves(self.output), again, strict=True)):
            if not _close(x, y):
                raise AssertionError(f"the graph, run again, gives {y} as result {i}; recorded was {x}")
        return self


def _stacked(selector, arrays):
    if any(x is None or isinstance(x, Summary) for x in arrays):
        raise ValueError(
            f"what {selector!r} means was not kept whole: record it with keep='values', or a larger max_bytes="
        )
    shapes = sorted({np.shape(x) for x in arrays})
    if len(shapes) > 1:
        raise ValueError(f"what {selector!r} means has several shapes, {shapes}: select fewer, or use select()")
    return jnp.stack(arrays)


def _close(x, y) -> bool:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    x, y = np.asarray(x), np.asarray(y)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return np.array_equal(x, y)
    # Sums may be ordered in another way from run to run on a GPU.
    tolerance = 100 * float(jnp.finfo(x.dtype).eps)
    wide = np.complex128 if np.iscomplexobj(x) else np.float64
    size = np.max(np.abs(x.astype(wide)), initial=0, where=np.isfinite(x))
    return np.allclose(x.astype(wide), y.astype(wide), rtol=tolerance, atol=tolerance * size, equal_nan=True)
