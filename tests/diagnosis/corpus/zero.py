"""Programs some of whose inputs have no gradient: every path is cut, or there is none."""

import jax
import jax.numpy as jnp

from diffprog.cli._broken_programs import encoder_before_a_codebook, forgotten_bias
from tests.diagnosis.corpus import breaks
from tests.diagnosis.corpus.data import dense, normal, uniform

# ---------------------------------------------------------------- cut by structure


breaks("zero", "argmin has no derivative", after="haiku#442")(encoder_before_a_codebook)


@breaks("zero", "argmax has no derivative")
def accuracy_for_a_loss():
    def error(params, x, labels):
        chosen = jnp.argmax(x @ params["w"] + params["b"], axis=-1)  # here
        return 1 - jnp.mean((chosen == labels).astype(jnp.float32))

    return error, (dense(3, 3), normal(4, 3), jnp.array([0, 1, 2, 0]))


@breaks("zero", "argmax has no derivative", after="jax#1439")
def hard_attention():
    def attend(params, x):
        scores = x @ params["query"]
        chosen = jax.nn.one_hot(jnp.argmax(scores), 4)  # here
        return jnp.sum((chosen @ (x @ params["value"])) ** 2)

    return attend, ({"query": normal(3), "value": normal(3, 3)}, normal(4, 3, seed=1))


@breaks("zero", "conversion to int", after="jax#4039")
def integer_levels():
    def quantized(scale, x):
        levels = (x / scale).astype(jnp.int32)  # here
        return jnp.sum((levels * 0.1 - 0.3) ** 2)

    return quantized, (jnp.float32(0.1), uniform(4, 4))


@breaks("zero", "conversion to int", after="jax#424")
def position_for_an_index():
    def height(position, terrain):
        cell = jnp.int32(position)  # here
        return terrain[cell] ** 2

    return height, (1.7, normal(4))


@breaks("zero", "round is flat", after="jax#9032")
def quantizer():
    def loss(weights, scale, x, y):
        q = jnp.round(weights / scale)  # here
        return jnp.mean((x @ (q * 0.1) - y) ** 2)

    return loss, (normal(3, 2), 0.1, normal(4, 3, seed=1), normal(4, 2, seed=2))


@breaks("zero", "floor is flat", after="tinygrad#10460")
def lookup_without_interpolation():
    def shifted(image, shift):
        where = jnp.floor(jnp.arange(4.0) + shift)  # here
        return jnp.sum(jnp.take(image, where.astype(int), mode="clip") ** 2)

    return shifted, (normal(4), 0.7)


@breaks("zero", "sign is flat", after="jax#9033")
def binary_weights():
    def loss(weights, x, y):
        return jnp.mean((x @ jnp.sign(weights) - y) ** 2)  # here

    return loss, (normal(3, 2), normal(4, 3, seed=1), normal(4, 2, seed=2))


@breaks("zero", "a comparison has no derivative")
def hard_threshold():
    def dice(params, x, truth):
        p = jax.nn.sigmoid(x @ params["w"] + params["b"])
        mask = (p > 0.5).astype(jnp.float32)  # here
        return 1 - 2 * jnp.sum(mask * truth) / (jnp.sum(mask) + jnp.sum(truth))

    return dice, (dense(3, 3), normal(4, 3, seed=2), (normal(4, 3) > 0).astype(jnp.int32))


@breaks("zero", "a comparison has no derivative")
def threshold_of_a_controller():
    def cost(limit, temperature):
        heating = jnp.where(temperature < limit, 1.0, 0.0)  # here
        return jnp.sum(heating) + jnp.sum((temperature + heating - 20) ** 2)

    return cost, (19.0, 20 + normal(4))


@breaks("zero", "a comparison has no derivative")
def histogram_matching():
    def loss(shift, x):
        edges = jnp.linspace(-2, 2, 4)
        counts = jnp.sum(x[:, None] + shift > edges, axis=0)  # here
        return jnp.sum((counts - jnp.array([4, 3, 1, 0])) ** 2) * 1.0

    return loss, (0.1, normal(4))


@breaks("zero", "the order of a sort", after="FAQ")
def ranks():
    def spearman(params, x, wanted):
        scores = x @ params
        ranks = jnp.argsort(jnp.argsort(scores))  # here
        return jnp.sum((ranks - wanted) ** 2.0)

    return spearman, (normal(3), normal(4, 3, seed=1), jnp.arange(4))


