"""Programs in which nothing is wrong: networks, their layers and their training."""

import jax
import jax.numpy as jnp

from tests.diagnosis.corpus import works
from tests.diagnosis.corpus.data import dense, normal, uniform


@works
def convolutions_with_pooling_behind_relu():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            return nn.Dense(2)(x.reshape(x.shape[0], -1))

    x = normal(2, 4, 4, 1)
    params = Net().init(jax.random.key(0), x)
    return lambda params, x: jnp.mean(Net().apply(params, x) ** 2), (params, x)


@works
def batch_norm_and_dropout():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x))
            x = nn.Dropout(0.25, deterministic=False)(nn.gelu(x))
            return nn.Dense(1)(x)

    x = normal(4, 3)
    variables = Net().init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x)

    def loss(params, x, key):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        out, _ = Net().apply(state, x, rngs={"dropout": key}, mutable=["batch_stats"])
        return jnp.mean((out - 1) ** 2)

    # What comes before the normalization moves its mean alone: Dense's bias has a gradient of rounding errors at most.
    return loss, (variables["params"], x, jax.random.key(2))


@works
def gru():
    import equinox as eqx

    cell = eqx.nn.GRUCell(3, 3, key=jax.random.key(0))

    def loss(cell, x):
        h, _ = jax.lax.scan(lambda h, x: (cell(x, h), None), jnp.ones(3), x)
        return jnp.sum(h**2)

    return loss, (cell, normal(8, 3))


@works
def transformer_block():
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.LayerNorm(4, rngs=rngs)
            self.qkv = nnx.Linear(4, 12, use_bias=False, rngs=rngs)
            self.second = nnx.LayerNorm(4, rngs=rngs)
            self.up = nnx.Linear(4, 8, rngs=rngs)
            self.down = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, x):
            q, k, v = jnp.split(self.qkv(self.first(x)), 3, axis=-1)
            scores = jnp.where(jnp.tril(jnp.ones((5, 5), bool)), q @ k.T / 2, -1e30)
            x = x + jax.nn.softmax(scores) @ v
            return x + self.down(nnx.gelu(self.up(self.second(x))))

    definition, state = nnx.split(Block(nnx.Rngs(0)))
    return lambda state, x: jnp.mean((nnx.merge(definition, state)(x) - 1) ** 2), (state, normal(5, 4))


@works
def equinox_mlp():
    import equinox as eqx

    model = eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0))
    return eqx.filter_jit(lambda model, x: jnp.mean(jax.vmap(model)(x) ** 2)), (model, normal(4, 3))


@works
def deep_residual_net():
    def loss(layers, x):
        for w in layers:
            x = x + 0.3 * jnp.tanh(x @ w)
        return jnp.mean((x - 0.2) ** 2)

    return loss, ([normal(3, 3, seed=i, scale=0.5) for i in range(16)], normal(4, 3))


@works
def deep_and_normalized():
    def loss(layers, x):
        for w in layers:
            x = x @ w
            x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-3)
            x = jax.nn.silu(x)
        return jnp.mean((x - 0.2) ** 2)

    return loss, ([normal(3, 3, seed=i) for i in range(8)], normal(4, 3))


@works
def short_recurrence():
    def loss(w, h, x):
        h, _ = jax.lax.scan(lambda h, x: (jnp.tanh(w @ h + 0.5 * x), None), h, x)
        return jnp.sum((h - 0.5) ** 2)

    return loss, (normal(3, 3), normal(3), normal(5, 3, seed=1))


@works
def recurrence_that_keeps():
    def loss(w, h, x):
        turn = jnp.linalg.qr(w)[0]
        h, _ = jax.lax.scan(lambda h, x: (turn @ h + 0.1 * x, None), h, x)
        return jnp.sum((h - 0.5) ** 2)

    return loss, (normal(3, 3), normal(3), normal(24, 3, seed=1))


@works
def ode_by_runge_kutta():
    def final(y, rates):
        def slope(y):
            return jnp.array([rates[0] * y[0] - y[0] * y[1], y[0] * y[1] - rates[1] * y[1]])

        def step(y, _):
            a = slope(y)
            b = slope(y + 0.05 * a)
            return y + 0.1 * b, y[0]

        y, prey = jax.lax.scan(step, y, None, length=16)
        return jnp.sum(y) + jnp.mean(prey)

    return final, (jnp.array([1.0, 0.5]), jnp.array([0.7, 0.9]))


@works
def meta_learning():
    def loss(w, x, y):
        return jnp.mean((jnp.tanh(x @ w) - y) ** 2)

    def after_adaptation(w, rate, x, y):
        for _ in range(2):
            w = w - rate * jax.grad(loss)(w, x[:2], y[:2])
        return loss(w, x[2:], y[2:])

    return after_adaptation, (normal(3), 0.1, normal(4, 3, seed=1), normal(4, seed=2))


@works
def meta_learning_by_our_gradient():
    import diffprog as dp

    def loss(params, x, y):
        return jnp.mean((jax.nn.softplus(x @ params["w"] + params["b"]).sum(-1) - y) ** 2)

    def after_adaptation(params, x, y):
        slopes = dp.grad(loss)(params, x, y)
        return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, slopes), x, y)

    return after_adaptation, (dense(3, 3), normal(4, 3, seed=1), normal(4, seed=2))


