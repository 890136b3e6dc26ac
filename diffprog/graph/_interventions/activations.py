"""Return values and gradients from the inside of a function, compiled or not: `activations` and `grad_at`."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from diffprog._jax_internals import canonical, instantiate, set_current_trace, take_current_trace
from diffprog._jax_internals.devices import one_cotangent
from diffprog._jax_internals.interception import not_intercepting
from diffprog._jax_internals.tagging import Tag, tagged
from diffprog._tracer.backward import backward
from diffprog._tracer.tape import Tape
from diffprog._transforms.arguments import check_callable, check_outputs, check_scalar, wraps
from diffprog.graph._interventions.capture import run_captured
from diffprog.graph._interventions.intervene import Intervention
from diffprog.graph._selection.selectors import Selector


def activations(fun: Callable, selectors: Selector | Iterable[Selector], with_output: bool = False) -> Callable:
    """Return selected values of a function.

    Args:
      fun: any function.
      selectors: which values: a selector (see `dp.graph`) or a list of them.
      with_output: whether to return (output of `fun`, selected values).

    Returns:
      A function of the same arguments to a dict, selector -> value; a selector that means several values has the list
      of them, in the order in which they are computed. A value in a `scan` has those of all iterations, index first;
      in a `vmap` those of all examples, with the mapped axis where it is; in a branch of a `cond` that is not taken,
      zeros. When it is called, a selector that means nothing, or something in a while loop, is a ValueError.

    Raises:
      TypeError: `fun` is no function, or a selector neither text nor a function.
      ValueError: there is no selector.
    """
    intervention = _tagging("activations", fun, selectors, floats=False)

    @wraps(fun, "selected values of")
    def activations_fun(*args, **kwargs):
        with take_current_trace() as parent:
            output, captured = _run(intervention, fun, args, kwargs, None, parent)
        values = _by_selector(intervention, [tag for tag, _ in captured], [value for _, value in captured])
        return (output, values) if with_output else values

    return activations_fun


def grad_at(
    fun: Callable, selectors: Selector | Iterable[Selector], has_aux: bool = False, with_value: bool = False
) -> Callable:
    """Return the gradients of a function with respect to its selected values.

    What lies before the selected values is not differentiated: neither the arguments' gradients nor those of weights
    are computed. Compiled, it is the program that one gets by adding zeros to the values and differentiating with
    respect to these, without the additions.

    Args:
      fun: function to a real scalar, or to (scalar, auxiliary data).
      selectors: which values: a selector (see `dp.graph`) or a list of them.
      has_aux: whether `fun` returns auxiliary data.
      with_value: whether to return (result of `fun`, gradients).

    Returns:
      A function of the same arguments to a dict, selector -> gradient, of the value's shape; a selector that means
      several values has the list of their gradients, in the order in which they are computed. A value in a `scan` has
      one for each iteration, index first. With `has_aux` and without `with_value` it returns (gradients, auxiliary
      data). When it is called, a selector that means nothing, or something in a while loop, is a ValueError, and a
      result that is no real scalar a TypeError.

    Raises:
      TypeError: `fun` is no function, or a selector neither text nor a function.
      ValueError: there is no selector.
    """
    intervention = _tagging("grad_at", fun, selectors, floats=True)

    @wraps(fun, "gradient at selected values of")
    def grad_at_fun(*args, **kwargs):
        inputs = []

        def perturbation(aval):
            with set_current_trace(parent):
                inputs.append(tape.watch(instantiate(aval)))
            return inputs[-1]

        with take_current_trace() as parent:
            tape = Tape(parent)
            result, captured = _run(intervention, fun, args, kwargs, perturbation, tape)
            tape.invalidate()
        value, aux = result if has_aux else (result, None)
        value, place = tape.untraced(canonical(value))
        aux = jax.tree.map(lambda x: tape.untraced(x)[0], aux)
        check_scalar(value)
        check_outputs("grad_at", value, holomorphic=False)
        nodes = [x.node for x in inputs]
        with not_intercepting():
            gradients = backward([(place, one_cotangent(value))] if place else [], nodes)
            full = [instantiate(n.avals[0]) if g is None else g for g, n in zip(gradients, nodes, strict=True)]
        gradients = _by_selector(intervention, [tag for tag, _ in captured], full)
        if not with_value:
            return (gradients, aux) if has_aux else gradients
        return ((value, aux) if has_aux else value), gradients

    return grad_at_fun


def _tagging(name: str, fun: Callable, selectors, floats: bool) -> Intervention:
    """Make an intervention that tags the selected values, for `run_captured` to find."""
    check_callable(fun)
    selectors = [selectors] if isinstance(selectors, str) or callable(selectors) else list(selectors)
    if not selectors:
        raise ValueError(f"{name} takes a list of selectors; found an empty one")

    def act(value, chosen, _):
        return tagged(value, Tag(intervention, chosen))

    intervention = Intervention(name, selectors, act, floats)
    return intervention


def _run(intervention, fun, args, kwargs, perturbation, parent):
    def run():
        # As under JAX's transformations, arguments are rebuilt: NNX lets only the trace that made a variable change it.
        own_args, own_kwargs = jax.tree.map(lambda x: x, (args, kwargs))
        with intervention.intercepting():
            return fun(*own_args, **own_kwargs)

    return run_captured(run, (), intervention, perturbation, parent)


def _by_selector(intervention, tags, values) -> dict[Any, Any]:
    selected: list[list] = [[] for _ in intervention.selectors]
    for tag, value in zip(tags, values, strict=True):
        for i in tag.selectors:
            selected[i].append(value)
    results = {}
    for selector, of_selector in zip(intervention.selectors, selected, strict=True):
        if not of_selector:
            raise ValueError(
                f"the value selected by {selector.original!r} stays where it is computed, in a function that is only "
                "staged or is run by a callback: select one outside of it"
            )
        results[selector.original] = of_selector[0] if len(of_selector) == 1 else of_selector
    return results
