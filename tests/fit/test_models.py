"""Models as their libraries make them: parameters, states and keys go in as they are."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from diffprog.fit import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:]
DATA = {"x": X, "y": Y}
OPTIONS = {"batch_size": 16, "steps": 120, "key": 0}


def squared(found, batch):
    return jnp.mean((found - batch["y"]) ** 2)


def has_learned(fitted):
    losses = [row["loss"] for row in fitted.history]
    return np.mean(losses[-10:]) < 0.5 * np.mean(losses[:4])


def test_linen_with_batch_normalization_and_dropout():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, training):
            x = nn.BatchNorm(use_running_average=not training, momentum=0.9)(nn.Dense(32)(x))
            return nn.Dense(1)(nn.Dropout(0.1, deterministic=not training)(nn.relu(x)))

    network = Network()
    variables = network.init(jax.random.key(0), X, False)

    def loss(parameters, batch, state, key=None):
        training = key is not None
        found, updated = network.apply(
            {"params": parameters, "batch_stats": state},
            batch["x"],
            training,
            rngs={"dropout": key} if training else {},
            mutable=["batch_stats"],
        )
        return squared(found, batch), updated["batch_stats"]

    fitted = fit(
        loss,
        variables["params"],
        DATA,
        optax.adam(0.02),
        state=variables["batch_stats"],
        validation=DATA,
        validate_every=120,
        **OPTIONS,
    )
    assert has_learned(fitted)
    trained = {"params": fitted.parameters, "batch_stats": fitted.state}
    expected = squared(network.apply(trained, X, False), DATA)  # without dropout, by the running means
    assert fitted.history[-1]["validation_loss"] == pytest.approx(float(expected), 1e-4)
    means = fitted.state["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(means, nn.Dense(32).apply({"params": fitted.parameters["Dense_0"]}, X).mean(0), atol=0.5)
    assert np.abs(means).max() > 0.1


def test_a_module_of_nnx_goes_in_as_it_is():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden, self.norm = nnx.Linear(3, 32, rngs=rngs), nnx.BatchNorm(32, rngs=rngs)
            self.dropout, self.out = nnx.Dropout(0.1, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))

    network = Network(nnx.Rngs(0))
    fitted = fit(lambda network, batch: squared(network(batch["x"]), batch), network, DATA, optax.adam(0.02), **OPTIONS)
    assert has_learned(fitted) and isinstance(fitted.parameters, Network)
    assert np.abs(fitted.parameters.norm.mean[...]).max() > 0.1  # its running means were carried along
    assert int(fitted.parameters.dropout.rngs.count[...]) == 120  # and each step had a mask of its own
    fitted.parameters.eval()
    assert float(squared(fitted.parameters(X), DATA)) < 0.5
    np.testing.assert_array_equal(network.norm.mean[...], 0)  # the one given is as it was


def test_a_module_of_equinox_goes_in_as_it_is():
    class Network(eqx.Module):
        layers: eqx.nn.MLP
        dropout: eqx.nn.Dropout
        name: str

    network = Network(eqx.nn.MLP(3, 1, 32, 1, key=jax.random.key(0)), eqx.nn.Dropout(0.1), "network")

    def loss(network, batch, key):
        keys = jax.random.split(key, len(batch["x"]))
        found = jax.vmap(lambda x, key: network.dropout(network.layers(x), key=key))(batch["x"], keys)
        return squared(found, batch)

    fitted = fit(loss, network, DATA, optax.adam(0.02), train="layers", **OPTIONS)
    assert has_learned(fitted) and isinstance(fitted.parameters, Network) and fitted.parameters.name == "network"


def test_a_simulation_with_a_while_loop_is_fitted():
    """The drag of a body that falls until it is at the ground, from the times that it took."""

    def fall(drag, height):
        def turn(carry):
            time, speed, left = carry
            return time + 0.01, speed + 0.01 * (9.81 - drag * speed), left - 0.01 * speed

        time, speed, left = jax.lax.while_loop(lambda carry: carry[2] > 0, turn, (0.0, 0.0, height))
        return time + left / speed  # where between two turns it arrives

    heights = np.linspace(1, 8, 16).astype(np.float32)
    data = {"height": heights, "time": jax.vmap(fall, (None, 0))(0.7, heights)}
    loss = lambda p, batch: jnp.mean((jax.vmap(fall, (None, 0))(p["drag"], batch["height"]) - batch["time"]) ** 2)
    fitted = fit(loss, {"drag": 0.1}, data, optax.adam(0.05), steps=150)
    assert float(fitted.parameters["drag"]) == pytest.approx(0.7, abs=0.02)


def test_a_table_is_regressed():
    sklearn = pytest.importorskip("sklearn.datasets")
    table = sklearn.load_diabetes()
    x = (table.data / table.data.std(0)).astype(np.float32)
    y = ((table.target - table.target.mean()) / table.target.std()).astype(np.float32)
    design = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
    best = np.linalg.lstsq(design.astype(np.float64), y, rcond=None)[0]
    loss = lambda p, batch: jnp.mean((batch[0] @ p["w"] + p["b"] - batch[1]) ** 2)
    fitted = fit(loss, {"w": jnp.zeros(10), "b": 0.0}, (x, y), optax.lbfgs(), steps=60)
    expected = np.mean((design @ best - y) ** 2)
    assert fitted.history[-1]["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_transformer_reads_bytes():
    text = np.frombuffer((b"the quick brown fox jumps over the lazy dog. " * 60)[:2560], np.uint8).astype(np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(text, 33)[::8]

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens, training):
            x = nn.Embed(256, 32)(tokens) + self.param("places", nn.initializers.normal(0.1), (tokens.shape[1], 32))
            mask = nn.make_causal_mask(tokens)
            attention = nn.MultiHeadDotProductAttention(2, dropout_rate=0.1, deterministic=not training)
            x = x + attention(nn.LayerNorm()(x), mask=mask)
            x = x + nn.Dense(32)(nn.relu(nn.Dense(64)(nn.LayerNorm()(x))))
            return nn.Dense(256)(nn.LayerNorm()(x))

    network = Transformer()

    def loss(parameters, batch, key=None):
        options = {} if key is None else {"rngs": {"dropout": key}}
        logits = network.apply({"params": parameters}, batch[:, :-1], key is not None, **options)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

    start = network.init(jax.random.key(0), windows[:1, :-1], False)["params"]
    fitted = fit(loss, start, windows, optax.adamw(3e-3), batch_size=32, epochs=30, validation=windows, clip_norm=1.0)
    assert fitted.history[-1]["validation_loss"] < 0.5


# ---------------------------------------------------------------- what is refused, in a sentence


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": None}, ValueError, "give either steps or epochs; found steps=None, epochs=None"),
        ({"steps": 2.5}, ValueError, "steps must be a whole number of at least 0; found 2.5"),
        ({"batch_size": 20.0}, ValueError, "batch_size must be a whole number of at least 1; found 20.0"),
        ({"batch_size": 65}, ValueError, "batch_size must be between 1 and the 64 examples of data; found 65"),
        ({"optimizer": "sgd"}, TypeError, r"optimizer must be an Optax .* as optax.sgd\(0.1\); found 'sgd'"),
        ({"key": "seed"}, ValueError, "key must be one random key"),
        ({"loss": "mse"}, TypeError, "loss must be a function of parameters and a batch; found 'mse'"),
        (
            {"data": {"x": X, "y": Y[:9]}},
            ValueError,
            r"one leading axis, of examples; found shapes \(64, 3\), \(9, 1\)",
        ),
        ({"parameters": {"n": 3}}, ValueError, "parameters must hold an array of floats"),
        ({"last_batch": "keep"}, ValueError, "last_batch must be one of 'short', 'drop', 'carry'; found 'keep'"),
        ({"metrics": {"a": lambda p, b: 0}}, ValueError, "metrics are measured on validation, which was not given"),
        ({"average": 1.0}, ValueError, r"average must be a decay in \[0, 1\), as 0.999; found 1.0"),
        ({"state": {"m": X}}, TypeError, "state= was given and loss does not take it"),
        ({"loss": lambda p, b, state: 0.0}, TypeError, "loss takes state= and there is none"),
        ({"data": iter([DATA]), "batch_size": 4}, ValueError, "batch_size is for arrays"),
        ({"engine": "torch"}, ValueError, "engine 'torch' is not known"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_a_slip_is_answered_in_a_sentence(changes, error, message):
    given = {"loss": lambda p, batch: squared(batch["x"] @ p, batch), "parameters": jnp.zeros((3, 1)), "data": DATA}
    given |= {"optimizer": optax.sgd(0.1), "steps": 1} | changes
    with pytest.raises(error, match=message):
        fit(given.pop("loss"), given.pop("parameters"), given.pop("data"), given.pop("optimizer"), **given)
