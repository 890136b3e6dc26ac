"""Values and gradients from the inside of a function, compiled or not: `activations` and `grad_at`."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._jax_internals import canonical, instantiate, set_current_trace, take_current_trace
from diffprog._jax_internals.interception import not_intercepting
from diffprog._jax_internals.tagging import Tag, tagged
from diffprog._tracer.backward import backward
from diffprog._tracer.tape import Tape
from diffprog._transforms.arguments import check_callable, check_outputs, check_scalar, wraps
from diffprog.graph._interventions.capture import run_exposed
from diffprog.graph._interventions.intervene import Probe


def activations(fun: Callable, selectors: Iterable, with_output: bool = False) -> Callable:
    """A function of the same arguments that returns the selected values of `fun`.

    Args:
      fun: any function.
      selectors: a list of selectors (see `diffprog.graph._selection.selectors`).
      with_output: whether to return (output of `fun`, selected values).

    Returns:
      a function to a dict, selector -> value; where a selector means several values, the list of them in the order in
      which they are computed. In a `scan` the values of all iterations, index first; in a `vmap` those of all examples,
      with the mapped axis where it is; in a branch of a `cond` that is not taken, zeros.

    Raises, when called:
      ValueError: a selector means nothing (the message has the nearest names), or something in a while loop.
    """
    probe = _tagging_probe("activations", fun, selectors, floats=False)

    @wraps(fun, "selected values of")
    def activations_fun(*args, **kwargs):
        with take_current_trace() as parent:
            output, found = _run(probe, fun, args, kwargs, None, parent)
        values = _by_selector(probe, [tag for tag, _ in found], [value for _, value in found])
        return (output, values) if with_output else values

    return activations_fun


def grad_at(fun: Callable, selectors: Iterable, has_aux: bool = False, with_value: bool = False) -> Callable:
    """A function of the same arguments that returns gradients of `fun` with respect to its selected values.

    What lies before the selected values is not differentiated: neither the arguments' gradients nor those of weights
    are computed. Compiled, it is the program that one gets by adding zeros to the values and differentiating with
    respect to these, less the additions.

    Args:
      fun: function to a scalar, or to (scalar, auxiliary data).
      selectors: a list of selectors (see `diffprog.graph._selection.selectors`).
      has_aux: whether `fun` returns auxiliary data.
      with_value: whether to return (result of `fun`, gradients).

    Returns:
      a function to a dict, selector -> gradient, of the value's shape; where a selector means several values, the list
      of their gradients in the order in which they are computed. In a `scan`, one for each iteration, index first.
      With `has_aux` and without `with_value`, (gradients, auxiliary data).

    Raises, when called:
      ValueError: a selector means nothing (the message has the nearest names), or something in a while loop.
      TypeError: the result is no real scalar.
    """
    probe = _tagging_probe("grad_at", fun, selectors, floats=True)

    @wraps(fun, "gradient at selected values of")
    def grad_at_fun(*args, **kwargs):
        inputs = []

        def perturbation(aval):
            with set_current_trace(parent):
                inputs.append(tape.watch(instantiate(aval)))
            return inputs[-1]

        with take_current_trace() as parent:
            tape = Tape(parent)
            result, found = _run(probe, fun, args, kwargs, perturbation, tape)
            tape.invalidate()
        value, aux = result if has_aux else (result, None)
        value, place = tape.untraced(canonical(value))
        aux = jax.tree.map(lambda x: tape.untraced(x)[0], aux)
        check_scalar(value)
        check_outputs("grad_at", value, holomorphic=False)
        nodes = [x.node for x in inputs]
        with not_intercepting():
            gradients = backward([(place, jnp.ones_like(value))] if place else [], nodes)
            full = [instantiate(n.avals[0]) if g is None else g for g, n in zip(gradients, nodes, strict=True)]
        gradients = _by_selector(probe, [tag for tag, _ in found], full)
        if not with_value:
            return (gradients, aux) if has_aux else gradients
        return ((value, aux) if has_aux else value), gradients

    return grad_at_fun


def _tagging_probe(name, fun, selectors, floats) -> Probe:
    check_callable(fun)
    if isinstance(selectors, str) or callable(selectors):
        selectors = [selectors]
    selectors = list(selectors)
    if not selectors:
        raise ValueError(f"{name} takes a list of selectors; found an empty one")
    probe = Probe(name, selectors, lambda value, chosen, _: tagged(value, Tag(probe, chosen)), floats)
    return probe


def _run(probe, fun, args, kwargs, perturbation, parent):
    def run():
        # As under JAX's transformations, arguments are rebuilt: NNX lets only the trace that made a variable change it.
        own_args, own_kwargs = jax.tree.map(lambda x: x, (args, kwargs))
        with probe.intercepting():
            return fun(*own_args, **own_kwargs)

    return run_exposed(run, (), probe, perturbation, parent)


def _by_selector(probe, tags, values) -> dict[Any, Any]:
    found: list[list] = [[] for _ in probe.selectors]
    for tag, value in zip(tags, values, strict=True):
        for i in tag.selectors:
            found[i].append(value)
    for chosen, each in zip(probe.selectors, found, strict=True):
        if not each:
            raise ValueError(
                f"the value selected by {chosen.given!r} stays where it is computed, in a function that is only staged "
                "or is run by a callback: select one outside of it"
            )
    return {s.given: each[0] if len(each) == 1 else each for s, each in zip(probe.selectors, found, strict=True)}
