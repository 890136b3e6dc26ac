"""Adversarial training: the examples of every step are attacked before the network learns from them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffprog._util.promotion import callers_promotion, own_promotion
from diffprog._util.spelling import answers_names
from diffprog.attack._engine import validation
from diffprog.attack._engine.spelling import MEANT
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l1, l2, linf
from diffprog.optimize._engine import value_and_grad


@answers_names(MEANT)
def adversarial_training(
    norm: Norm = linf,
    epsilon: float = 8 / 255,
    max_steps: int = 7,
    step_size: float | None = None,
    engine: str = "diffprog",
) -> Callable[..., jax.Array]:
    """Make what a loss for `fit` attacks its examples by: PGD on the network of that step.

    The attack starts at a uniform random point of the ball; the network learns from its last iterate.

    Args:
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units, for inputs in [0, 1] of any shape.
      max_steps: steps of the attack.
      step_size: length of a step in the norm; epsilon / 4 by default.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      A function (apply, parameters, inputs (n, ...), labels (n,), key) -> inputs (n, ...). No gradient should flow
      through it: a loss of (parameters, batch, key) calls it on `jax.lax.stop_gradient(parameters)`, and takes
      `jax.lax.stop_gradient` of what it returns.

    References:
      Madry et al. 2018, eq. 2.1.
    """
    norm = validation.check_norm(norm, (linf, l2, l1))
    validation.check_counts(max_steps=max_steps)
    length = epsilon / 4 if step_size is None else step_size
    validation.check_nonnegative(epsilon=epsilon, step_size=length)
    radius = jnp.asarray(validation.round_down_to_float32(epsilon))
    project = jax.vmap(norm.project, (0, 0, None))

    @own_promotion()
    def perturb(apply: Callable[..., jax.Array], parameters: Any, inputs, labels, key) -> jax.Array:
        keys = jax.random.split(key, len(inputs))
        noise = jax.vmap(lambda key: norm.uniform(key, inputs.shape[1:], radius))(keys)

        def loss(points):
            with callers_promotion():
                logits = apply(parameters, points)
            return cross_entropy(logits, labels).sum()

        def step(_, points):
            _, gradient = value_and_grad(engine)(loss)(points)
            return project(points + length * jax.vmap(norm.steepest)(gradient), inputs, radius)

        return jax.lax.fori_loop(0, max_steps, step, project(inputs + noise, inputs, radius))

    return perturb
