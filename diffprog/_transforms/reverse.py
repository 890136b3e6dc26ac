"""Reverse-mode transformations with JAX's names, signatures and results."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
from jax import typeof

from diffprog._jax_internals import (
    as_array,
    canonical,
    has_gradient,
    hides_engine,
    is_array_type,
    is_differentiable,
    is_reference,
)
from diffprog._jax_internals.devices import one_cotangent
from diffprog._jax_internals.scopes import forward_pass
from diffprog._jax_internals.sources import looks_for_nan
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.tape import keeping_sources
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
from diffprog._transforms.closures import lift
from diffprog._transforms.memory import Budget, budget_of, within
from diffprog._transforms.pullback import Pullback, Run, send
from diffprog._transforms.saved import flags
from diffprog._util.lists import split_list


@hides_engine
def vjp(
    fun: Callable,
    *primals: Any,
    has_aux: bool = False,
    saveable_args: Any = True,
    in_nzs: Any = None,
    memory: str | int | float | None = None,
) -> tuple[Any, Pullback] | tuple[Any, Pullback, Any]:
    """Run a function and return its result and its pullback, like `jax.vjp`.

    Args:
      fun: function of arrays, or pytrees of them, to an array or a pytree of arrays. It may read and write mutable
        arrays (`jax.new_ref`) among its arguments.
      *primals: where to evaluate it.
      has_aux: whether `fun` returns a pair (result, auxiliary data).
      saveable_args: which arguments the pullback may keep: a boolean, or containers like the primals' with booleans.
        Of the others, those that it needs have to be put into its `args_res` before it is called.
      in_nzs: which arguments to differentiate with respect to, likewise; None for all. The others' cotangents are zero.
      memory: a budget, as for `checkpoint`, which takes effect where both passes are compiled together.

    Returns:
      (result, pullback), or (result, pullback, auxiliary data). The pullback maps a cotangent like the result to
      the tuple of cotangents of the primals. It is a pytree, and may be returned from `jax.jit`.

    Raises:
      TypeError: `fun` is not callable, or an argument or a result is not an array.
      ValueError: `saveable_args` or `in_nzs` is not like the primals, a mutable array is passed twice, or no plan is
        within the budget.
    """
    check_callable(fun)
    fun = fun if memory is None else within(fun, budget_of(memory))
    leaves, in_tree = jax.tree.flatten(primals)
    wanted = None if in_nzs is None else flags(in_nzs, in_tree, "in_nzs")
    leaves = list(map(canonical, leaves))
    arrays = [as_array(x) if is_differentiable(x) else x for x in leaves]  # a number could not be told from a constant
    run = _run(fun, arrays, in_tree, has_aux, wanted)
    pullback = Pullback(run, flags(saveable_args, in_tree, "saveable_args"))
    passed = {id(x): original for x, original in zip(arrays, leaves, strict=True)}
    result, aux = jax.tree.map(lambda x: passed.get(id(x), x), (run.out_tree.unflatten(run.results), run.aux))
    return (result, pullback, aux) if has_aux else (result, pullback)


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    memory: str | int | float | None = None,
) -> Callable[..., tuple[Any, Any]]:
    """Make a function that returns the value and the gradient of `fun`, like `jax.value_and_grad`.

    Args:
      fun: function with a real scalar as its result; its arguments may be pytrees of arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and value are complex.
      allow_int: whether to allow integer arguments; their gradient has the dtype float0.
      memory: a budget, as for `checkpoint`: value and gradient are then one compiled program, which holds no more than
        that beyond arguments and results, by computing some values again.

    Returns:
      A function of the same arguments that returns (value, gradient), or ((value, auxiliary data), gradient). The
      gradient is like the argument; with several positions it is a tuple.

    Raises:
      TypeError: the value is not a scalar or not real (complex if holomorphic), or an argument has no gradient.
      ValueError: `memory` is no budget, or no plan is within it.
    """
    check_callable(fun)
    argnums = indices(argnums)
    budget = None if memory is None else budget_of(memory)

    @wraps(fun, "value and gradient of")
    def value_and_grad_fun(*args, **kwargs):
        partial_fun, chosen = choose(fun, argnums, args, kwargs)
        leaves, in_tree = check_inputs("grad", chosen, holomorphic, allow_int)
        if budget is not None:
            options = (has_aux, holomorphic, allow_int)
            value, gradients = _within(lift(partial_fun, *chosen), chosen, budget, options)
            return value, gradients[0] if isinstance(argnums, int) else gradients
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
    *,
    memory: str | int | float | None = None,
) -> Callable[..., Any]:
    """Make a function that returns the gradient of `fun`, like `jax.grad`.

    Args:
      fun: function with a real scalar as its result; its arguments may be pytrees of arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and value are complex.
      allow_int: whether to allow integer arguments; their gradient has the dtype float0.
      memory: a budget, as for `checkpoint`: value and gradient are then one compiled program, which holds no more than
        that beyond arguments and results, by computing some values again.

    Returns:
      A function of the same arguments that returns the gradient, or (gradient, auxiliary data). The gradient is like
      the argument; with several positions it is a tuple.

    Raises:
      TypeError: the value is not a scalar or not real (complex if holomorphic), or an argument has no gradient.
      ValueError: `memory` is no budget, or no plan is within it.
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, memory=memory)

    @wraps(fun, "gradient of")
    def grad_fun(*args, **kwargs):
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_fun


@partial(jax.jit, static_argnames=("budget", "options"))
def _within(fun, chosen: tuple, budget: Budget, options: tuple) -> tuple[Any, tuple]:
    """Compute value and gradient by a lifted function in one program, within a budget."""
    return value_and_grad(within(fun, budget), tuple(range(len(chosen))), *options)(*chosen)


def _run(fun, leaves, in_tree, has_aux, wanted: Sequence[bool] | None = None) -> Run:
    """Run a function on a tape.

    Mutable arrays among its arguments are made anew on the tape, from their content; what the function writes to them
    is a result, and is put into them afterwards.
    """
    mutable = [i for i, x in enumerate(leaves) if is_reference(x)]
    if len({id(leaves[i]) for i in mutable}) < len(mutable):
        raise ValueError("the arguments of a differentiated function hold one mutable array twice: pass it once")
    args = [x[...] if i in mutable else x for i, x in enumerate(leaves)] if mutable else leaves
    needs_grad = [has_gradient(typeof(x)) for x in args]
    if wanted is not None:
        needs_grad = [a and b for a, b in zip(needs_grad, wanted, strict=True)]
    out_tree: Any = None
    aux_tree: Any = None

    def run(*args):
        nonlocal out_tree, aux_tree
        references = [jax.new_ref(args[i]) for i in mutable]
        if mutable:
            args = list(args)
            for i, reference in zip(mutable, references, strict=True):
                args[i] = reference
        with forward_pass():
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
        return [*results, *others, *map(jax.freeze, references)]

    with keeping_sources() if looks_for_nan() else nullcontext():
        outputs, taped = run_taped(run, args, needs_grad)
    results, others, contents = split_list(outputs, [out_tree.num_leaves, aux_tree.num_leaves])
    places = taped.places[: len(results)]
    written = []
    for i, content, place in zip(mutable, contents, taped.places[len(outputs) - len(mutable) :], strict=True):
        if content is not args[i]:
            leaves[i][...] = content
            written.append(i)
            places = (*places, place)
    taped = taped._replace(places=places)
    name = getattr(fun, "__name__", type(fun).__name__)
    aux = aux_tree.unflatten(others)
    return Run(results, out_tree, aux, taped, args, in_tree, needs_grad, mutable, written, name)