@works
def physics_informed_net():
    def residual(params, x):
        u = lambda x: jnp.tanh(x * params["w"] + params["b"]) @ params["out"]
        return jnp.mean(jax.vmap(lambda x: (jax.grad(jax.grad(u))(x) + u(x)) ** 2)(x))

    return residual, ({"w": normal(3), "b": normal(3, seed=1), "out": normal(3, seed=2)}, normal(4, seed=3))


@works
def autoencoder_with_noise():
    def loss(params, x, key):
        mean, log_scale = jnp.split(x @ params["encoder"], 2, axis=-1)
        z = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
        divergence = 0.5 * jnp.mean(mean**2 + jnp.exp(2 * log_scale) - 2 * log_scale - 1)
        return jnp.mean((z @ params["decoder"] - x) ** 2) + divergence

    return loss, ({"encoder": normal(3, 4), "decoder": normal(2, 3)}, normal(4, 3, seed=1), jax.random.key(0))


@works
def gumbel_softmax():
    def loss(logits, values, key):
        noise = jax.random.gumbel(key, logits.shape)
        soft = jax.nn.softmax((logits + noise) / 0.7)
        hard = jax.nn.one_hot(jnp.argmax(soft, -1), 3)
        chosen = soft + jax.lax.stop_gradient(hard - soft)
        return jnp.mean((chosen @ values - 1) ** 2)

    return loss, (normal(4, 3), normal(3, seed=1), jax.random.key(0))


@works
def contrastive_pairs():
    def info_nce(params, x, y):
        a, b = (jnp.tanh(v @ params["w"] + params["b"]) for v in (x, y))
        a, b = (v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
        logits = a @ b.T / params["temperature"]
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits)))

    return info_nce, (dense(3, 3) | {"temperature": jnp.float32(0.2)}, normal(4, 3), normal(4, 3, seed=1))


@works
def loss_with_metrics():
    def loss(params, x, labels):
        logits = x @ params["w"] + params["b"]
        accuracy = jnp.mean(jnp.argmax(logits, -1) == labels)
        value = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), labels])
        return value, {"accuracy": accuracy, "norm": jax.lax.stop_gradient(jnp.sum(params["w"] ** 2))}

    return loss, (dense(3, 3), normal(4, 3, seed=1), jnp.array([0, 1, 2, 0]))


@works
def relu_net_with_most_units_alive():
    def loss(params, x):
        h = jax.nn.relu(x @ params["first"]["w"] + params["first"]["b"])
        h = jax.nn.relu(h @ params["second"]["w"] + params["second"]["b"])
        return jnp.mean((h.sum(-1) - 1) ** 2)

    return loss, ({"first": dense(3, 8), "second": dense(8, 8, seed=2)}, normal(4, 3, seed=4))


@works
def spectral_normalization():
    def loss(w, u, x):
        v = jax.lax.stop_gradient(w.T @ u / jnp.linalg.norm(w.T @ u))
        return jnp.mean((x @ (w / (u @ w @ v)).T) ** 2) + jnp.sum(u**2)

    return loss, (normal(3, 3), normal(3, seed=1), normal(4, 3, seed=2))


@works
def one_hot_inputs():
    def loss(params, tokens):
        x = jax.nn.one_hot(tokens, 5)
        return jnp.mean(jnp.tanh(x @ params["embed"]) @ params["out"])

    return loss, ({"embed": normal(5, 3), "out": normal(3)}, jnp.array([0, 2, 2, 4]))


@works
def huber_loss():
    def loss(w, x, y):
        error = x @ w - y
        size = jnp.abs(error)
        return jnp.mean(jnp.where(size < 1, 0.5 * error**2, size - 0.5))

    return loss, (normal(3), normal(4, 3, seed=1), normal(4, seed=2))


@works
def checkpointed_layers():
    def loss(layers, x):
        layer = jax.checkpoint(lambda x, p: jnp.tanh(x @ p["w"] + p["b"]))
        for p in layers:
            x = layer(x, p)
        return jnp.sum(x**2)

    return loss, ([dense(3, 3, seed=i) for i in range(3)], normal(4, 3))


@works
def scanned_layers():
    def loss(stack, x):
        x, _ = jax.lax.scan(lambda x, w: (x + jax.nn.gelu(x @ w), None), x, stack)
        return jnp.mean(x**2)

    return loss, (normal(4, 3, 3, scale=0.5), uniform(4, 3))


@works
def residual_branches_that_start_at_zero():
    def loss(params, x):
        for block in params["blocks"]:
            x = x + block["gamma"] * jnp.tanh(x @ block["w"])
        return jnp.mean((x @ params["head"] - 1) ** 2)

    blocks = [{"gamma": jnp.float32(0.0), "w": normal(3, 3, seed=i)} for i in range(2)]
    return loss, ({"blocks": blocks, "head": normal(3)}, normal(4, 3, seed=2))


@works
def fit_that_has_converged():
    def loss(w, x):
        return jnp.mean((x @ w - x @ jnp.array([1.0, 2.0, 3.0])) ** 2)

    return loss, (jnp.array([1.0, 2.0, 3.0]) + 1e-6, normal(8, 3))


@works
def optimal_transport():
    def cost(x, y):
        distances = jnp.sum((x[:, None] - y) ** 2, -1)
        f, g = jnp.zeros(4), jnp.zeros(4)
        for _ in range(4):
            f = -jax.nn.logsumexp(g - distances, axis=1)
            g = -jax.nn.logsumexp(f[:, None] - distances, axis=0)
        return jnp.sum(f) + jnp.sum(g)

    return cost, (normal(4, 3), normal(4, 3, seed=1))
