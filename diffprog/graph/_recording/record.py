"""`dp.record`: running a function with every operation kept."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import Tracer, canonical, is_differentiable, set_current_trace, take_current_trace
from diffprog._jax_internals.jaxprs import bytes_of_values, count_operations
from diffprog.graph._recording.nodes import Place
from diffprog.graph._recording.recorder import Keeping, Recorder
from diffprog.graph._recording.recording import Recording
from diffprog.graph._recording.source_lines import keeping_sources
from diffprog.graph._recording.variable_names import note_variables
from diffprog.graph._selection.module_paths import named_modules


class Memory(NamedTuple):
    """What a recording will keep.

    Attributes:
      nodes: how many; of a `while` loop, one iteration's.
      values, gradients: bytes of all of them, kept whole.
    """

    nodes: int
    values: int
    gradients: int

    def __str__(self):
        mib = lambda n: f"{n / 2**20:.1f} MiB"
        return f"{self.nodes} nodes, values {mib(self.values)}, gradients at nodes and edges {mib(self.gradients)}"


class Record:
    """What `dp.record` returns."""

    def __init__(self, fun: Callable, keep: str, memory: int, max_nodes: int):
        if not callable(fun):
            raise TypeError(f"dp.record takes a function; found {fun!r}")
        Keeping(keep, memory, max_nodes)
        self._fun, self._keeping = fun, partial(Keeping, keep, memory, max_nodes)

    def __call__(self, *args, **kwargs) -> Recording:
        """Run the function and keep its graph."""
        names, leaves, tree = named_leaves(self._fun, args, kwargs)
        if any(isinstance(x, Tracer) for x in leaves):
            raise TypeError(
                "dp.record keeps values, and found none: it was called under jit, vmap or grad; call it "
                "outside of them, or use dp.activations and dp.grad_at, which compile"
            )
        with take_current_trace() as parent:
            recorder = Recorder(parent, self._keeping())
            with set_current_trace(parent):
                given = [_input(recorder, x, name) for x, name in zip(leaves, names, strict=True)]
            with set_current_trace(recorder), keeping_sources(), named_modules():
                args, kwargs = jax.tree.unflatten(tree, given)
                returned = self._fun(*args, **kwargs)
            recorder.invalidate()
        results, out_tree = jax.tree.flatten(returned)
        if not results or not all(isinstance(x, (jax.Array, np.ndarray, float, int, complex)) for x in results):
            raise TypeError(f"the recorded function returned {returned!r}; expected an array, or a pytree of arrays")
        places = [recorder.place(x) for x in results]
        output = out_tree.unflatten([jnp.asarray(recorder.untraced(x)[0]) for x in results])
        _name_constants(self._fun, recorder.nodes)
        note_variables(recorder.nodes)
        name = getattr(self._fun, "__name__", type(self._fun).__name__)
        return Recording(name, output, [p if isinstance(p, Place) else None for p in places], recorder)

    def memory(self, *args, **kwargs) -> Memory:
        """What recording the function at these arguments will take if values are kept whole, without running it.

        Raises:
          TypeError: the function decides by values, which are not known without running it.
        """
        _, leaves, tree = named_leaves(self._fun, args, kwargs)
        traced = [i for i, x in enumerate(leaves) if is_array(x)]

        def flat(*arrays):
            filled = list(leaves)
            for i, x in zip(traced, arrays, strict=True):
                filled[i] = x
            args, kwargs = jax.tree.unflatten(tree, filled)
            return self._fun(*args, **kwargs)

        try:
            with named_modules():
                program = jax.make_jaxpr(flat)(*(leaves[i] for i in traced))
        except jax.errors.ConcretizationTypeError as error:
            raise TypeError(
                "what the function will keep is known only once it has run, as it decides by values "
                f"({str(error).splitlines()[0]}); record it with keep='summaries'"
            ) from None
        values, gradients = bytes_of_values(program)
        return Memory(len(traced) + count_operations(program), values, gradients)


def record(fun: Callable, *, keep: str = "values", memory: int = 2**30, max_nodes: int = 100_000) -> Record:
    """Run any JAX function and keep its graph: `recording = dp.record(fun)(*args, **kwargs)`.

    Functions under `jit` and `checkpoint` are recorded operation by operation, loops iteration by iteration, of a
    `cond` the branch that is taken. Arrays, and Python's floating-point numbers, among the arguments are its inputs;
    anything else is passed on as it is.

    Args:
      fun: function of pytrees to an array or a pytree of arrays.
      keep: "values" keeps arrays whole, "summaries" a few numbers of each (see `Summary`), "nothing" neither; whichever
        is kept, the backward pass holds on to what the rules need.
      memory: bytes of whole arrays; those after that are kept as summaries. `dp.record(fun).memory(*args)` says before
        how many it will be.
      max_nodes: a loop that would exceed it stays one node, or its last iterations do.

    Returns:
      a function of the same arguments that returns the `Recording`. It can't run under `jit`, `vmap` or `grad`; these
      may be part of `fun`.
    """
    return Record(fun, keep, memory, max_nodes)


def is_array(x) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic)) or type(x) in (float, complex)


def _input(recorder: Recorder, x, name: str):
    """What to pass to the function for one leaf of its arguments."""
    if not is_array(x):
        return x
    value = canonical(x) if type(x) in (float, complex) else jnp.asarray(x)
    return recorder.input(value, name, is_differentiable(value))


def named_leaves(fun, args, kwargs):
    """Names such as "params['w']", leaves, and structure of (args, kwargs)."""
    found, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
        positional = [
            f"{name}[{i}]" if isinstance(value, tuple) and _is_variadic(fun, name) else name
            for name, value in bound.arguments.items()
            for i in (range(len(value)) if isinstance(value, tuple) and _is_variadic(fun, name) else [0])
        ]
    except (TypeError, ValueError):
        positional = []

    def name(path):
        kind, key, *rest = path
        if kind.idx == 1:
            first = key.key
        else:
            first = positional[key.idx] if key.idx < len(positional) else f"args[{key.idx}]"
        return first + jax.tree_util.keystr(tuple(rest))

    return [name(path) for path, _ in found], [x for _, x in found], tree


def _is_variadic(fun, name) -> bool:
    return inspect.signature(fun).parameters[name].kind is inspect.Parameter.VAR_POSITIONAL


def _name_constants(fun, nodes):
    """Call the arrays that the function closes over by the names that it has for them."""
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
