"""Training steps of Flax, Equinox and Optax: twenty with our gradients end where twenty with JAX's do.

In float64, so that rounding leaves room to ask for 1e-10. The frameworks come with the test extra.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffprog as dp

STEPS = 20
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def batch(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape))


def trained(library, loss, parameters, state=(), optimizer=None):
    """The parameters and the state after twenty steps of `loss(parameters, state, key) -> (value, state)`."""
    optimizer = optimizer or optax.sgd(0.05, momentum=0.9)

    @jax.jit
    def step(carry, key):
        parameters, state, moments = carry
        gradient, state = library.grad(loss, has_aux=True)(parameters, state, key)
        updates, moments = optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, updates), state, moments

    carry = parameters, state, optimizer.init(parameters)
    for key in jax.random.split(KEY, STEPS):
        carry = step(carry, key)
    return carry[:2]


def assert_same_training(loss, parameters, state=(), optimizer=None, reference=None):
    """`reference` is a loss of the same value, for JAX to differentiate in place of `loss`."""
    ours = trained(dp, loss, parameters, state, optimizer)
    theirs = trained(jax, reference or loss, parameters, state, optimizer)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):  # of a dropout
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    moved = [bool(jnp.any(a != start)) for a, start in zip(*map(jax.tree.leaves, (ours[0], parameters)), strict=True)]
    assert any(moved)


# ---------------------------------------------------------------- Flax Linen


def test_linen():
    linen = pytest.importorskip("flax.linen")

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            layer = functools.partial(linen.Conv, param_dtype=jnp.float64)
            x = linen.relu(layer(4, (3, 3))(x))
            x = linen.BatchNorm(use_running_average=not train, param_dtype=jnp.float64)(x)
            x = linen.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1, 4)
            normal = linen.LayerNorm(param_dtype=jnp.float64)(x)
            x = x + linen.MultiHeadDotProductAttention(2, param_dtype=jnp.float64)(normal)
            x = linen.Dropout(0.3, deterministic=not train)(x)
            return linen.Dense(3, param_dtype=jnp.float64)(x.mean(1))

    network, x, labels = Network(), batch(4, 8, 8, 2), jnp.asarray([0, 2, 1, 2])
    variables = network.init(KEY, x, train=False)

    def loss(parameters, state, key):
        scores, state = network.apply(
            {"params": parameters, **state}, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean(), state

    assert_same_training(loss, variables["params"], {"batch_stats": variables["batch_stats"]})


# ---------------------------------------------------------------- Flax NNX


def nnx_network(nnx):
    rngs = nnx.Rngs(0)
    layer = functools.partial(nnx.Linear, param_dtype=jnp.float64, rngs=rngs)
    norm = nnx.BatchNorm(8, param_dtype=jnp.float64, rngs=rngs)
    first = layer(3, 8, use_bias=False)  # the mean takes a bias away: Adam would make steps of its rounding
    return nnx.Sequential(first, norm, jax.nn.gelu, nnx.Dropout(0.2, rngs=rngs), layer(8, 2))


def test_nnx():
    """Split into parameters and the rest: what the normalization and the dropout's generator change is carried on."""
    nnx = pytest.importorskip("flax.nnx")
    x, y = batch(6, 3), batch(6, 2)
    graph, parameters, rest = nnx.split(nnx_network(nnx), nnx.Param, ...)

    def loss(parameters, rest, key):
        rest = jax.tree.map(lambda x: x, rest)  # NNX lets only the trace that made a variable change it
        network = nnx.merge(graph, parameters, rest)
        return jnp.mean((network(x) - y) ** 2), nnx.split(network, nnx.Param, ...)[2]

    assert_same_training(loss, parameters, rest, optax.adamw(1e-2))


def test_nnx_module_as_argument_and_its_optimizer():
    """A module of parameters alone is a pytree, and so may be differentiated as it is."""
    nnx = pytest.importorskip("flax.nnx")
    x, y = batch(6, 3), batch(6, 2)

    def run(library):
        model = nnx.Linear(3, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        step = nnx.jit(lambda model, optimizer: optimizer.update(model, library.grad(loss)(model)))
        for _ in range(STEPS):
            step(model, optimizer)
        return nnx.state(model, nnx.Param)

    loss = lambda model: jnp.mean((jnp.tanh(model(x)) - y) ** 2)
    for a, b in zip(*map(jax.tree.leaves, (run(dp), run(jax))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- Equinox


def assert_same_equinox(model, predict, x, y, reference=None):
    equinox = pytest.importorskip("equinox")
    parameters, static = equinox.partition(model, equinox.is_inexact_array)

    def loss_of(predict):
        def loss(parameters, state, key):
            predicted = jax.vmap(functools.partial(predict, equinox.combine(parameters, static)))(x)
            return jnp.mean((predicted - y) ** 2), state

        return loss

    assert_same_training(
        loss_of(predict), parameters, optimizer=optax.adam(1e-2), reference=loss_of(reference or predict)
    )


def test_equinox_mlp():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(3, 2, 8, 2, activation=jax.nn.silu, key=KEY)
    assert_same_equinox(model, lambda model, x: model(x), batch(6, 3), batch(6, 2))


def test_equinox_convolutions():
    equinox = pytest.importorskip("equinox")
    nn, keys = equinox.nn, jax.random.split(KEY, 2)
    first, second = nn.Conv2d(2, 4, 3, key=keys[0]), nn.Conv2d(4, 1, 2, key=keys[1])
    model = nn.Sequential([first, nn.Lambda(jax.nn.relu), nn.MaxPool2d(2, 2), second])
    assert_same_equinox(model, lambda model, x: jnp.mean(model(x)), batch(4, 2, 8, 8), batch(4))


def test_equinox_gru():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.GRUCell(3, 5, key=KEY)

    def by_scan(model, xs):
        return jax.lax.scan(lambda h, x: (model(x, h), None), jnp.zeros(5), xs)[0]

    def by_loop(model, xs):  # JAX 0.10.2's gradient of the scan is wrong here, by finite differences too
        h = jnp.zeros(5)
        for x in xs:
            h = model(x, h)
        return h

    assert_same_equinox(model, by_scan, batch(4, 4, 3), batch(4, 5), reference=by_loop)


# ---------------------------------------------------------------- Optax


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.05, 5, STEPS), weight_decay=1e-2),
        optax.chain(optax.clip_by_global_norm(0.1), optax.scale_by_rms(), optax.scale(-0.01)),
    ],
    ids=["momentum", "adamw with a schedule", "clipped"],
)
def test_optax(optimizer):
    x, y = batch(6, 3), batch(6, 2)
    parameters = {"w": batch(3, 8), "v": batch(8, 2), "b": jnp.zeros(2)}

    def loss(p, state, key):
        return optax.huber_loss(jnp.tanh(x @ p["w"]) @ p["v"] + p["b"], y).mean(), state

    assert_same_training(loss, parameters, optimizer=optimizer)
