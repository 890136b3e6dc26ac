"""A tape that keeps every operation: those with a gradient, those that block one, and constants.

An array that depends on the inputs is a `Traced` value, as on any tape, so that a recorded program runs exactly as one
that is differentiated. Other arrays (integers, comparisons, constants) stay plain, and the tape sees only that they are
used. The recorder therefore remembers which operation made which array, as long as the array lives.
"""

import weakref
from contextlib import contextmanager

import jax
import numpy as np

from diffprog._jax_internals import (
    Tracer,
    bind_unchanged,
    has_gradient,
    jaxpr_as_fun,
    set_current_trace,
    trace_to_jaxpr,
    typeof,
)
from diffprog._jax_internals.jaxprs import same_function
from diffprog._jax_internals.sources import as_path, program_source, scopes
from diffprog._tracer import references
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import of_functions
from diffprog._tracer.tape import Node as Taped
from diffprog._tracer.tape import Tape, Traced
from diffprog.graph._recording.nodes import Decision, Edge, Node, Place
from diffprog.graph._recording.source_lines import current_sampler, current_source
from diffprog.graph._recording.summaries import summarize
from diffprog.graph._recording.unroll import written_out
from diffprog.graph._selection.tap import ModuleOutput

_CONVERSIONS = {"convert_element_type": 0, "clamp": 1, "name": 0}
"""What stands between a condition and a branch, and which of its arguments the condition is."""


class Retention:
    """How much a recording retains of each array, and how many nodes.

    Args:
      keep: "values" (whole arrays), "summaries" or "nothing".
      max_bytes: bytes of whole arrays, values and gradients together; later arrays are summarized.
      max_nodes: number of nodes above which a loop is kept as one.
    """

    CHOICES = ("values", "summaries", "nothing")

    def __init__(self, keep: str, max_bytes: int, max_nodes: int):
        if keep not in self.CHOICES:
            raise ValueError(f"keep must be one of {', '.join(map(repr, self.CHOICES))}; found {keep!r}")
        self.keep, self.max_bytes, self.max_nodes = keep, max_bytes, max_nodes
        self.used = 0
        self.notes: list[str] = []

    def retain(self, array):
        """Return what is kept of an array: itself, a `Summary`, or None."""
        if array is None or self.keep == "nothing":
            return None
        if self.keep == "values":
            if self.used + nbytes(array) <= self.max_bytes:
                self.used += nbytes(array)
                return array
            self.note(f"values after the first {self.max_bytes / 2**20:.0f} MiB are summaries (see max_bytes=)")
        return summarize(array)

    def note(self, text: str):
        """Tell the reader, once, what was not kept."""
        if text not in self.notes:
            self.notes.append(text)


def nbytes(array) -> int:
    """Return the bytes of an array, 0 for anything else."""
    return getattr(array, "nbytes", 0) if not isinstance(array, Tracer) else 0


