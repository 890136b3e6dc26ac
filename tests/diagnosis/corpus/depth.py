"""Programs whose gradient vanishes or explodes on its way, or is taken exactly at a kink."""

import jax
import jax.numpy as jnp

from diffprog.cli._broken_programs import recurrence_that_forgets
from tests.diagnosis.corpus import breaks
from tests.diagnosis.corpus.data import normal, uniform

# ---------------------------------------------------------------- vanishing


@breaks("vanishing", "vanishing gradient")
def deep_sigmoids():
    def loss(layers, x):
        for w in layers:
            x = jax.nn.sigmoid(x @ w)  # here
        return jnp.sum((x - 0.2) ** 2)

    return loss, ([normal(3, 3, seed=i, scale=0.5) for i in range(16)], normal(4, 3))


breaks("vanishing", "vanishing gradient")(recurrence_that_forgets)


@breaks("vanishing", "vanishing gradient")
def small_initialization():
    import flax.linen as nn

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(10):
                x = nn.Dense(3, kernel_init=nn.initializers.normal(0.05))(x)  # here
                x = nn.softplus(x) - 0.6931
            return nn.Dense(1)(x)

    params = Deep().init(jax.random.key(0), normal(4, 3))
    return lambda params, x: jnp.mean((Deep().apply(params, x) - 1) ** 2), (params, normal(4, 3))


@breaks("vanishing", "vanishing gradient")
def stack_of_small_layers():
    def loss(stack, x):
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)  # here
        return jnp.mean((x - 1) ** 2)

    return loss, (normal(20, 3, 3, scale=0.15), normal(4, 3, seed=1))


# ---------------------------------------------------------------- exploding


@breaks("exploding", "exploding gradient")
def chaotic_map():
    def final(x):
        return jax.lax.fori_loop(0, 60, lambda _, x: 3.9 * x * (1 - x), x)  # here

    return final, (0.3,)


@breaks("exploding", "exploding gradient")
def recurrence_that_amplifies():
    @jax.jit
    def loss(w, h, x):
        def step(h, x):
            return jnp.sin(4 * (w @ h) + x), None  # here

        h, _ = jax.lax.scan(step, h, x)
        return jnp.sum(h)

    return loss, (normal(3, 3), normal(3, seed=1), normal(24, 3, seed=2))


@breaks("exploding", "exploding gradient")
def stiff_oscillator():
    def final(position, velocity):
        def step(state, _):
            q, v = state
            return (q + v, v - 9 * jnp.sin(q)), None  # here

        (q, _), _ = jax.lax.scan(step, (position, velocity), None, length=24)
        return q

    return final, (0.1, 0.0)


# ---------------------------------------------------------------- kinks and ties


@breaks("kink", "abs at 0", after="jax#37820")
def absolute_error_of_a_perfect_fit():
    def loss(w, x, y):
        return jnp.mean(jnp.abs(x @ w - y))  # here

    x = jnp.arange(12.0).reshape(4, 3)
    return loss, (jnp.array([1.0, 2.0, 3.0]), x, x @ jnp.array([1.0, 2.0, 3.0]) + jnp.array([0.0, 1.0, -1.0, 2.0]))


@breaks("kink", "abs at 0", after="pytorch#184572")
def lasso_from_zero():
    def loss(w, x, y):
        return jnp.mean((x @ w - y) ** 2) + 0.1 * jnp.sum(jnp.abs(w))  # here

    return loss, (jnp.zeros(3), normal(4, 3), normal(4))


@breaks("kink", "max of equal arguments", after="jax#37821")
def hinge_at_the_margin():
    def hinge(w, x, y):
        margin = 1 - y * (x @ w)
        return jnp.mean(jnp.maximum(margin, 0.0))  # here

    return hinge, (jnp.array([1.0, 0.0]), jnp.array([[1.0, 0.0], [0.5, 1.0], [2.0, 1.0]]), jnp.array([1.0, 1.0, -1.0]))


@breaks("kink", "relu at 0", after="jax#12368")
def relu_of_an_empty_row():
    def loss(w, x):
        return jnp.mean((jax.nn.relu(x @ w) - 1) ** 2)  # here

    return loss, (normal(3, 2), uniform(4, 3).at[2].set(0.0))


@breaks("kink", "max with equal elements")
def worst_of_equal_losses():
    def worst(w, x):
        losses = (x * w - 1) ** 2
        return jnp.max(losses)  # here

    return worst, (3.0, jnp.array([1.0, 0.5, 1.0]))


@breaks("kink", "clip at its bound", after="pytorch/ao#4806")
def weights_at_the_bound():
    def loss(weights, x):
        return jnp.mean((x @ jnp.clip(weights, -1.0, 1.0) - 0.3) ** 2)  # here

    return loss, (jnp.array([0.4, 1.0, -0.2]), normal(4, 3))


@breaks("kink", "min of equal arguments")
def first_of_two_equal_times():
    import diffprog as dp

    def rate(times):
        earliest = lambda t: jnp.minimum(t[0] ** 2, t[1] ** 2)  # here
        return jnp.sum(dp.grad(earliest)(times) ** 2)

    return rate, (jnp.array([2.0, 2.0]),)
