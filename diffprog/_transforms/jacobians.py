"""Jacobians and Hessians, with JAX's names, signatures and results."""

from collections.abc import Callable, Sequence
from itertools import accumulate
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
) -> Callable[..., Any]:
    """Make a function that returns the Jacobian of `fun`, row by row in reverse mode, like `jax.jacrev`.

    Args:
      fun: function of arrays, or pytrees of them, to a real array or a pytree of real arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (result, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and results are complex.
      allow_int: whether to allow integer arguments; their Jacobian is zero.

    Returns:
      A function of the same arguments that returns the Jacobian, or (Jacobian, auxiliary data). It has the structure
      of the result, and in the place of each leaf the structure of the argument, with leaves of shape
      (*result.shape, *argument.shape). With several positions, each of these is a tuple.

    Raises:
      TypeError: a result is not real (complex if holomorphic), or an argument has no gradient.
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
) -> Callable[..., Any]:
    """Make a function that returns the dense Hessian of `fun`, forward over reverse, like `jax.hessian`.

    Args:
      fun: function of arrays, or pytrees of them, to a real array or a pytree of real arrays.
      argnums: position of the argument to differentiate with respect to, or several positions.
      has_aux: whether `fun` returns a pair (result, auxiliary data).
      holomorphic: whether `fun` is promised to be holomorphic; then inputs and results are complex.

    Returns:
      A function of the same arguments that returns the Hessian, or (Hessian, auxiliary data). It has the structure of
      the result, in the place of each leaf twice the structure of the argument, and leaves of shape
      (*result.shape, *argument.shape, *argument.shape).
    """
    gradient = jacrev(fun, argnums, has_aux, holomorphic)
    return jax.jacfwd(gradient, argnums, has_aux, holomorphic)


def hvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Multiply the Hessian of a scalar function by a vector, without making the Hessian.

    Args:
      fun: function with a real scalar as its result.
      primals: tuple or list of its arguments, as for `jax.jvp`.
      tangents: the vector, of the structure, shapes and dtypes of `primals`.

    Returns:
      The product, a tuple like `primals`.

    Raises:
      TypeError: `primals` or `tangents` is neither a tuple nor a list.

    References:
      Pearlmutter 1994, "Fast exact multiplication by the Hessian", Neural Computation 6.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            f"hvp takes its primals and its tangents as tuples or lists of arguments; found {type(primals).__name__} "
            f"and {type(tangents).__name__}: write hvp(fun, (x,), (v,))"
        )
    gradient = grad(fun, argnums=tuple(range(len(primals))))
    return jax.jvp(gradient, tuple(primals), tuple(tangents))[1]


def _basis(tree):
    """Make the standard basis of the space of `tree`, along a new first axis."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = [np.size(x) for x in leaves]
    starts = accumulate(sizes, initial=0)

    def part(x, start):  # as jnp.eye, which takes no symbol for its diagonal
        ones = jnp.arange(sum(sizes))[:, None] == jnp.arange(np.size(x))[None, :] + start
        return ones.astype(typeof(x).dtype).reshape(sum(sizes), *np.shape(x))

    return jax.tree.unflatten(structure, [part(x, start) for x, start in zip(leaves, starts, strict=False)])


def _like(x, aval):
    """Give `x` the dtype and the weak type of `aval`."""
    if x.weak_type == aval.weak_type and x.dtype == aval.dtype:
        return x
    return lax.convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=aval.weak_type, sharding=None)


def _split_rows(rows, example, result):
    """Split cotangents, stacked over the whole result, into a tree over the result of trees over the argument."""
    leaves, structure = jax.tree.flatten(result)
    ends = accumulate(np.size(x) for x in leaves)

    def block(x, end):
        def cut(row_stack, argument):
            shape = (*np.shape(x), *np.shape(argument))
            if row_stack.dtype == float0:  # of an integer; JAX gives zeros of its own type
                part = jnp.asarray(np.zeros(shape, typeof(argument).dtype))
            else:
                part = row_stack[end - np.size(x) : end].reshape(shape)
            return _like(part, typeof(argument))

        return jax.tree.map(cut, rows, example)

    return jax.tree.unflatten(structure, [block(x, end) for x, end in zip(leaves, ends, strict=True)])
