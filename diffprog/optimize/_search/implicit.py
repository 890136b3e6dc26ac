"""Derivatives of a minimum with respect to what the function reads, exactly, by the implicit function theorem.

At a minimum x(t) inside the box the gradient g(x, t) is 0 for all t, so H dx = - (dg / dt) dt with the Hessian H; an
element on its bound moves with the bound. No step of the search is differentiated, and no number of steps enters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.loop import Found
from diffprog.optimize._search.oracle import Counts, Oracle

MAX_DENSE = 256  # parameters up to which the whole Hessian is made; beyond, conjugate gradients


Find = Callable[[Oracle, Any, jax.Array, jax.Array], Found]


def differentiable(find: Find) -> Find:
    """Give a search the derivative of its result with respect to what the oracle's program and box hold.

    Args:
      find: the search, of an oracle, an optimizer, a start and a key.

    Returns:
      A function like `find`, differentiable by JAX and by us, in both modes. At a minimum, neither the optimizer nor
      the start nor the key has any influence.
    """
    found = jax.custom_jvp(find)

    @found.defjvp
    def tangents(primals, tangents):
        oracle, oracle_dot = primals[0], tangents[0]
        end = found(*primals)
        point = end.point

        def at_point(oracle):
            value, gradient, _ = oracle.value_and_gradient(point, Counts.none())
            return value, gradient

        (_, gradient), (value_dot, gradient_dot) = jax.jvp(at_point, (oracle,), (oracle_dot,))
        low, high = point <= oracle.lower, point >= oracle.upper
        held = low | high
        bound_dot = jnp.where(low, oracle_dot.lower, jnp.where(high, oracle_dot.upper, 0))
        point_dot = _solve(oracle, point, held, -gradient_dot, bound_dot)
        none = jax.tree.map(lambda x: np.zeros(jnp.shape(x), jax.dtypes.float0), end)
        return end, none._replace(point=point_dot, value=value_dot + jnp.vdot(gradient, point_dot))

    return found


def _solve(oracle: Oracle, point, held, change, bound_dot):
    """Solve H dx = `change` for the elements that are free, with dx = `bound_dot` for those that are held."""
    _, _, product, counts = oracle.linearized(point, Counts.none())

    def multiply(vector):
        return product(vector, counts)[0]

    change = jnp.where(held, bound_dot, change - multiply(jnp.where(held, bound_dot, 0)))

    def of_free(vector):
        return jnp.where(held, vector, multiply(jnp.where(held, 0, vector)))

    if len(point) <= MAX_DENSE:
        rows = jax.vmap(of_free)(jnp.eye(len(point), dtype=point.dtype))
        return jnp.linalg.solve(rows.T, change)
    return jax.scipy.sparse.linalg.cg(of_free, change, tol=1e-2 * float(jnp.finfo(point.dtype).eps) ** 0.5)[0]
