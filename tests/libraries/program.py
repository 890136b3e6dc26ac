"""A program of a library, and what its gradient is checked against."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import diffprog as dp


class Program(NamedTuple):
    """A program to differentiate.

    Attributes:
      loss: function of one pytree of floats to a scalar.
      x: where.
      oracle: "jax" (the gradient of `jax.grad`), "differences" (central differences in float64, where JAX raises), or
        the gradient itself, by a closed form.
      vmap: whether the gradient is compared under `jax.vmap` too; not every library can.
      hessian: whether second derivatives are compared as well, with JAX's or with differences of our gradient.
      tolerance: relative to the largest entry of the gradient. 1e-8 is that of two orders of summation; iterative
        solvers stop at theirs.
    """

    loss: Callable
    x: Any
    oracle: Any = "jax"
    vmap: bool = True
    hessian: bool = False
    tolerance: float = 1e-8


def differences(fun: Callable, x, step: float = 1e-5) -> np.ndarray:
    """Take the derivative of `fun` at a flat `x` by central differences of fourth order: (size of x, *shape of fun)."""
    shifted = lambda direction, k: np.asarray(fun(x + k * step * direction))
    return np.stack(
        [
            (8 * (shifted(e, 1) - shifted(e, -1)) - (shifted(e, 2) - shifted(e, -2))) / (12 * step)
            for e in np.eye(x.size)
        ]
    )


def check(program: Program) -> str:
    """Compare our gradient with the oracle, compiled, uncompiled and of the compiled program; under x64.

    Returns:
      What was compared, in words.
    """
    flat, unravel = ravel_pytree(program.x)
    loss = lambda flat: program.loss(unravel(flat))
    if isinstance(program.oracle, str):
        wanted = jax.jit(jax.grad(loss))(flat) if program.oracle == "jax" else differences(jax.jit(loss), flat)
        words = "jax.grad" if program.oracle == "jax" else "differences"
    else:
        wanted, words = ravel_pytree(program.oracle)[0], "closed form"
    for gradient in (jax.jit(dp.grad(loss)), dp.grad(loss), dp.grad(jax.jit(loss))):
        _close(gradient(flat), wanted, program.tolerance)
    if program.vmap:
        _close(jax.jit(jax.vmap(dp.grad(loss)))(jnp.stack([flat, flat]))[1], wanted, program.tolerance)
    if program.hessian:
        hessian = (
            jax.jit(jax.hessian(loss)) if program.oracle == "jax" else lambda x: differences(jax.jit(dp.grad(loss)), x)
        )
        wanted = hessian(flat)
        for second in (jax.jit(dp.jacrev(dp.grad(loss))), jax.jit(jax.jacfwd(dp.grad(loss)))):
            _close(second(flat), wanted, max(program.tolerance, 1e-6))
        words += ", Hessian"
    return words


def _close(found, wanted, tolerance):
    assert np.all(np.isfinite(wanted)), "the oracle is not finite"
    scale = max(float(np.max(np.abs(wanted))), 1e-30)
    np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(wanted) / scale, atol=tolerance, rtol=0)


def same_draws(draws: Callable) -> str:
    """Compare what a sampler draws with our gradient and with JAX's; the seed is the same."""
    ours, theirs = (np.asarray(ravel_pytree(draws(gradient))[0]) for gradient in (dp.grad, jax.grad))
    assert np.std(theirs) > 0, "the sampler stands still"
    _close(ours, theirs, 1e-6)
    return "jax.grad, the same draws"
