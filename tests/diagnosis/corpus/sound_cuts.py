"""Programs in which nothing is wrong: what is cut, masked or not used is meant to be, and no input goes without."""

import jax
import jax.numpy as jnp

from tests.diagnosis.corpus import works
from tests.diagnosis.corpus.data import dense, normal, uniform


@works
def codebook_straight_through():
    def loss(params, x):
        z = x @ params["encoder"]
        distances = jnp.sum((z[:, None] - params["codebook"]) ** 2, -1)
        q = params["codebook"][jnp.argmin(distances, axis=-1)]
        commitment = jnp.mean((jax.lax.stop_gradient(z) - q) ** 2) + jnp.mean((z - jax.lax.stop_gradient(q)) ** 2)
        straight = z + jax.lax.stop_gradient(q - z)
        return jnp.mean((straight @ params["decoder"] - x) ** 2) + commitment

    params = {"encoder": normal(3, 2), "codebook": normal(4, 2, seed=1), "decoder": normal(2, 3, seed=2)}
    return loss, (params, normal(4, 3, seed=3))


@works
def quantizer_straight_through():
    def loss(weights, x, y):
        q = weights + jax.lax.stop_gradient(jnp.round(weights / 0.1) * 0.1 - weights)
        return jnp.mean((x @ q - y) ** 2)

    return loss, (normal(3, 2), normal(4, 3, seed=1), normal(4, 2, seed=2))


@works
def soft_attention():
    def attend(params, x):
        scores = x @ params["query"]
        return jnp.sum((jax.nn.softmax(scores) @ (x @ params["value"])) ** 2)

    return attend, ({"query": normal(3), "value": normal(3, 3)}, normal(4, 3, seed=1))


@works
def interpolated_lookup():
    def height(position, terrain):
        cell = jax.lax.stop_gradient(jnp.floor(position)).astype(int)
        part = position - cell
        return ((1 - part) * terrain[cell] + part * terrain[cell + 1]) ** 2

    return height, (1.7, normal(4))


@works
def soft_threshold():
    def dice(params, x, truth):
        p = jax.nn.sigmoid(x @ params["w"] + params["b"])
        return 1 - 2 * jnp.sum(p * truth) / (jnp.sum(p) + jnp.sum(truth))

    return dice, (dense(3, 3), normal(4, 3, seed=2), (normal(4, 3) > 0).astype(jnp.int32))


@works
def sorted_values():
    def trimmed(w, x):
        return jnp.sum(jnp.sort(x @ w)[1:-1] ** 2) + jnp.median(x @ w)

    return trimmed, (normal(3), normal(4, 3, seed=1))


@works
def router_weighted_by_its_gates():
    def mixture(params, x):
        gates = jax.nn.softmax(x @ params["gate"])
        weight, chosen = jax.lax.top_k(gates, 2)
        every = jnp.einsum("ni,eij->nej", x, params["experts"])
        picked = jnp.take_along_axis(every, chosen[..., None], axis=1)
        return jnp.mean(jnp.sum(weight[..., None] * picked, 1) ** 2)

    return mixture, ({"gate": normal(3, 3), "experts": normal(3, 3, 2, seed=1)}, normal(4, 3, seed=2))


@works
def policy_gradient():
    def surrogate(params, x, key):
        log_p = jax.nn.log_softmax(x @ params)
        action = jax.random.categorical(key, jax.lax.stop_gradient(log_p))
        reward = jnp.array([0.5, 1.0, 2.0])[action]
        return -jnp.mean(reward * jnp.take_along_axis(log_p, action[:, None], 1)[:, 0])

    return surrogate, (normal(3, 3), normal(4, 3, seed=1), jax.random.key(1))


@works
def a_baseline_that_is_stopped():
    def loss(params, x, reward):
        value = x @ params["value"]
        advantage = jax.lax.stop_gradient(reward - value)
        return -jnp.mean(advantage * jnp.tanh(x @ params["policy"])) + jnp.mean((value - reward) ** 2)

    return loss, ({"policy": normal(3), "value": normal(3, seed=1)}, normal(4, 3, seed=2), normal(4))


@works
def embedding_of_which_few_rows_are_used():
    def loss(table, w, tokens):
        return jnp.mean((table[tokens] @ w - 1) ** 2)

    return loss, (normal(12, 3), normal(3), jnp.array([1, 5, 5, 7]))


@works
def adapter_that_starts_at_zero():
    def loss(adapter, w, x):
        change = adapter["down"] @ adapter["up"] + adapter["bias"]
        return jnp.mean((x @ (w + change) - 1) ** 2)

    adapter = {"down": normal(3, 2), "up": 0.01 * normal(2, 3), "bias": jnp.zeros(3)}
    return loss, (adapter, normal(3, 3), normal(4, 3))


@works
def clip_that_some_values_reach():
    def surrogate(log_p, old, advantage):
        ratio = jnp.exp(log_p - old)
        return -jnp.mean(jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.25) * advantage))

    return surrogate, (normal(4), normal(4) + 0.3 * normal(4, seed=1), 1 + uniform(4))


@works
def padded_batch():
    def loss(params, x, is_token):
        error = (x @ params["w"] + params["b"] - 1) ** 2
        return jnp.sum(jnp.where(is_token[:, None], error, 0.0)) / jnp.sum(is_token)

    return loss, (dense(3, 3), normal(4, 3), jnp.array([True, True, False, True]))


@works
def switch_between_two_laws():
    def force(x, stiffness):
        law = lambda x: jax.lax.cond(x > 0, lambda x: stiffness * x, lambda x: 0.1 * stiffness * x, x)
        return jnp.sum(jax.vmap(law)(x) ** 2)

    return force, (normal(4), 3.0)
