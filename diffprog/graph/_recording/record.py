"""`dp.record`: run a function and keep every operation."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer, canonical, is_differentiable, set_current_trace, take_current_trace
from diffprog._jax_internals.jaxprs import bytes_of_values, count_operations
from diffprog._tracer.tape import keeping_sources
from diffprog.graph._recording.nodes import Place
from diffprog.graph._recording.recorder import Recorder, Retention
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.variable_names import note_variables
from diffprog.graph._selection.module_paths import named_modules


class Memory(NamedTuple):
    """What a recording will keep.

    Attributes:
      nodes: number of nodes; a `while` loop counts with one iteration.
      values: bytes of all values, kept whole.
      gradients: bytes of the gradients at all nodes and edges, kept whole.
    """

    nodes: int
    values: int
    gradients: int

    def __str__(self):
        mib = lambda n: f"{n / 2**20:.1f} MiB"
        return f"{self.nodes} nodes, values {mib(self.values)}, gradients at nodes and edges {mib(self.gradients)}"


class RecordedFunction:
    """A function that is recorded when it is called: what `dp.record` returns."""

    def __init__(self, fun: Callable, keep: str, max_bytes: int, max_nodes: int):
        if not callable(fun):
            raise TypeError(f"dp.record takes a function; found {fun!r}")
        Retention(keep, max_bytes, max_nodes)  # refuses wrong values now, not in the first call
        self._fun, self._new_retention = fun, partial(Retention, keep, max_bytes, max_nodes)

    def __call__(self, *args: Any, **kwargs: Any) -> Recording:
        """Run the function and keep its graph.

        Args:
          *args: the function's arguments.
          **kwargs: its keyword arguments.

        Raises:
          TypeError: it was called under `jit`, `vmap` or `grad`, or the function returned something else than arrays.
        """
        return self.run_on(Recorder, args, kwargs)

    def run_on(self, make_recorder: Callable[[Any, Retention], Recorder], args: tuple, kwargs: dict) -> Recording:
        """Run the function on a recorder of one's own.

        Args:
          make_recorder: (trace in which the operations really run, what to keep) -> recorder.
          args: the function's arguments.
          kwargs: its keyword arguments.

        Returns:
          The recording.

        Raises:
          TypeError: as for a call.
        """
        names, leaves, tree = named_leaves(self._fun, args, kwargs)
        if any(isinstance(x, Tracer) for x in leaves):
            raise TypeError(
                "dp.record keeps values, and found none: it was called under jit, vmap or grad; call it "
                "outside of them, or use dp.activations and dp.grad_at, which compile"
            )
        with take_current_trace() as parent:
            recorder = make_recorder(parent, self._new_retention())
            with set_current_trace(parent):
                inputs = [_input(recorder, x, name) for x, name in zip(leaves, names, strict=True)]
            with set_current_trace(recorder), keeping_sources(), named_modules():
                args, kwargs = jax.tree.unflatten(tree, inputs)
                returned = self._fun(*args, **kwargs)
            recorder.invalidate()
        out_tree: Any
        results, out_tree = jax.tree.flatten(returned)
        if not results or not all(isinstance(x, (jax.Array, np.ndarray, float, int, complex)) for x in results):
            raise TypeError(f"the recorded function returned {returned!r}; expected an array, or a pytree of arrays")
        places = [recorder.place(x) for x in results]
        output = out_tree.unflatten([jnp.asarray(recorder.untraced(x)[0]) for x in results])
        _name_constants(self._fun, recorder.nodes)
        note_variables(recorder.nodes)
        name = getattr(self._fun, "__name__", type(self._fun).__name__)
        return Recording(name, output, [p if isinstance(p, Place) else None for p in places], recorder)

    def memory(self, *args: Any, **kwargs: Any) -> Memory:
        """Say what recording the function will take if values are kept whole, without running it.

        Args:
          *args: the function's arguments.
          **kwargs: its keyword arguments.

        Returns:
          Numbers of nodes and bytes, which print as one line.

        Raises:
          TypeError: the function decides by values, which are not known without running it.
        """
        _, leaves, tree = named_leaves(self._fun, args, kwargs)
        call, arrays = function_of_arrays(self._fun, leaves, tree)
        try:
            with named_modules():
                program = jax.make_jaxpr(call)(*arrays)
        except jax.errors.ConcretizationTypeError as error:
            raise TypeError(
                "what the function will keep is known only once it has run, as it decides by values "
                f"({str(error).splitlines()[0]}); record it with keep='summaries'"
            ) from None
        values, gradients = bytes_of_values(program)
        return Memory(len(arrays) + count_operations(program), values, gradients)


def record(
    fun: Callable, *, keep: str = "values", max_bytes: int = 2**30, max_nodes: int = 100_000
) -> RecordedFunction:
    """Run any JAX function and keep its graph: `recording = dp.record(fun)(*args, **kwargs)`.

    Functions under `jit` and `checkpoint` are recorded operation by operation, loops iteration by iteration; of a
    `cond` the branch that is taken is recorded. Arrays and Python's floating-point numbers among the arguments are the
    inputs; anything else is passed on as it is.

    Args:
      fun: function of pytrees to an array or a pytree of arrays.
      keep: "values" keeps arrays whole, "summaries" a few numbers of each (see `Summary`), "nothing" neither. In any
        case the backward pass holds on to what the rules need.
      max_bytes: bytes of arrays to keep whole; later ones are kept as summaries. `dp.record(fun).memory(*args)` says
        in advance how many there will be.
      max_nodes: number of nodes above which a loop stays one node, or its last iterations do.

    Returns:
      A function of the same arguments that returns the `Recording`. It can't run under `jit`, `vmap` or `grad`; these
      may be part of `fun`.

    Raises:
      TypeError: `fun` is no function.
      ValueError: `keep` is none of these words.
    """
    return RecordedFunction(fun, keep, max_bytes, max_nodes)


def is_array(x) -> bool:
    """Whether a leaf of the arguments is an input of the program."""
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) or type(x) in (float, complex)


def _input(recorder: Recorder, x, name: str):
    """Add an input, and return what to pass to the function for it."""
    if not is_array(x):
        return x
    value = canonical(x) if type(x) in (float, complex) else jnp.asarray(x)
    return recorder.input(value, name, is_differentiable(value))


def function_of_arrays(
    fun: Callable, leaves: list, tree, is_input: Callable[[Any], bool] = is_array
) -> tuple[Callable, list]:
    """Fix all arguments of a function that are no arrays.

    Args:
      fun: the function.
      leaves: of its arguments.
      tree: structure of (args, kwargs).
      is_input: leaf -> whether it counts as an array.

    Returns:
      A function of the arrays among the leaves, and these.
    """
    positions = [i for i, x in enumerate(leaves) if is_input(x)]

    def call(*arrays):
        filled = list(leaves)
        for i, x in zip(positions, arrays, strict=True):
            filled[i] = x
        args, kwargs = jax.tree.unflatten(tree, filled)
        return fun(*args, **kwargs)

    return call, [leaves[i] for i in positions]


def named_leaves(fun: Callable, args: tuple, kwargs: dict) -> tuple[list[str], list, Any]:
    """Flatten arguments; returns names such as "params['w']", leaves, and the structure of (args, kwargs)."""
    leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    try:
        parameters = inspect.signature(fun).parameters
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except (TypeError, ValueError):
        positional = []
    else:
        variadic = {name for name, p in parameters.items() if p.kind is inspect.Parameter.VAR_POSITIONAL}
        positional = [
            f"{name}[{i}]" if name in variadic else name
            for name, value in bound.arguments.items()
            for i in (range(len(value)) if name in variadic else [0])
        ]

    def name(path):
        kind, key, *rest = path
        if kind.idx == 1:
            first = key.key
        else:
            first = positional[key.idx] if key.idx < len(positional) else f"args[{key.idx}]"
        return first + jax.tree_util.keystr(tuple(rest))

    return [name(path) for path, _ in leaves], [x for _, x in leaves], tree


def _name_constants(fun, nodes):
    """Label the arrays that the function closes over with its names for them."""
    try:
        variables = inspect.getclosurevars(inspect.unwrap(fun))
    except TypeError:
        return
    names, known = {}, []
    for name, value in {**variables.globals, **variables.nonlocals}.items():
        if not callable(value) or jax.tree.leaves(value) != [value]:
            for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
                names[id(leaf)] = name + jax.tree_util.keystr(path)
                known.append((names[id(leaf)], leaf))
    for node in nodes:
        if node.primitive == "constant":
            value = node.values[0]
            node.label = names.get(id(value)) or next((name for name, x in known if _same(x, value)), node.label)


def _same(x, value) -> bool:
    """Whether a NumPy array of the program is this value, which JAX made of it."""
    small = isinstance(x, np.ndarray) and x.shape == value.shape and x.size <= 10_000
    return small and np.array_equal(x, value)