class Recorder(Tape):
    """A tape that makes a `Node` of every operation. Functions under `jit` and loops are recorded as if written out.

    Attributes:
      nodes: in the order in which they ran.
      node_of: for each operation on the tape its `Node`.
      decisions: branches taken and loops run, inner ones before those around them.
      retention: what is kept of arrays.
    """

    transparent = frozenset()

    def __init__(self, parent, retention: Retention):
        super().__init__(parent)
        self.retention = retention
        self.nodes: list[Node] = []
        self.node_of: dict[Taped, Node] = {}
        self.decisions: list[Decision] = []
        self._makers: dict[int, tuple[weakref.ref, Place]] = {}
        self._last_written: Taped | None = None
        self._call_site = None
        self._sampler: str | None = None
        self._iteration: tuple[int, ...] = ()

    def write(self, name, sources, results, backward, single):
        self._last_written = super().write(name, sources, results, backward, single)
        return self._last_written

    # ------------------------------------------------------------ operations

    def process_primitive(self, primitive, args, params, /):
        if primitive.name in references.PRIMITIVES:  # becomes pure operations, which come back here
            with self.called():
                return super().process_primitive(primitive, args, params)
        if primitive.name == "convert_element_type" and _converts_nothing(args[0], params):
            return self._pass(primitive, args[0], params)
        write_out = written_out.get(primitive.name)
        if write_out is not None:
            results = write_out(self, args, params)
            if results is not None:
                return results
        return self.record_primitive(primitive, args, params)

    def _pass(self, primitive, x, params):
        """Apply an identity without a node: the result has the place of the argument."""
        value, source = self.untraced(x)
        result = bind_unchanged(primitive, self.parent, (value,), params)
        if source is not None:
            return Traced(self, result, *source)
        place = self.place(value)
        if isinstance(place, Place):
            self._made(result, place)
        return result

    def record_primitive(self, primitive, args, params):
        """Apply a primitive, as one node."""
        run = lambda: super(Recorder, self).process_primitive(primitive, args, params)
        bind = lambda *values: primitive.bind(*values, **params)
        compute = bind if primitive.multiple_results else lambda *values: [bind(*values)]
        return self.record_op(primitive.name, args, params, run, compute, primitive.multiple_results)

    def process_custom_jvp_call(self, primitive, fun, jvp, args, /, **options):
        plain = self._staged_once(primitive, fun)
        if program_source(fun, len(args)) in of_functions:  # whose rule runs the function
            fun = same_function(plain, fun)
        run = lambda: super(Recorder, self).process_custom_jvp_call(primitive, fun, jvp, args, **options)
        return self._record_custom(primitive, fun, args, run, plain)

    def process_custom_vjp_call(self, primitive, fun, fwd, bwd, args, /, **options):
        run = lambda: super(Recorder, self).process_custom_vjp_call(primitive, fun, fwd, bwd, args, **options)
        return self._record_custom(primitive, fun, args, run, self._staged_once(primitive, fun))

    def _staged_once(self, primitive, fun):
        """Make a function that may be called again of one that JAX hands over, which may be called once."""
        program = None

        def plain(*values):
            nonlocal program
            if program is None:
                with set_current_trace(self.parent):
                    program = trace_to_jaxpr(fun.call_wrapped, [typeof(x) for x in values], primitive.name)
            jaxpr, constants = program
            return jaxpr_as_fun(jaxpr)(*constants, *values)

        return plain

    def _record_custom(self, primitive, fun, args, run, plain):
        values, sources = self.untrace(args)

        def constant():
            with set_current_trace(self.parent):
                return plain(*values)

        name = fun.debug_info.func_name
        params = {"function": name}
        if all(source is None for source in sources):
            run = constant
        return self.record_op(primitive.name, args, params, run, plain, True, label=name)

    def process_shard_map(self, primitive, fun, args, /, **options):
        run = lambda: super(Recorder, self).process_shard_map(primitive, fun, args, **options)
        return self.record_op(primitive.name, args, {}, run, None, True)

    def process_call(self, primitive, fun, args, params, /):
        with self.called():
            return super().process_call(primitive, fun, args, params)

    def record_op(self, name, args, params, run, compute, multiple_results, label=None):
        """Run an operation, and make a node of it.

        Args:
          name: the primitive's name.
          args: what it is applied to.
          params: the primitive's parameters.
          run: () -> its results, on this tape.
          compute: (values of its arguments) -> the list of its results, to replay it; None if it cannot be.
          multiple_results: whether it has a list of results.
          label: what to call it, if not by the primitive's name.
        """
        arguments = tuple(self.place(x) for x in args)
        live = any(self._is_traced(x) for x in args)
        self._last_written = None
        try:
            outcome = run()
        except MissingDerivative as error:
            if compute is None:
                raise
            outcome = self._without_derivative(name, args, compute, multiple_results, error)
        written = self._last_written
        results = list(outcome) if multiple_results else [outcome]
        status = "live" if written is not None else "blocked" if live else "constant"
        tap = params["name"] if name == "name" and isinstance(params["name"], str) else None
        title = tap.rpartition("/")[2] if isinstance(tap, ModuleOutput) else tap
        self.add(name, title or label or name, params, arguments, results, status, written, compute, tap)
        return outcome

    def _without_derivative(self, name, args, compute, multiple_results, error):
        """Run an operation that has no derivative; the error is raised when a gradient comes back to it."""

        def refuse(_):
            raise error

        values, sources = self.untrace(args)
        with set_current_trace(self.parent):
            results = list(compute(*values))
        outcome = self.record(name, sources, results, [has_gradient(typeof(x)) for x in results], refuse)
        return outcome if multiple_results else outcome[0]

    # ------------------------------------------------------------ nodes

    def add(self, primitive, label, params, arguments, results, status, taped=None, compute=None, tap=None) -> Node:
        """Append a node, with edges from those that it uses."""
        values = [x.value if self._is_traced(x) else x for x in results]
        made = primitive in ("input", "constant")
        node = Node(
            index=len(self.nodes),
            primitive=primitive,
            label=label,
            params=params,
            arguments=arguments,
            source=None if made else current_source(self._call_site),
            path="" if made else as_path(scopes()),
            iteration=() if made else self._iteration,
            tap=tap,
            single=len(results) == 1,
            avals=[typeof(x) for x in values],
            values=values if made else list(map(self.retention.retain, values)),
            differentiable=list(map(self._is_traced, results)) if primitive != "input" else [status == "live"],
            status=status,
            sampler=None if made else self._sampler or current_sampler(),
            taped=taped,
            compute=compute,
        )
        for argument, place in enumerate(arguments):
            if isinstance(place, Place):
                live = status == "live" and place.node.differentiable[place.output]
                edge = Edge(place.node, place.output, node, argument, live)
                node.incoming.append(edge)
                place.node.outgoing.append(edge)
        for i, value in enumerate(values):
            self._made(value, Place(node, i))
        self.nodes.append(node)
        if taped is not None:
            self.node_of[taped] = node
        return node

    def input(self, value, label: str, differentiable: bool):
        """Add an input of the program; returns it as the program has to see it."""
        if not differentiable:
            self.add("input", label, {}, (), [value], "constant")
            return value
        traced = self.watch(value)
        self.add("input", label, {}, (), [value], "live", traced.node)
        return traced

    def place(self, x):
        """Find the place that made an argument; a number or array that no node made is returned as it is."""
        if self._is_traced(x):
            taped, output = x.place
            return Place(self.node_of[taped], output) if taped in self.node_of else x.value
        known = self.place_of(x)
        if known is not None:
            return known
        if isinstance(x, (jax.Array, np.ndarray)) and np.ndim(x) > 0:
            self.add("constant", "constant", {}, (), [x], "constant")
            return Place(self.nodes[-1], 0)
        return x

    def place_of(self, array) -> Place | None:
        """Find the place that made an array; None if no node did."""
        known = self._makers.get(id(array))
        return known[1] if known is not None and known[0]() is array else None

    def _made(self, value, place):
        key = id(value)
        try:
            reference = weakref.ref(value, lambda dead: self._forget(key, dead))
        except TypeError:
            return
        self._makers[key] = reference, place

    def _forget(self, key, dead):
        if key in self._makers and self._makers[key][0] is dead:
            del self._makers[key]

    def _is_traced(self, x) -> bool:
        return type(x) is Traced and x._trace is self

    # ------------------------------------------------------------ where we are

    @contextmanager
    def called(self):
        """Remember where a function under `jit`, or a loop, is called while its body is written out."""
        before = self._call_site, self._sampler
        self._call_site, self._sampler = current_source(self._call_site), self._sampler or current_sampler()
        try:
            yield
        finally:
            self._call_site, self._sampler = before

    @contextmanager
    def iteration(self, loop: str, i: int):
        """Count nodes to an iteration of a loop meanwhile."""
        before = self._iteration
        self._iteration = (*before, i)
        try:
            with jax.named_scope(f"{loop}[{i}]"):
                yield
        finally:
            self._iteration = before

    def decided(self, primitive: str, taken: int, condition, first: int):
        """Note a branch or a loop that has been written out since there were `first` nodes; it is called here.

        Args:
          primitive: "cond", "scan" or "while".
          taken: index of the branch, or number of iterations.
          condition: the number that decided; None if none did.
          first: number of nodes before.
        """
        place = self.place_of(condition)
        while place is not None and place.node.primitive in _CONVERSIONS:
            operand = place.node.arguments[_CONVERSIONS[place.node.primitive]]
            place = operand if isinstance(operand, Place) else None
        source = self._call_site if place is None or place.node.source is None else place.node.source
        nodes = range(first, len(self.nodes))
        self.decisions.append(Decision(primitive, taken, source, as_path(scopes()), self._iteration, nodes))

    def write_out(self, jaxpr, args) -> list:
        """Run a closed jaxpr operation by operation."""
        with set_current_trace(self):
            return jaxpr_as_fun(jaxpr)(*args)

    def has_room_for(self, operations: int) -> bool:
        """Whether this many operations stay below `max_nodes`."""
        return len(self.nodes) + operations <= self.retention.max_nodes


def _converts_nothing(x, params) -> bool:
    """Whether a conversion is to the type that is there already: libraries make many of these."""
    if not isinstance(x, (jax.Array, Traced)) or params.get("sharding") is not None:
        return False
    return (x.aval.dtype, x.aval.weak_type) == (params["new_dtype"], params["weak_type"])


class NotingTape(Tape):
    """A tape that notes the results of each of its nodes, and nothing else: for programs that are being traced."""

    def __init__(self, parent):
        super().__init__(parent)
        self.noted: list = []

    def write(self, name, sources, results, backward, single):
        node = super().write(name, sources, results, backward, single)
        self.noted.append((node, list(results)))
        return node