@breaks("zero", "the order of a sort")
def router_that_only_chooses():
    def mixture(params, x):
        gates = x @ params["gate"]
        _, chosen = jax.lax.top_k(gates, 2)  # here
        every = jnp.einsum("ni,eij->nej", x, params["experts"])
        return jnp.mean(jnp.take_along_axis(every, chosen[..., None], axis=1) ** 2)

    return mixture, ({"gate": normal(3, 3), "experts": normal(3, 3, 2, seed=1)}, normal(4, 3, seed=2))


@breaks("draw", "draw by jax.random.categorical")
def sampled_action():
    import flax.linen as nn

    class Policy(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    policy, rewards = Policy(), jnp.array([0.0, 1.0, 2.0])

    def expected_cost(params, x, key):
        action = jax.random.categorical(key, policy.apply(params, x))  # here
        return -jnp.mean(rewards[action])

    return expected_cost, (policy.init(jax.random.key(0), normal(4, 3)), normal(4, 3), jax.random.key(1))


@breaks("zero", "a comparison has no derivative")
def network_of_relus_for_a_second_derivative():
    def residual(params, x):
        u = lambda x: jax.nn.relu(x * params["w"] + params["b"]) @ params["out"]  # here
        return jnp.mean(jax.vmap(lambda x: (jax.grad(u)(x) + 1) ** 2)(x))

    return residual, ({"w": normal(3), "b": normal(3, seed=1), "out": normal(3, seed=2)}, normal(4, seed=3))


@breaks("zero", "conversion to int")
def trip_count():
    def cooled(temperature, minutes):
        count = jnp.int32(minutes)  # here
        return jax.lax.fori_loop(0, count, lambda _, t: 0.9 * t, temperature)

    return cooled, (30.0, 4.0)


@breaks("zero", "conversion to bool")
def mask_made_of_scores():
    import equinox as eqx

    class Gate(eqx.Module):
        scores: eqx.nn.Linear
        values: eqx.nn.Linear

        def __call__(self, x):
            keep = jnp.maximum(self.scores(x), 0).astype(bool)  # here
            return jnp.where(keep, self.values(x), 0.1)

    a, b = jax.random.split(jax.random.key(0))
    model = Gate(eqx.nn.Linear(3, 3, key=a), eqx.nn.Linear(3, 3, key=b))
    return lambda model, x: jnp.sum(jax.vmap(model)(x) ** 2), (model, normal(4, 3))


@breaks("zero", "a callback has no derivative")
def solver_outside_of_jax():
    import numpy as np

    def loss(stiffness, force):
        answer = jax.ShapeDtypeStruct((3,), jnp.float32)
        solve = lambda k, f: np.asarray(f / k, np.float32)
        moved = jax.pure_callback(solve, answer, stiffness, force)  # here
        return jnp.sum((moved - 1) ** 2)

    return loss, (jnp.array([1.0, 2.0, 3.0]), jnp.ones(3))


# ---------------------------------------------------------------- on purpose, or not used


@breaks("zero", "stop_gradient", after="jax#892")
def all_parameters_stopped():
    def distill(student, teacher, x):
        frozen = jax.lax.stop_gradient({"student": student, "teacher": teacher})  # here
        p = x @ frozen["teacher"]
        return jnp.mean((x @ frozen["student"] - p) ** 2)

    return distill, (normal(3, 2), normal(3, 2, seed=1), normal(4, 3, seed=2))


@breaks("zero", "stop_gradient", after="jax#9032")
def straight_through_the_wrong_way():
    def loss(z, w):
        hard = jax.nn.softmax(8 * z)
        return jnp.sum((jax.lax.stop_gradient(z + hard - z) @ w - 1) ** 2)  # here

    return loss, (normal(4, 3), normal(3, seed=1))


breaks("zero", "unused", after="theano#2745")(forgotten_bias)


@breaks("zero", "unused")
def head_that_is_not_in_the_loss():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.body = nnx.Linear(3, 3, rngs=rngs)
            self.policy = nnx.Linear(3, 2, rngs=rngs)
            self.value = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            h = jnp.tanh(self.body(x))
            return self.policy(h), self.value(h)

    definition, state = nnx.split(Net(nnx.Rngs(0)))

    def loss(state, x):
        action, _ = nnx.merge(definition, state)(x)
        return jnp.mean(action**2)

    return loss, (state, normal(4, 3))


@breaks("zero", "unused")
def loss_of_the_wrong_variable():
    def loss(params, x, y):
        hidden = jnp.tanh(x @ params["first"])
        out = hidden @ params["second"]  # noqa: F841
        return jnp.mean((hidden[:, :2] - y) ** 2)

    return loss, ({"first": normal(3, 3), "second": normal(3, 2)}, normal(4, 3, seed=1), normal(4, 2))
