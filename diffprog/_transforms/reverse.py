"""Reverse-mode transformations with JAX's names, signatures and results."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from diffprog._jax_internals import (
    canonical,
    is_array_type,
    is_differentiable,
    is_reference,
    set_current_trace,
    take_current_trace,
    typeof,
)
from diffprog._tracer.tape import Tape
from diffprog._transforms.arguments import (
    check_callable,
    check_inputs,
    check_outputs,
    check_scalar,
    choose,
    indices,
    wraps,
)
from diffprog._transforms.pullback import Pullback, pullback_of_tape


def vjp(fun: Callable, *primals, has_aux: bool = False) -> tuple[Any, Pullback] | tuple[Any, Pullback, Any]:
    """Run `fun` and return its result and its pullback, like `jax.vjp`.

    Args:
      fun: function of arrays (or pytrees of them) to an array or a pytree.
      *primals: where to evaluate it.
      has_aux: whether `fun` returns (result, auxiliary data).

    Returns:
      (result, pullback), or (result, pullback, auxiliary data). The pullback maps a cotangent like the result to
      the tuple of cotangents of the primals; it is a pytree (see `Pullback`).

    Raises:
      TypeError: `fun` isn't callable, or an argument or a result isn't an array.
    """
    check_callable(fun)
    leaves, in_tree = jax.tree.flatten(primals)
    leaves = list(map(canonical, leaves))
    if any(map(is_reference, leaves)):
        raise TypeError(
            "functions are differentiated with respect to values; found a mutable array (Ref) among the arguments: "
            "pass its value, ref[...], or close over it"
        )
    with take_current_trace() as parent:
        tape = Tape(parent)
        with set_current_trace(parent):
            traced = [tape.watch(x) if is_differentiable(x) else x for x in leaves]
        with set_current_trace(tape):
            returned = fun(*jax.tree.unflatten(in_tree, traced))
        tape.invalidate()
    if has_aux:
        if not (isinstance(returned, (tuple, list)) and len(returned) == 2):
            raise TypeError(f"with has_aux=True the function must return a pair (result, aux); it returned {returned}")
        returned, aux = returned
    results, out_tree = jax.tree.flatten(returned)
    for x in results:
        if not is_array_type(x):
            raise TypeError(f"a differentiated function must return arrays; it returned {x!r} of type {type(x)}")
    results, places = zip(*map(tape.untraced, results), strict=True) if results else ((), ())
    inputs = [x.node if x is not y else None for x, y in zip(traced, leaves, strict=True)]
    pullback = pullback_of_tape(
        places, inputs, list(map(typeof, leaves)), in_tree, list(map(typeof, results)), out_tree
    )
    result = jax.tree.unflatten(out_tree, results)
    if has_aux:
        return result, pullback, jax.tree.map(lambda x: tape.untraced(x)[0], aux)
    return result, pullback


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns the value and the gradient of `fun`, like `jax.value_and_grad`.

    Args:
      fun: scalar-valued function.
      argnums: which positional argument, or arguments, to differentiate with respect to.
      has_aux: whether `fun` returns (value, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and value are complex.
      allow_int: allow integer arguments; their gradient has the dtype float0.

    Returns:
      a function of the same arguments that returns (value, gradient), or ((value, aux), gradient); the gradient is
      a tuple if `argnums` is a sequence.

    Raises:
      TypeError: the value isn't a scalar or not real (complex if holomorphic), or an argument has no gradient.
    """
    check_callable(fun)
    argnums = indices(argnums)

    @wraps(fun, "value and gradient of")
    def value_and_grad_fun(*args, **kwargs):
        partial_fun, chosen = choose(fun, argnums, args, kwargs)
        check_inputs("grad", chosen, holomorphic, allow_int)
        value, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        check_scalar(value)
        check_outputs("grad", value, holomorphic)
        gradients = pullback(lax.full_like(value, 1))
        gradient = gradients[0] if isinstance(argnums, int) else gradients
        return ((value, *aux) if has_aux else value), gradient

    return value_and_grad_fun


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable:
    """A function that returns the gradient of `fun`, like `jax.grad`; arguments as for `value_and_grad`.

    Returns:
      a function that returns the gradient, or (gradient, auxiliary data).
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @wraps(fun, "gradient of")
    def grad_fun(*args, **kwargs):
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_fun
