"""The rows of the table as losses: real arrays to a real scalar."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.rules.rows import Row
from tests.rules.test_rules import make_args


def loss_of(row: Row, dtype):
    """A row's loss at this dtype, and its arguments; complex ones in parts: first the real ones, then the imaginary."""
    args, function = make_args(row, dtype), row.fun
    if np.issubdtype(dtype, np.complexfloating):
        args = (*map(jnp.real, args), *map(jnp.imag, args))
        function = lambda *parts: row.fun(*map(lax.complex, parts[: len(parts) // 2], parts[len(parts) // 2 :]))

    def loss(*args):
        total = jnp.zeros((), args[0].dtype)
        for x in jax.tree.leaves(function(*args)):
            if jnp.issubdtype(x.dtype, jnp.inexact):
                x = jnp.real(x)
                weights = jnp.cos(1 + lax.iota(x.dtype, x.size)).reshape(x.shape)
                total += jnp.sum(x * weights).astype(total.dtype)
        return total

    return loss, args


def differentiable(args) -> tuple[int, ...]:
    """Positions of the arguments that have a gradient."""
    return tuple(i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, np.floating))
