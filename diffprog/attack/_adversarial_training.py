"""Adversarial training: the examples of every step are attacked before the network learns from them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffprog.attack._engine import border
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l1, l2, linf
from diffprog.optimize._engine import value_and_grad


def adversarial_training(
    norm: Norm = linf,
    epsilon: float = 8 / 255,
    max_steps: int = 7,
    step_size: float | None = None,
    engine: str = "diffprog",
) -> Callable:
    """What `fit(..., perturb=...)` takes: examples moved by projected gradient descent on the network of that step
    (Madry et al. 2018, eq. 2.1), from a uniform random point of the ball. The last iterate is learned from.

    epsilon and step_size (epsilon / 4 if left out) are in the norm's units, for inputs in [0, 1] of any shape.
    """
    border.checked_norm(norm, (linf, l2, l1))
    border.checked_counts(max_steps=max_steps)
    length = epsilon / 4 if step_size is None else step_size
    border.checked_positive(epsilon=epsilon, step_size=length)
    radius = jnp.asarray(border.float32_at_most(epsilon))
    project = jax.vmap(norm.project, (0, 0, None))

    def perturb(apply, parameters, inputs, labels, key):
        keys = jax.random.split(key, len(inputs))
        noise = jax.vmap(lambda key: norm.uniform(key, inputs.shape[1:], radius))(keys)
        loss = lambda points: cross_entropy(apply(parameters, points), labels).sum()

        def step(_, points):
            _, gradient = value_and_grad(engine)(loss)(points)
            return project(points + length * jax.vmap(norm.steepest)(gradient), inputs, radius)

        return jax.lax.fori_loop(0, max_steps, step, project(inputs + noise, inputs, radius))

    return perturb
