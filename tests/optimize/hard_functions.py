"""Objectives with a known difficulty: twelve that everybody knows, and twelve of the same kinds with other formulas."""

import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def single(x):
    return jnp.asarray(x, jnp.float32)


rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
matrix = single(rotation * np.geomspace(1e-2, 1e2, 5) @ rotation.T)
meyer_times = single(50 + 5 * np.arange(16.0))
meyer_data = single(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
)
inputs = draw(20, 3)
layers = {"first": draw(3, 4), "last": draw(4)}


def rastrigin(x):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


def deep_product(p):
    value = 1.0
    for _ in range(40):
        value = p[0] * value
    return (value * p[1] - 0.5) ** 2


def lessard(x):
    middle, right = x**2 / 2 + 24 * x - 12, 25 * x**2 / 2 - 24 * x + 36
    return jnp.sum(jnp.where(x < 1, 25 * x**2 / 2, jnp.where(x < 2, middle, right)))


def noisy_bowl(x, key):
    return jnp.sum(x**2) / 2 + jnp.vdot(x, jax.random.normal(key, x.shape, x.dtype))


def meyer(p):
    return jnp.sum((p[0] * jnp.exp(p[1] / (meyer_times + p[2])) - meyer_data) ** 2)


def rounding_network(p):
    return jnp.mean((jnp.round(jnp.tanh(inputs @ p["first"])) @ p["last"] - 1) ** 2)


KNOWN = {  # function, start, kind, family
    "quadratic": (lambda x: x @ matrix @ x / 2, single([1, 1, 1, 1, 1]), "ill-conditioned", "first order"),
    "rosenbrock": (
        lambda p: 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2,
        single([-1.2, 1]),
        "curved valley",
        "second order",
    ),
    "rastrigin": (rastrigin, single([3.3, -2.2]), "multimodal", "black box"),
    "saddle": (lambda p: p[0] ** 2 - p[1] ** 2, single([1, 1e-3]), "saddle", "second order"),
    "plateau": (lambda x: jnp.sum(jax.nn.sigmoid(x)), single([20]), "plateau", "black box"),
    "cliff": (deep_product, single([1.1, 0.5]), "cliff", "first order"),
    "step": (lambda x: jnp.sum(jnp.where(x > 0, 1.0, 0.0)), single([0.7]), "piecewise constant", "black box"),
    "absolute value": (lambda x: jnp.sum(jnp.abs(x)), single([0.7]), "kink", "first order"),
    "noisy quadratic": (noisy_bowl, single([2, 1]), "noisy", "first order"),
    "piecewise quadratic": (lessard, single([3.3]), "changing curvature", "first order"),
    "meyer": (meyer, single([0.02, 4000, 250]), "badly scaled", "second order"),
    "rounding network": (rounding_network, layers, "gradient cut", "black box"),
}

# ---------------------------------------------------------------- twelve more

rng = np.random.default_rng(7)
vandermonde = single(np.vander(np.linspace(0, 1, 30), 4))
polynomial = vandermonde @ single([1, -2, 0.5, 1])
rows = draw(40, 3)
responses = rows @ single([1, -1, 2]) + single(rng.standard_t(2, size=40))
ages = jnp.linspace(0, 2000, 40, dtype=jnp.float32)
activities = 8e3 * jnp.exp(-1.5e-3 * ages)
mixture = {"gate": draw(3, 2), "experts": draw(2, 3)}


def recurrence(w):
    state = jnp.zeros_like(w)
    for _ in range(60):
        state = w * state + 0.1
    return jnp.sum((state - 1) ** 2)


def random_batch(w, key):
    chosen = jax.random.choice(key, 40, (4,), replace=False)
    return jnp.mean((rows[chosen] @ w - responses[chosen]) ** 2)


def top_expert(p):
    expert = p["experts"][jnp.argmax(rows @ p["gate"], axis=1)]
    return jnp.mean((jnp.sum(expert * rows, axis=1) - responses) ** 2)


OTHERS = {
    "polynomial fit": (
        lambda w: jnp.mean((vandermonde @ w - polynomial) ** 2),
        single([0, 0, 0, 0]),
        "ill-conditioned",
        "first order",
    ),
    "cubic valley": (
        lambda p: 50 * (p[0] - p[1] ** 3) ** 2 + (1 - p[1]) ** 2,
        single([-1, -1]),
        "curved valley",
        "second order",
    ),
    "styblinski-tang": (
        lambda x: jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2,
        single([1, 1, 1]),
        "multimodal",
        "black box",
    ),
    "hyperbolic saddle": (lambda p: p[0] * p[1] + jnp.sum(p**4) / 8, single([0.5, 0.5]), "saddle", "second order"),
    "far from a well": (lambda x: 1 - jnp.exp(-jnp.sum(x**2) / 2), single([7, -6]), "plateau", "black box"),
    "recurrence": (recurrence, single(1.3), "cliff", "first order"),
    "misclassified": (
        lambda w: jnp.mean((rows @ w > 0) != (responses > 0)),
        single([1, 1, 1]),
        "piecewise constant",
        "black box",
    ),
    "absolute deviations": (
        lambda w: jnp.mean(jnp.abs(rows @ w - responses)),
        single([0, 0, 0]),
        "kink",
        "first order",
    ),
    "random batch": (random_batch, single([0, 0, 0]), "noisy", "first order"),
    "logarithm of cosh": (
        lambda x: jnp.sum(jnp.log(jnp.cosh(5 * x)) + x**2 / 20),
        single([2, -1]),
        "changing curvature",
        "first order",
    ),
    "decay": (
        lambda p: jnp.sum((p[0] * jnp.exp(-p[1] * ages) - activities) ** 2),
        single([5e3, 1e-3]),
        "badly scaled",
        "second order",
    ),
    "top expert": (top_expert, mixture, "gradient cut", "black box"),
}
