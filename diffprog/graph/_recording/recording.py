"""One run of a program as a graph: every value, and after `backward` every gradient, to look up, to change, to draw."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._jax_internals import instantiate
from diffprog._tracer import cotangents
from diffprog._tracer.backward import backward
from diffprog.graph._recording.nodes import Edge, Node, Place
from diffprog.graph._recording.recorder import Recorder
from diffprog.graph._recording.summaries import Summary
from diffprog.graph._selection import selectors


class Recording:
    """One run of a function.

    Attributes:
      function: its name.
      output: what it returned: an array or a pytree of them.
      nodes: its inputs, constants and operations, in the order in which they ran.
      outputs: per array of `output` the `Place` that made it; None for one that is no result of any node.
      differentiated: whether `backward` was run.
      notes: what was not kept, and why.
    """

    def __init__(self, function: str, output, outputs: list[Place | None], recorder: Recorder):
        self.function, self.output, self.outputs = function, output, outputs
        self.nodes: list[Node] = recorder.nodes
        self.differentiated = False
        self.notes = recorder.keeping.notes
        self._recorder = recorder

    @property
    def inputs(self) -> list[Node]:
        return [node for node in self.nodes if node.primitive == "input"]

    @property
    def edges(self) -> list[Edge]:
        return [edge for node in self.nodes for edge in node.incoming]

    # ------------------------------------------------------------ gradients

    def backward(self, cotangent=None) -> "Recording":
        """Fill in the gradient at every node and every edge, in one reverse pass; returns itself.

        Args:
          cotangent: what to send back from the output, a pytree like it. By default the output has to be a real
            scalar, and gradients are those of it.

        Raises:
          ValueError: the output is not a scalar and there is no cotangent, or one of another structure or shape.
        """
        seeds = self._seeds(cotangent)
        for node in self.nodes:
            node.gradients = [None] * len(node.avals)
            for edge in node.incoming:
                edge.gradient = None
        keep = self._recorder.keeping

        def note(written, arrived, sent):
            node = self._recorder.of_tape.get(written)
            if node is None:
                return
            node.gradients = list(map(keep, arrived))
            for edge in node.incoming if sent else ():
                edge.gradient = keep(cotangents.materialize(sent[edge.argument]))

        backward(seeds, [], visit=note)
        self.differentiated = True
        return self

    def gradient_of(self, node, *, wrt, cotangent=None):
        """The gradient of one node's value with respect to another's.

        Args:
          node: a `Node`, a `Place` (one of several results) or what selects a single node.
          wrt: the same.
          cotangent: what to send back from `node`, an array like its value; by default that has to be a scalar.

        Returns:
          an array like the value of `wrt`, zero where `node` does not depend on it.
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
        found = [None]
        source, goal = self._on_tape(start), self._on_tape(end)
        if source is not None and goal is not None:

            def note(written, arrived, _):
                if written is goal[0]:
                    found[0] = arrived[goal[1]]

            backward([(source, jnp.asarray(cotangent, aval.dtype))], [], visit=note)
        return instantiate(target) if found[0] is None else found[0]

    def _seeds(self, cotangent) -> list:
        """((node of the tape, output), cotangent) of each result that has a gradient."""
        cotangents = zip(self.outputs, self._cotangents(cotangent), strict=True)
        places = ((self._on_tape(place), g) for place, g in cotangents if place is not None)
        return [(place, g) for place, g in places if place is not None]

    def _cotangents(self, cotangent) -> list:
        leaves, tree = jax.tree.flatten(self.output)
        if cotangent is None:
            if len(leaves) != 1 or np.shape(leaves[0]) != ():
                shapes = ", ".join(str(np.shape(x)) for x in leaves)
                raise ValueError(
                    f"backward() starts from a scalar; the output has {len(leaves)} array(s), of shape {shapes}: "
                    "pass a cotangent like the output, or record a function that returns a scalar"
                )
            return [lax.full_like(leaves[0], 1)]
        given, given_tree = jax.tree.flatten(cotangent)
        if given_tree != tree or any(np.shape(g) != np.shape(x) for g, x in zip(given, leaves, strict=True)):
            like, found = jax.tree.map(np.shape, self.output), jax.tree.map(np.shape, cotangent)
            raise ValueError(f"the cotangent must be like the output, of shapes {like}; found {found}")
        return [jnp.asarray(g, getattr(x, "dtype", None)) for g, x in zip(given, leaves, strict=True)]

    def _on_tape(self, place: Place):
        """(node of the tape, output) of a place, None if it has no gradient."""
        written = self._recorder.tape_nodes[place.node.index]
        return None if written is None else (written, place.output)

    # ------------------------------------------------------------ looking up

    def select(self, selector) -> list[Node]:
        """The nodes that a selector means, in order: a tap's name, a primitive, a path ("*/Dense_1/*"), a module
        ("MLP/Dense_1"), a line ("model.py:31") or a function of a node; see `diffprog.graph._selection.selectors`.

        Raises:
          ValueError: there is none; the message has the nearest names.
        """
        return [selector] if isinstance(selector, Node) else selectors.select(selector, self.nodes)

    def __getitem__(self, selector) -> Node:
        """The only node that a selector means; a number is a node's index.

        Raises:
          ValueError: there is none, or more than one.
        """
        return self.nodes[selector] if isinstance(selector, int) else selectors.select_one(selector, self.nodes)

    def _place(self, chosen) -> Place:
        if isinstance(chosen, Place):
            return chosen
        return Place(chosen if isinstance(chosen, Node) else self[chosen], 0)

    def values(self, selector) -> Any:
        """The values of the nodes that a selector means, stacked, as of the iterations of a loop: index first.

        Raises:
          ValueError: they were not kept whole, or differ in shape.
        """
        return _stacked(selector, [node.value for node in self.select(selector)])

    def gradients(self, selector) -> Any:
        """The gradients with respect to `values(selector)`, stacked in the same way; zero where none arrived.

        Raises:
          ValueError: `backward` was not run, or as for `values`.
        """
        if not self.differentiated or self._recorder.keeping.keep == "nothing":
            raise ValueError("there are no gradients yet: run backward() first, of a recording that keeps them")
        found = [instantiate(n.avals[0]) if n.gradient is None else n.gradient for n in self.select(selector)]
        return _stacked(selector, found)

    # ------------------------------------------------------------ to read (loaded when something is drawn or explained)

    def explain(self, digits: int = 4, most: int = 12) -> str:
        """The derivation in order: every step forward, every gradient back, with the rule's formula and the numbers.

        Args:
          digits: significant ones.
          most: arrays of more elements than that are summarized.
        """
        from diffprog.graph._explain.derivation import explain

        return explain(self, digits, most)

    def text(self, **options) -> str:
        """The graph as a tree for a terminal; options as of `diffprog.graph._draw.text`."""
        from diffprog.graph._draw import text

        return text(self, **options)

    def svg(self, **options) -> str:
        """The graph as SVG text, for which no program has to be installed; options as of `diffprog.graph._draw.svg`."""
        from diffprog.graph._draw import svg

        return svg(self, **options)

    def dot(self, **options) -> str:
        """The graph as Graphviz text; options as of `diffprog.graph._draw.dot`."""
        from diffprog.graph._draw import dot

        return dot(self, **options)

    def html(self, path=None, **options):
        """A page to walk through the graph, one file without a network: written to `path`, or its text if that is None.

        Options as of `diffprog.graph._draw.html`: with step_size=0.1 the walk ends with the update of the inputs.
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

    def replay(self, replace: dict | None = None):
        """Run the graph again from its own nodes, and return its output.

        Args:
          replace: values, or functions of values, for nodes: {selector: array or function}. What depends on them is
            computed anew; which branches and how many iterations run stays as recorded.
        """
        changes = {self._place(chosen): change for chosen, change in (replace or {}).items()}
        found: dict[Place, Any] = {}
        for node, again in zip(self.nodes, self._recorder.replays, strict=True):
            results = node.values
            if again is not None and node.avals:  # what has no result was done for its effect, once
                values = [found[x] if isinstance(x, Place) else x for x in node.arguments]
                results = again(*values)
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
                found[place] = result
        leaves, tree = jax.tree.flatten(self.output)
        return tree.unflatten([x if at is None else found[at] for x, at in zip(leaves, self.outputs, strict=True)])

    def check(self) -> "Recording":
        """Replay the graph and confirm that it gives the recorded output; returns itself.

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
        raise ValueError(f"what {selector!r} means was not kept whole: record it with keep='values', or more memory=")
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
