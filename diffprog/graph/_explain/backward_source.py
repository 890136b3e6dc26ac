"""`dp.backward_source`: write the backward pass of a function as Python that can be read, and run."""

import linecache
from collections.abc import Callable
from functools import wraps

import jax
import jax.numpy as jnp
from jax import lax

from diffprog._jax_internals import (
    canonical,
    instantiate,
    is_differentiable,
    set_current_trace,
    take_current_trace,
    trace_to_closed_jaxpr,
    typeof,
)
from diffprog._jax_internals.devices import one_cotangent
from diffprog._jax_internals.jaxprs import keep_results
from diffprog._jax_internals.sources import is_backward
from diffprog._tracer.backward import backward
from diffprog._tracer.tape import keeping_sources
from diffprog.graph._explain.jaxpr_to_python import Writer, as_identifier
from diffprog.graph._recording.nodes import Source
from diffprog.graph._recording.record import function_of_arrays, is_array, named_leaves
from diffprog.graph._recording.recorder import NotingTape
from diffprog.graph._recording.source_lines import source_of_equation
from diffprog.graph._recording.variable_names import assigned_variable


class BackwardSource(str):
    """The text of a Python function `backward`, which takes a function's arrays and returns their gradients.

    Attributes:
      named: what the text mentions without defining it: large arrays that the function closes over, and operations
        without a public name.
    """

    named: dict

    def function(self) -> Callable:
        """Run the text.

        Returns:
          The function `backward`; numbers and NumPy's arrays among its arguments become JAX's.
        """
        scope = {"jnp": jnp, "lax": lax, **self.named}
        exec(compile(self, "<backward_source>", "exec"), scope)
        backward = scope["backward"]
        return wraps(backward)(lambda *arrays: backward(*map(jnp.asarray, arrays)))


def backward_source(fun: Callable) -> Callable[..., BackwardSource]:
    """Write the backward pass of a function as Python: `print(dp.backward_source(loss)(*args))`.

    The text is a function `backward` of the function's arrays, which returns the gradients with respect to the
    floating-point ones. Of the forward pass it has what these need. Each operation is one statement; a comment says
    which line of the function it comes from, and names are the function's own: `d_h` is the gradient with respect to
    `h`. Functions under `jit` stand in place; loops and branches stay loops and branches.

    Args:
      fun: function of pytrees to a real scalar.

    Returns:
      A function of the same arguments that returns the text, a `BackwardSource`; its `function()` runs it. When it is
      called, a result that is no real scalar is a TypeError, and so is a function that decides by values.
    """

    def source(*args, **kwargs) -> BackwardSource:
        names, leaves, tree = named_leaves(fun, args, kwargs)
        call, arrays = function_of_arrays(fun, leaves, tree)
        traced = _Traced(call, [canonical(x) for x in arrays])
        array_names = [name for name, x in zip(names, leaves, strict=True) if is_array(x)]
        return _write(traced, array_names, getattr(fun, "__name__", "the function"))

    return source


class _Traced:
    """A function and its reverse pass as one closed jaxpr.

    Attributes:
      jaxpr: arrays -> value, gradients, then each value on the tape, each gradient that arrived at one.
      num_gradients: number of gradients.
      made: which values these are: the number of an operation and of its result.
      arrived: which of them the gradients at the end belong to.
    """

    def __init__(self, call, values):
        self.wanted = [is_differentiable(x) for x in values]
        self.num_gradients = sum(self.wanted)

        def run(*arrays):
            with take_current_trace() as parent:
                tape = NotingTape(parent)
                with set_current_trace(parent):
                    inputs = [tape.watch(x) if want else x for x, want in zip(arrays, self.wanted, strict=True)]
                with set_current_trace(tape):
                    result = call(*inputs)
                tape.invalidate()
            value, place = tape.untraced(result)
            if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
                raise TypeError(f"backward_source is of a real scalar; the function returned {value}")
            arrived: list = []
            nodes = [x.node for x, want in zip(inputs, self.wanted, strict=True) if want]
            seeds = [] if place is None else [(place, one_cotangent(value))]
            sent = backward(seeds, nodes, visit=lambda node, cotangents, _: arrived.append((node, cotangents)))
            grads = [instantiate(node.avals[0]) if g is None else g for g, node in zip(sent, nodes, strict=True)]
            # By number: kept nodes would keep tracers, which `jax_check_tracer_leaks` finds.
            number = {node: i for i, node in enumerate(dict.fromkeys(node for node, _ in [*tape.noted, *arrived]))}
            self.made = [(number[node], i) for node, results in tape.noted for i in range(len(results))]
            self.arrived = [(number[node], i) for node, gs in arrived for i, g in enumerate(gs) if g is not None]
            return [
                value,
                *grads,
                *(x for _, results in tape.noted for x in results),
                *(g for _, gs in arrived for g in gs if g is not None),
            ]

        with keeping_sources():
            try:
                self.jaxpr = trace_to_closed_jaxpr(run, [typeof(x) for x in values], "backward")
            except jax.errors.ConcretizationTypeError as error:
                reason = str(error).splitlines()[0]
                raise TypeError(
                    f"backward_source writes out what can be staged; this function decides by values ({reason})"
                ) from None


def _write(traced: _Traced, names: list[str], function: str) -> BackwardSource:
    gradients = keep_results(traced.jaxpr, range(1, 1 + traced.num_gradients))
    parameters = [as_identifier(name) for name in names]
    wanted = _wanted_names(traced, parameters)
    writer = Writer(wanted.get, _comment)
    arguments = [writer.define(variable) for variable in gradients.jaxpr.invars]
    results = [str(x) for x in writer.program(gradients, "    ")]
    summary = f"The gradient of {function}, forward and back."
    if writer.named:
        summary += f"\n\n    `.function()` supplies {', '.join(writer.named)}.\n    "
    returned = ", ".join(results) + ("," if len(results) == 1 else "") if results else "()"
    lines = [
        f"def backward({', '.join(arguments)}):",
        f'    """{summary}"""',
        *writer.lines,
        "",
        f"    return {returned}",
        "",
    ]
    source = BackwardSource("\n".join(lines))
    source.named = writer.named
    return source


def _wanted_names(traced, parameters) -> dict:
    """Name the jaxpr's variables as the program's own, and their gradients with a d_ before."""
    body = traced.jaxpr.jaxpr
    outputs = body.outvars[1 + traced.num_gradients :]
    values, gradients = outputs[: len(traced.made)], outputs[len(traced.made) :]
    maker = {v: eqn for eqn in body.eqns for v in eqn.outvars}
    names = dict(zip(body.invars, parameters, strict=True))
    last: dict = {}  # line -> the last value that it made, which its variable is
    for variable in values:
        if variable in maker and not is_backward(maker[variable]):
            line = source_of_equation(maker[variable])
            if line is not None:
                last[line.file, line.line] = variable
    for (file, line), variable in last.items():
        name = assigned_variable(file, line)
        if name is not None:
            names.setdefault(variable, name)
    called = {place: names.get(variable) for place, variable in zip(traced.made, values, strict=True)}
    for place, variable in zip(traced.arrived, gradients, strict=True):
        if called.get(place) and not hasattr(variable, "val"):
            names.setdefault(variable, f"d_{called[place]}")
    return names


def _comment(equation) -> str | None:
    source: Source | None = source_of_equation(equation)
    if source is None:
        return None
    text = linecache.getline(source.file, source.line).strip()
    return f"{'back through ' if is_backward(equation) else ''}{source}  {text}".rstrip()
