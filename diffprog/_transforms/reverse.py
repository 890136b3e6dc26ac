"""Reverse-mode transformations with JAX's names, signatures and results."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import typeof

from diffprog._jax_internals import canonical, has_gradient, is_array_type, is_reference
from diffprog._jax_internals.devices import one_cotangent
from diffprog._tracer.backward import Taped
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.vjp import run_taped
from diffprog._transforms.arguments import (
    check_callable,
    check_inputs,
    check_outputs,
    check_scalar,
    choose,
    indices,
    wraps,
)
from diffprog._transforms.pullback import Pullback, send


def vjp(fun: Callable, *primals: Any, has_aux: bool = False) -> tuple[Any, Pullback] | tuple[Any, Pullback, Any]:
    """Run a function and return its result and its pullback, like `jax.vjp`.

    Args:
      fun: function of arrays, or pytrees of them, to an array or a pytree of arrays.
      *primals: where to evaluate it.
      has_aux: whether `fun` returns a pair (result, auxiliary data).

    Returns:
      (result, pullback), or (result, pullback, auxiliary data). The pullback maps a cotangent like the result to
      the tuple of cotangents of the primals. It is a pytree, and may be returned from `jax.jit`.

    Raises:
      TypeError: `fun` is not callable, or an argument or a result is not an array.
    """
    check_callable(fun)
    leaves, in_tree = jax.tree.flatten(primals)
    run = _run(fun, list(map(canonical, leaves)), in_tree, has_aux)
    out_avals = list(map(typeof, run.results))
    pullback = Pullback(run.taped, run.needs_grad, run.in_avals, in_tree, out_avals, run.out_tree)
    result = run.out_tree.unflatten(run.results)
    return (result, pullback, run.aux) if has_aux else (result, pullback)


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """Make a function that returns the value and the gradient of `fun`, like `jax.value_and_grad`.

    Args:
      fun: function with a real scalar as its result; its arguments may be pytrees of arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and value are complex.
      allow_int: whether to allow integer arguments; their gradient has the dtype float0.

    Returns:
      A function of the same arguments that returns (value, gradient), or ((value, auxiliary data), gradient). The
      gradient is like the argument; with several positions it is a tuple.

    Raises:
      TypeError: the value is not a scalar or not real (complex if holomorphic), or an argument has no gradient.
    """
    check_callable(fun)
    argnums = indices(argnums)

    @wraps(fun, "value and gradient of")
    def value_and_grad_fun(*args, **kwargs):
        partial_fun, chosen = choose(fun, argnums, args, kwargs)
        leaves, in_tree = check_inputs("grad", chosen, holomorphic, allow_int)
        run = _run(partial_fun, leaves, in_tree, has_aux)
        value = run.out_tree.unflatten(run.results)
        check_scalar(value)
        check_outputs("grad", value, holomorphic)
        sent = send(run.taped, run.needs_grad, [one_cotangent(value)])
        gradients = in_tree.unflatten(fill_zeros(sent, run.in_avals))
        gradient = gradients[0] if isinstance(argnums, int) else gradients
        return ((value, run.aux) if has_aux else value), gradient

    return value_and_grad_fun


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Make a function that returns the gradient of `fun`, like `jax.grad`.

    Args:
      fun: function with a real scalar as its result; its arguments may be pytrees of arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and value are complex.
      allow_int: whether to allow integer arguments; their gradient has the dtype float0.

    Returns:
      A function of the same arguments that returns the gradient, or (gradient, auxiliary data). The gradient is like
      the argument; with several positions it is a tuple.

    Raises:
      TypeError: the value is not a scalar or not real (complex if holomorphic), or an argument has no gradient.
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @wraps(fun, "gradient of")
    def grad_fun(*args, **kwargs):
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_fun


class _Run(NamedTuple):
    """A function that ran on a tape.

    Attributes:
      results: the leaves of its result, free of the tape.
      out_tree: the structure of its result.
      aux: its auxiliary data, None if there is none.
      taped: for the reverse pass.
      in_avals: types of the leaves of its arguments.
      needs_grad: which of these leaves have a gradient.
    """

    results: list
    out_tree: Any
    aux: Any
    taped: Taped
    in_avals: list
    needs_grad: list[bool]


def _run(fun, leaves, in_tree, has_aux) -> _Run:
    in_avals = list(map(typeof, leaves))
    if any(map(is_reference, leaves)):
        raise TypeError(
            "functions are differentiated with respect to values; found a mutable array (Ref) among the arguments: "
            "pass its value, ref[...], or close over it"
        )
    needs_grad = list(map(has_gradient, in_avals))
    out_tree: Any = None
    aux_tree: Any = None

    def run(*args):
        nonlocal out_tree, aux_tree
        returned, aux = fun(*in_tree.unflatten(args)), None
        if has_aux:
            if not (isinstance(returned, (tuple, list)) and len(returned) == 2):
                raise TypeError(
                    f"with has_aux=True the function must return a pair (result, aux); it returned {returned}"
                )
            returned, aux = returned
        results, out_tree = jax.tree.flatten(returned)
        for x in results:
            if not is_array_type(x):
                raise TypeError(f"a differentiated function must return arrays; it returned {x!r} of type {type(x)}")
        others, aux_tree = jax.tree.flatten(aux)
        return [*results, *others]

    outputs, taped = run_taped(run, leaves, needs_grad)
    num_results = out_tree.num_leaves
    results, aux = outputs[:num_results], aux_tree.unflatten(outputs[num_results:])
    return _Run(results, out_tree, aux, taped._replace(places=taped.places[:num_results]), in_avals, needs_grad)
