"""Programs with a path for every gradient, and with values for which zero is all that comes through."""

import jax
import jax.numpy as jnp

from diffprog.cli._broken_programs import dead_relu
from tests.diagnosis.corpus import breaks
from tests.diagnosis.corpus.data import dense, normal, uniform

breaks("zero", "dead ReLU")(dead_relu)


@breaks("zero", "dead ReLU")
def dead_relu_in_equinox():
    import equinox as eqx

    model = eqx.nn.MLP(3, 1, 3, 1, activation=lambda x: jnp.maximum(x, 0), key=jax.random.key(0))  # here
    model = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.full(3, -30.0))
    return lambda model, x: jnp.mean((jax.vmap(model)(x) - 1) ** 2), (model, normal(4, 3))


@breaks("zero", "saturated sigmoid")
def unscaled_inputs():
    def loss(params, pixels, y):
        h = jax.nn.sigmoid(pixels @ params["w"])  # here
        return jnp.mean((h @ params["out"] - y) ** 2)

    return loss, ({"w": 1 + uniform(3, 3), "out": normal(3)}, 255 * uniform(4, 3, low=0.5), normal(4))


@breaks("zero", "saturated tanh")
def saturated_cell():
    @jax.jit
    def loss(params, x):
        step = lambda h, x: (jnp.tanh(params["w"] @ x + 40 * jnp.sign(params["w"] @ h)), None)  # here
        h, _ = jax.lax.scan(step, jnp.ones(3), x)
        return jnp.sum((h - 0.2) ** 2) + 0.1 * params["offset"] ** 2

    return loss, ({"w": normal(3, 3), "offset": jnp.float32(0.5)}, normal(4, 3))


@breaks("zero", "saturated clip", after="pytorch/ao#4806")
def quantizer_out_of_range():
    def loss(weights, x):
        scaled = jnp.clip(weights * 100, -7, 7)  # here
        rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
        return jnp.mean((x @ rounded) ** 2)

    return loss, (jnp.sign(normal(3, 2)) + 0.1, normal(4, 3, seed=1))


@breaks("zero", "masked")
def batch_of_padding():
    def loss(params, x, is_token):
        error = (x @ params["w"] + params["b"] - 1) ** 2
        kept = jnp.where(is_token[:, None], error, 0.0)  # here
        return jnp.sum(kept) / jnp.maximum(jnp.sum(is_token), 1)

    return loss, (dense(3, 3), normal(4, 3), jnp.zeros(4, bool))


@breaks("zero", "underflow")
def product_of_probabilities():
    def likelihood(mean, x):
        p = jnp.exp(-0.5 * (x - mean) ** 2) / 1000
        return jnp.prod(p)  # here

    return likelihood, (0.1, normal(20))


@breaks("zero", "underflow in exp")
def kernel_that_is_too_narrow():
    def likelihood(points, centers):
        squared = jnp.sum((points[:, None] - centers) ** 2, -1)
        return jnp.sum(jnp.exp(-squared / 1e-4))  # here

    return likelihood, (normal(4, 3), normal(3, 3, seed=1))


@breaks("zero", "underflow")
def unscaled_loss_in_half_precision():
    def loss(w, x):
        error = (x @ w) * jnp.float16(1e-3)
        return jnp.mean((error * jnp.float16(1e-3)) ** 2)  # here

    return loss, (normal(3, 2).astype(jnp.float16), normal(4, 3, seed=1).astype(jnp.float16))


@breaks("zero", "multiplied by zero")
def adapter_of_zeros():
    def loss(adapter, w, x):
        change = adapter["down"] @ adapter["up"]  # here
        return jnp.mean((x @ (w + change) - 1) ** 2)

    return loss, ({"down": jnp.zeros((3, 2)), "up": jnp.zeros((2, 3))}, normal(3, 3), normal(4, 3))


@breaks("zero", "stationary point")
def pendulum_upside_down():
    def height(angle):
        return 1 - jnp.cos(angle)  # here

    return height, (0.0,)


@breaks("zero", "not picked")
def expert_that_never_wins():
    def loss(a, b, x):
        best = jnp.maximum(x @ a, x @ b + 100)  # here
        return jnp.mean(best**2)

    return loss, (normal(3), normal(3, seed=1), normal(4, 3, seed=2))


@breaks("zero", "saturated softmax")
def attention_without_a_scale():
    def attend(params, x):
        scores = 1000 * x @ params["query"] @ (x @ params["key"]).T
        weights = jax.nn.softmax(scores)  # here
        return jnp.sum((weights @ x) ** 2)

    return attend, ({"query": normal(3, 3), "key": normal(3, 3, seed=1)}, normal(4, 3, seed=2))


@breaks("zero", "sends zero")
def custom_rule_with_a_placeholder():
    @jax.custom_vjp
    def smooth(x):
        return jnp.convolve(x, jnp.ones(3) / 3, mode="same")

    smooth.defvjp(lambda x: (smooth(x), x), lambda x, g: (jnp.zeros_like(x),))

    def loss(x):
        return jnp.sum((smooth(x) - 1) ** 2)  # here

    return loss, (normal(4),)


@breaks("zero", "dead ReLU")
def relu_that_starts_at_zero():
    def loss(params, x):
        h = jax.nn.relu(x @ params["w"])  # here
        return jnp.mean((h @ params["out"] - 1) ** 2) + jnp.mean((params["w"] - 1) ** 2)

    return loss, ({"w": jnp.zeros((3, 2)), "out": normal(2)}, normal(4, 3))


@breaks("zero", "saturated sigmoid")
def gate_that_is_open():
    def loss(params, x):
        gate = jax.nn.sigmoid(params["gate"])  # here
        return jnp.mean((gate * x + (1 - gate) * params["skip"] - 1) ** 2)

    return loss, ({"gate": jnp.float32(200.0), "skip": normal(4)}, normal(4, seed=1))
