"""Jacobians and Hessians, with JAX's names, signatures and results."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._jax_internals import float0, typeof
from diffprog._transforms.arguments import check_callable, check_inputs, check_outputs, choose, indices, wraps
from diffprog._transforms.reverse import grad, vjp


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
    check_callable(fun)
    argnums = indices(argnums)

    @wraps(fun, "Jacobian of")
    def jacrev_fun(*args, **kwargs):
        partial_fun, chosen = choose(fun, argnums, args, kwargs)
        check_inputs("jacrev", chosen, holomorphic, allow_int)
        result, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        check_outputs("jacrev", result, holomorphic)
        rows = jax.vmap(pullback)(_basis(result))
        rows, example = (rows[0], chosen[0]) if isinstance(argnums, int) else (rows, chosen)
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


def _basis(tree):
    """The standard basis of the space of `tree`, along a new first axis."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = [np.size(x) for x in leaves]
    starts = np.cumsum([0, *sizes])

    def part(x, start):
        rows = jnp.eye(sum(sizes), np.size(x), k=-int(start), dtype=typeof(x).dtype)
        return rows.reshape(sum(sizes), *np.shape(x))

    return jax.tree.unflatten(structure, [part(x, start) for x, start in zip(leaves, starts, strict=False)])


def _like(x, aval):
    """`x` with the dtype and the weak type of `aval`."""
    if x.weak_type == aval.weak_type and x.dtype == aval.dtype:
        return x
    return lax.convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=aval.weak_type, sharding=None)


def _split_rows(rows, example, result):
    """Rows of cotangents, stacked over all of the result, as a tree over the result of trees over the argument."""
    leaves, structure = jax.tree.flatten(result)
    ends = np.cumsum([np.size(x) for x in leaves])

    def block(x, end):
        def cut(row_stack, argument):
            shape = (*np.shape(x), *np.shape(argument))
            if row_stack.dtype == float0:  # of an integer; JAX gives zeros of its own type
                part = jnp.asarray(np.zeros(shape, typeof(argument).dtype))
            else:
                part = row_stack[int(end) - np.size(x) : int(end)].reshape(shape)
            return _like(part, typeof(argument))

        return jax.tree.map(cut, rows, example)

    return jax.tree.unflatten(structure, [block(x, end) for x, end in zip(leaves, ends, strict=True)])
