"""Short programs whose gradient is broken, and one that is mended, for `diffprog diagnose` to look at.

Each is a function without arguments that returns (function, arguments); its docstring says what is wrong. The line at
fault ends in the comment `# here`. Many more stand in `tests/diagnosis/corpus`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals.sources import count_as_user_code

count_as_user_code(__file__)  # a diagnosis names these lines, also where diffprog is an installed package


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    """Draw Gaussian numbers of this shape, in float32."""
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def masked_distance():
    """NaN: the slope of a distance of zero, which `where` masks too late."""

    def energy(positions):
        apart = positions[:, None] - positions[None, :]
        squared = jnp.sum(apart**2, -1)
        distance = jnp.sqrt(squared)  # here
        return jnp.sum(jnp.where(jnp.eye(4, dtype=bool), 0.0, jnp.exp(-distance)))

    return energy, (normal(4, 3),)


def log_of_softmax():
    """NaN: the logarithm of a probability that underflows to zero."""

    def loss(params, x, labels):
        p = jax.nn.softmax(x @ params["w"] + params["b"])
        return -jnp.mean(jnp.log(p)[jnp.arange(4), labels])  # here

    params = {"w": normal(3, 3, scale=3**-0.5), "b": normal(3, seed=1, scale=0.1)}
    return loss, (params, 300 * normal(4, 3, seed=1), jnp.array([0, 1, 2, 0]))


def encoder_before_a_codebook():
    """No gradient: an argmin cuts the encoder from the loss."""

    def loss(params, x):
        z = x @ params["encoder"]
        distances = jnp.sum((z[:, None] - params["codebook"]) ** 2, -1)
        nearest = jnp.argmin(distances, axis=-1)  # here
        return jnp.mean((params["codebook"][nearest] @ params["decoder"] - x) ** 2)

    params = {"encoder": normal(3, 2), "codebook": normal(4, 2, seed=1), "decoder": normal(2, 3, seed=2)}
    return loss, (params, normal(4, 3, seed=3))


def forgotten_bias():
    """No gradient: a parameter that the loss does not use."""

    def loss(params, x, y):
        return jnp.mean((x @ params["w"] - y) ** 2)

    return loss, ({"w": normal(3, 2, scale=3**-0.5), "b": normal(2, seed=1, scale=0.1)}, normal(4, 3), normal(4, 2))


def dead_relu():
    """Zero gradient: no unit of a ReLU layer is above zero."""

    def loss(params, x):
        h = jax.nn.relu(x @ params["w"] + params["b"])  # here
        return jnp.mean((h.sum(-1) + params["out"]) ** 2)

    params = {"w": normal(3, 3, scale=3**-0.5), "b": jnp.full(3, -50.0), "out": jnp.float32(1.0)}
    return loss, (params, normal(4, 3))


def recurrence_that_forgets():
    """Vanishing gradient: a recurrent network with small weights."""

    def loss(w, h, x):
        def step(h, x):
            return jnp.tanh(w @ h + 0.1 * x), None  # here

        h, _ = jax.lax.scan(step, h, x)
        return jnp.sum((h - 0.5) ** 2)

    return loss, (0.2 * jnp.eye(3, dtype=jnp.float32) + normal(3, 3, scale=0.02), normal(3), normal(24, 3, seed=1))


def double_where_distance():
    """Nothing wrong: `masked_distance`, with the operand masked too."""

    def energy(positions):
        apart = positions[:, None] - positions[None, :]
        squared = jnp.sum(apart**2, -1)
        distance = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        return jnp.sum(jnp.where(squared > 0, jnp.exp(-distance), 0.0))

    return energy, (normal(4, 3),)


BROKEN = {
    make.__name__: make
    for make in (
        masked_distance,
        log_of_softmax,
        encoder_before_a_codebook,
        forgotten_bias,
        dead_relu,
        recurrence_that_forgets,
    )
}
HEALTHY = {"double_where_distance": double_where_distance}
