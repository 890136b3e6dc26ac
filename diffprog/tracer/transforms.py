"""Reverse-mode transformations with JAX's names, signatures and results."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax

from diffprog.tracer.jax_internals import (
    canonical,
    is_array_type,
    is_differentiable,
    set_current_trace,
    take_current_trace,
    typeof,
)
from diffprog.tracer.pullback import Pullback, pullback_of_tape
from diffprog.tracer.tape import Tape


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
    _check_callable(fun)
    leaves, in_tree = jax.tree.flatten(primals)
    leaves = list(map(canonical, leaves))
    with take_current_trace() as parent:
        tape = Tape(parent)
        with set_current_trace(parent):
            traced = [tape.watch(x) if is_differentiable(x) else x for x in leaves]
        with set_current_trace(tape):
            returned = fun(*jax.tree.unflatten(in_tree, traced))
        tape.invalidate()
    if has_aux:
        if not (isinstance(returned, tuple) and len(returned) == 2):
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
    _check_callable(fun)

    @_wraps(fun, "value and gradient of")
    def value_and_grad_fun(*args, **kwargs):
        partial_fun, chosen = _choose(fun, argnums, args, kwargs)
        _check_inputs("grad", chosen, holomorphic, allow_int)
        value, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        _check_scalar(value)
        _check_outputs("grad", value, holomorphic)
        (leaf,), tree = jax.tree.flatten(value)
        gradients = pullback(jax.tree.unflatten(tree, [lax.full_like(leaf, 1)]))
        gradient = gradients[0] if _is_index(argnums) else gradients
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

    @_wraps(fun, "gradient of")
    def grad_fun(*args, **kwargs):
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_fun


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable:
    """A function that returns the Jacobian of `fun`, row by row in reverse mode, like `jax.jacrev`.

    Returns:
      a function whose result has the structure of `fun`'s result, each leaf replaced by the structure of the
      argument with leaves of shape result.shape + argument.shape; with `has_aux`, (Jacobian, auxiliary data).
    """
    _check_callable(fun)

    @_wraps(fun, "Jacobian of")
    def jacrev_fun(*args, **kwargs):
        partial_fun, chosen = _choose(fun, argnums, args, kwargs)
        _check_inputs("jacrev", chosen, holomorphic, allow_int)
        result, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        _check_outputs("jacrev", result, holomorphic)
        rows = jax.vmap(pullback)(_basis(result))
        rows, example = (rows[0], chosen[0]) if _is_index(argnums) else (rows, chosen)
        jacobian = _split_rows(rows, example, result)
        return (jacobian, *aux) if has_aux else jacobian

    return jacrev_fun


def hessian(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """A function that returns the dense Hessian of `fun` (forward over reverse), like `jax.hessian`."""
    gradient = jacrev(fun, argnums, has_aux, holomorphic)
    return jax.jacfwd(gradient, argnums, has_aux, holomorphic)


def hvp(fun: Callable, primals: Sequence, tangents: Sequence) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian (Pearlmutter 1994).

    Args:
      fun: scalar-valued function.
      primals: tuple or list of its arguments, as for `jax.jvp`.
      tangents: the vector: like `primals`, in the same structure, shapes and dtypes.

    Returns:
      the product, a tuple like `primals`.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            f"hvp takes its primals and its tangents as tuples or lists of arguments; found {type(primals).__name__} "
            f"and {type(tangents).__name__}: write hvp(fun, (x,), (v,))"
        )
    gradient = grad(fun, argnums=tuple(range(len(primals))))
    return jax.jvp(gradient, tuple(primals), tuple(tangents))[1]


# ---------------------------------------------------------------- arguments


def _is_index(argnums) -> bool:
    return isinstance(argnums, (int, np.integer))


def _choose(fun, argnums, args, kwargs):
    """`fun` as a function of the chosen positional arguments alone, and these arguments."""
    wanted = (argnums,) if _is_index(argnums) else tuple(argnums)
    for number in wanted:
        if not _is_index(number):
            raise TypeError(f"argnums must be an integer or a sequence of integers; found {argnums!r}")
        if not -len(args) <= number < len(args):
            raise TypeError(
                f"differentiating with respect to argnums={argnums} takes an argument at position {number}, "
                f"but the function was called with {len(args)} positional arguments"
            )
    positions = [number % len(args) for number in wanted]

    def partial_fun(*chosen):
        full = list(args)
        for position, value in zip(positions, chosen, strict=True):
            full[position] = value
        return fun(*full, **kwargs)

    return partial_fun, tuple(args[position] for position in positions)


def _wraps(fun, what):
    def decorate(wrapped):
        name = getattr(fun, "__name__", type(fun).__name__)
        functools.update_wrapper(wrapped, fun, assigned=("__module__",), updated=())
        wrapped.__name__ = f"{wrapped.__name__.removesuffix('_fun')}({name})"
        wrapped.__doc__ = f"The {what} `{name}`, with the same arguments."
        return wrapped

    return decorate


# ---------------------------------------------------------------- checks


def _check_callable(fun):
    if not callable(fun):
        raise TypeError(f"the function to differentiate must be callable; found {fun!r}")


def _check_inputs(name, args, holomorphic, allow_int):
    for x in jax.tree.leaves(args):
        try:
            dtype = typeof(canonical(x)).dtype
        except TypeError:
            raise TypeError(f"{name} takes arrays; found {x!r} of type {type(x)} among the arguments") from None
        if holomorphic and not dtypes.issubdtype(dtype, np.complexfloating):
            raise TypeError(f"{name} with holomorphic=True takes complex inputs; found {dtype}")
        if not dtypes.issubdtype(dtype, np.inexact) and not allow_int:
            raise TypeError(
                f"{name} takes real or complex inputs; found {dtype}: convert it to a float, "
                "or pass allow_int=True for a float0 gradient"
            )


def _check_scalar(value):
    shapes = [np.shape(x) for x in jax.tree.leaves(value)]
    if shapes != [()]:
        found = f"an array of shape {shapes[0]}" if len(shapes) == 1 else f"{len(shapes)} arrays"
        raise TypeError(
            f"a gradient is defined for functions with a scalar result; this one returned {found}: "
            "sum it, or use jacrev"
        )


def _check_outputs(name, result, holomorphic):
    for x in jax.tree.leaves(result):
        dtype = typeof(x).dtype
        if holomorphic and not dtypes.issubdtype(dtype, np.complexfloating):
            raise TypeError(f"{name} with holomorphic=True takes functions with a complex result; found {dtype}")
        if not holomorphic and not dtypes.issubdtype(dtype, np.floating):
            raise TypeError(
                f"{name} takes functions with a real result; found {dtype}: "
                "for a holomorphic function pass holomorphic=True, else use vjp"
            )


# ---------------------------------------------------------------- Jacobians


def _basis(tree):
    """The standard basis of the space of `tree`, along a new first axis."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = [np.size(x) for x in leaves]
    starts = np.cumsum([0, *sizes])

    def part(x, start):
        rows = jnp.eye(sum(sizes), np.size(x), k=-int(start), dtype=typeof(x).dtype)
        return rows.reshape(sum(sizes), *np.shape(x))

    return jax.tree.unflatten(structure, [part(x, start) for x, start in zip(leaves, starts, strict=False)])


def _split_rows(rows, example, result):
    """Rows of cotangents, stacked over all of the result, as a tree over the result of trees over the argument."""
    leaves, structure = jax.tree.flatten(result)
    ends = np.cumsum([np.size(x) for x in leaves])

    def block(x, end):
        def cut(row_stack, argument):
            part = row_stack[int(end) - np.size(x) : int(end)]
            return part.reshape(*np.shape(x), *np.shape(argument))

        return jax.tree.map(cut, rows, example)

    return jax.tree.unflatten(structure, [block(x, end) for x, end in zip(leaves, ends, strict=True)])
