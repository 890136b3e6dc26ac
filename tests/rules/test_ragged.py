"""`ragged_dot_general` in its three kinds; JAX differentiates the first one, once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.rules.finite_differences import check, jax_refuses, weighted
from tests.rules.test_factorizations import float64, matrix  # noqa: F401  (a fixture)


def ragged(numbers, dimension, group, sizes):
    dims = lax.RaggedDotDimensionNumbers(numbers, [dimension], group)
    return lambda x, y: lax.ragged_dot_general(x, y, jnp.asarray(sizes), dims) ** 2


# name: (function, shape of x, shape of y, whether JAX has its gradient)
KINDS = {
    "rows": (ragged((([1], [1]), ([], [])), 0, [0], [2, 0, 3]), (6, 3), (3, 3, 2), True),
    "rows in a batch": (
        ragged((([3, 1], [0, 3]), ([0], [2])), 2, [1], [[2, 2], [1, 3]]),
        (2, 3, 4, 5),
        (5, 2, 2, 3, 4),
        True,
    ),
    "rows within rows": (ragged((([2], [1]), ([], [])), 1, [0], [[2, 2], [1, 3], [0, 1]]), (3, 4, 5), (2, 5, 4), True),
    "sums": (ragged((([1, 2], [2, 0]), ([0], [1])), 1, [], [2, 2, 1]), (2, 5, 3, 4), (3, 2, 5, 2), False),
    "sums within sums": (
        ragged((([2, 1], [0, 2]), ([], [])), 1, [], [[2, 2], [1, 3], [3, 1]]),
        (2, 5, 3),
        (3, 2, 5),
        False,
    ),
    "batch": (ragged((([2], [1]), ([0], [0])), 0, [], [2, 2]), (4, 2, 3), (4, 3, 2), False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind):
    product, x_shape, y_shape, in_jax = KINDS[kind]
    x, y = matrix(*x_shape), matrix(*y_shape, seed=1)
    if in_jax:
        ours, theirs = (grad(weighted(product), (0, 1))(x, y) for grad in (dp.grad, jax.grad))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        if kind == "rows":
            jax_refuses(jax.grad(weighted(product), (0, 1)), x, y)
            check(product, x, y, order=2)
    else:
        jax_refuses(product, x, y)
        check(product, x, y)
