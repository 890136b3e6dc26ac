"""Networks that other people write: what is a layer in them, and which values it has."""

import gc
import tracemalloc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import diffprog as dp
from diffprog import models
from diffprog.visualize import channel, logit, render

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(size=(3, 8, 8, 3)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(3, 6)).astype(np.float32)
DEEP = (RANDOM.normal(size=(4, 6, 6)) / 3).astype(np.float32)
HEAD = RANDOM.normal(size=(6, 4)).astype(np.float32)


def check_layers(model, images=IMAGES):
    """Each layer has a row for each image, and is known by its name to everybody."""
    names = list(model.layers)
    values, one = model.activations(images, names), model.activations(images[:1], names)
    found = jax.jit(dp.activations(model, names))(images)
    gradients = jax.jit(dp.grad_at(lambda x: model(x).sum(), names))(images)
    recording = dp.record(model)(images[:1])
    for name, shape in model.layers.items():
        assert values[name].shape == (len(images), *shape) and values[name].dtype == np.float32
        np.testing.assert_allclose(values[name][:1], one[name], rtol=1e-4, atol=1e-5)
        assert found[name].size == gradients[name].size == values[name].size
        assert name == "sin#1" or recording.select(name)  # it is in a branch that is not taken
    return model


def test_operations_around_and_in_a_loop_that_counts():
    def network(images):
        x = images.mean((1, 2)) @ WEIGHTS
        (_, x), _ = jax.lax.scan(lambda c, w: ((c[0] + 1, jnp.tanh(c[1] @ w)), None), (0, x), DEEP)
        x = jax.lax.while_loop(lambda state: state[0] < 2, lambda state: (state[0] + 1, jnp.sin(state[1])), (0, x))[1]
        return jax.lax.top_k(x * 2, 6)[0]

    model = check_layers(models.wrap(network, size=8))
    x = IMAGES.mean((1, 2)) @ WEIGHTS
    np.testing.assert_allclose(model.activations(IMAGES, "dot_general#1")["dot_general#1"], x, rtol=1e-4)
    inside = []
    for w in DEEP:
        x = np.tanh(x @ w)
        inside.append(x)
    found = model.activations(IMAGES, "tanh#1")["tanh#1"]
    np.testing.assert_allclose(found, np.stack(inside, axis=1), rtol=1e-3, atol=1e-5)  # (images, iterations, ...)
    np.testing.assert_allclose(model(IMAGES), -np.sort(-2 * np.sin(np.sin(x))), rtol=1e-3)
    assert not any(name.startswith("sin") for name in model.layers)  # of a while loop nothing can be taken out


def test_values_of_a_branch_keep_their_names():
    def network(w, images):
        x = images @ w
        return jax.lax.cond(images.sum() > 0, jnp.tanh, jnp.sin, x).mean((1, 2))

    model = check_layers(models.wrap(network, WEIGHTS, size=8))
    x = IMAGES @ WEIGHTS
    for name, right in {"dot_general#1": x, "tanh#1": np.tanh(x), "cond#1": np.tanh(x), "sin#1": 0 * x}.items():
        np.testing.assert_allclose(model.activations(IMAGES, name)[name], right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("iterations", [2, 3, 4])
def test_iterations_are_not_taken_for_images(iterations):
    def network(w, images):
        x = images.reshape(len(images), -1, 3) @ w
        x, _ = jax.lax.scan(lambda x, w: (dp.tap(jnp.tanh(x @ w), "again"), None), x, DEEP[:iterations])
        return x.mean(1)

    model = models.wrap(network, WEIGHTS, size=8)
    assert model.layers == {"again": (iterations, 64, 6), "logits": (6,)}
    expected, x = [], IMAGES.reshape(3, 64, 3) @ WEIGHTS
    for w in DEEP[:iterations]:
        x = np.tanh(x @ w)
        expected.append(x)
    found = model.activations(IMAGES, "again")["again"]
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-3, atol=1e-5)
    with jax.disable_jit():
        np.testing.assert_allclose(model.activations(IMAGES, "again")["again"], found, rtol=1e-3, atol=1e-5)
    if iterations == 2:
        drawn = render(model, channel("again", 3), key=KEY, transform=None, steps=3, num_images=2)
        assert (drawn.scores[-1] > drawn.scores[0]).all()


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        return x + linen.relu(linen.Dense(6, name="inner")(x))


class Lifted(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Dense(6, name="first")(x.reshape(len(x), x.shape[1], -1))
        x = linen.remat(Block)(name="remat")(x)
        x = linen.jit(Block)(name="jitted")(x)
        x = linen.RNN(linen.SimpleCell(6), name="rnn")(x)
        return linen.Dense(4, name="head")(x[:, -1])


def test_lifted_transforms_of_flax():
    net = Lifted()
    variables = net.init(KEY, IMAGES)
    logits, seen = net.apply(variables, IMAGES, capture_intermediates=True)
    model = models.wrap(net.apply, variables, size=8)
    np.testing.assert_allclose(model(IMAGES), logits, rtol=1e-4, atol=1e-5)
    paths = ("first",), ("remat", "inner"), ("jitted", "inner"), ("rnn",), ("head",)
    layers = [[name for name in model.layers if name.endswith("/".join(path))] for path in paths]
    assert all(len(names) == 1 for names in layers)
    found = model.activations(IMAGES, [name for (name,) in layers])
    for path, values in zip(paths, found.values(), strict=True):
        right = seen["intermediates"]
        for part in path:
            right = right[part]
        np.testing.assert_allclose(values, right["__call__"][0], rtol=1e-4, atol=1e-5)


class Chain(eqx.Module):
    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv(x)).mean((1, 2)))


def test_equinox_compiled_in_its_own_way():
    net = Chain(eqx.nn.Conv2d(3, 5, 3, key=KEY, dtype=np.float32), eqx.nn.Linear(5, 4, key=KEY, dtype=np.float32))
    model = models.wrap(eqx.filter_jit(eqx.filter_vmap(net)), size=8, channels_first=True)
    channels_first = np.moveaxis(IMAGES, -1, 1)
    np.testing.assert_allclose(model(IMAGES), jax.vmap(net)(channels_first), rtol=1e-4, atol=1e-5)
    (conv,) = [name for name in model.layers if name.endswith("conv")]
    right = np.moveaxis(jax.vmap(net.conv)(channels_first), 1, -1)
    np.testing.assert_allclose(model.activations(IMAGES, conv)[conv], right, rtol=1e-4, atol=1e-5)


def test_names_do_not_depend_on_the_scope_around():
    model = models.wrap(lambda w, x: dp.tap(x @ w, "h").mean((1, 2)), WEIGHTS, size=8)
    with jax.named_scope("around"):
        found = jax.jit(lambda x: model.collect(WEIGHTS, x, ["h"])["h"])(IMAGES)
    np.testing.assert_allclose(found, IMAGES @ WEIGHTS, rtol=1e-4, atol=1e-5)


def test_a_layer_by_its_name_everywhere():
    model = models.load("digits")
    images = RANDOM.uniform(size=(2, 8, 8, 1)).astype(np.float32)
    weights, _ = model.parameters[-1]
    gradient = dp.grad_at(lambda x: model(x)[0, 3], ["hidden.0"])(images)["hidden.0"]
    np.testing.assert_allclose(gradient, np.stack([weights[:, 3], 0 * weights[:, 3]]), rtol=1e-5, atol=1e-6)
    check_layers(model, images)
    zeros = dp.intervene(model, {"hidden.0": jnp.zeros_like})(images)
    np.testing.assert_allclose(zeros, np.broadcast_to(model.parameters[-1][1], (2, 10)), rtol=1e-5)


@pytest.mark.parametrize(
    "returned, layers",
    [
        (lambda flat, maps: {"logits": flat, "maps": maps}, {"logits": (6,), "output['maps']": (8, 8, 6)}),
        (lambda flat, maps: (flat, {"state": jnp.zeros(4)}), {"logits": (6,)}),
        (lambda flat, maps: [flat, 2 * flat], {"logits": (6,), "output[1]": (6,)}),
        (lambda flat, maps: {"a": {"logits": flat}, "b": 2 * flat}, {"logits": (6,), "output['b']": (6,)}),
        (lambda flat, maps: maps, {"output": (8, 8, 6)}),
        (lambda flat, maps: flat[:, 0], {"output": ()}),
    ],
)
def test_what_a_network_returns(returned, layers):
    network = lambda w, x: returned(x.mean((1, 2)) @ w, dp.tap(x @ w, "maps"))
    model = models.wrap(network, WEIGHTS, size=8)
    assert model.layers == {"maps": (8, 8, 6)} | layers
    maps = IMAGES @ WEIGHTS
    right = maps.mean((1, 2)) if "logits" in layers else maps if layers["output"] else maps.mean((1, 2))[:, 0]
    np.testing.assert_allclose(model(IMAGES), right, rtol=1e-4, atol=1e-5)
    assert not layers.get("logits") or logit(5).check(model)


def test_several_outputs_of_which_none_is_the_logits():
    network = lambda w, x: {"color": x.mean((1, 2)) @ w, "shape": x.mean((1, 2)) @ w * 2}
    model = models.wrap(network, WEIGHTS, size=8)
    assert list(model.layers)[-2:] == ["output['color']", "output['shape']"]
    with pytest.raises(ValueError, match=r"returns output\['color'\], output\['shape'\], and none is its logits"):
        model(IMAGES)
    labelled = models.wrap(lambda w, x: {**network(w, x), "more": x.mean((1, 2))}, WEIGHTS, size=8, labels=list("abc"))
    np.testing.assert_allclose(labelled(IMAGES), IMAGES.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "size, channels, shape",
    [
        ((5, 9), 1, (5, 9, 1)),
        ((3, 5, 9), 2, (3, 5, 9, 2)),
        ((7,), 3, (7, 3)),
        ((), 4, (4,)),
        (np.int64(6), 2, (6, 6, 2)),
    ],
)
def test_inputs_of_any_shape(size, channels, shape):
    weights = RANDOM.normal(size=(channels, 2)).astype(np.float32)
    network = lambda w, x: (dp.tap(x, "input") @ w).reshape(len(x), -1, 2).mean(1)
    model = models.wrap(network, weights, size=size, channels=channels, mean=np.full(channels, 0.5), labels=["a", "b"])
    inputs = RANDOM.uniform(size=(3, *shape)).astype(np.float32)
    assert model.shape == shape == model.layers["input"]
    np.testing.assert_allclose(model(inputs), network(weights, inputs - 0.5), rtol=1e-4, atol=1e-6)
    assert len(model.top(inputs, 1)) == 3
    with pytest.raises(ValueError, match="must have shape"):
        model(inputs[0])
    if len(shape) != 3:
        with pytest.raises(ValueError, match="what is drawn are pictures"):
            render(model, logit("a"), key=KEY, steps=1)


def test_classes_by_number_and_by_name():
    network = lambda w, x: {"scores": dp.tap(x.mean((1, 2)) @ w, "classes"), "where": x}
    model = models.wrap(network, WEIGHTS, size=8)
    logits = IMAGES.mean((1, 2)) @ WEIGHTS
    for number in (4, np.int64(4), np.int32(4), jnp.int32(4), "4", logits.argmax(1)[0]):
        objective = logit(number, "classes").check(model)
        found = objective.score(model, model.activations(IMAGES, "classes"))
        np.testing.assert_allclose(found, logits[:, int(number)], rtol=1e-4)
    best = model.top(IMAGES, 2)
    assert [[index for _, index, _ in row] for row in best] == np.argsort(-logits)[:, :2].tolist()
    assert best[0][0][0] == str(best[0][0][1])
    named = models.wrap(network, WEIGHTS, size=8, labels={i: name for i, name in enumerate("012543")})
    assert named.label_index("3") == 5 and named.label_index(3) == 3  # a name that is a number is a name


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda make: make(labels=list("abcdefg")), "6 classes; found 7 labels"),
        (lambda make: make(labels="abcdef"), "a list of names"),
        (lambda make: make(labels={1: "a"}), "keys 0 to 0"),
        (lambda make: make(size=0), "size must be a whole number of at least 1; found 0"),
        (lambda make: make(size=(8, 2.5)), "each side of size must be a whole number"),
        (lambda make: logit(6).check(make()), "has the classes 0 to 5; found 6"),
        (lambda make: logit(-1).check(make()), "has the classes 0 to 5; found -1"),
        (lambda make: logit(1.5).check(make()), "a class that is not given by name is a whole number; found 1.5"),
        (lambda make: logit(True).check(make()), "found True"),
        (lambda make: logit(1, "h").check(make()), r"h has values of shape \(8, 8, 6\), not one for each class"),
        (lambda make: make().top(IMAGES, 0), "k must be a whole number"),
        (lambda make: channel("h", 2.5), "the channel of h is a whole number; found 2.5"),
        (lambda make: channel("h", [1, 2]), "the channel of h is a whole number"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    make = lambda size=8, **options: models.wrap(
        lambda w, x: dp.tap(x @ w, "h").mean((1, 2)), WEIGHTS, size=size, **options
    )
    with pytest.raises(ValueError, match=message):
        wrong(make)


def test_images_of_a_size_that_is_not_taken():
    weights = RANDOM.normal(size=(8 * 8 * 3, 4)).astype(np.float32)
    model = models.wrap(lambda w, x: x.reshape(len(x), -1) @ w, weights, size=8)
    assert model.takes(8) and not model.takes(9)
    for ask in (model, lambda images: model.activations(images, "logits")):
        with pytest.raises(ValueError, match=r"cannot take images of 9 x 9 pixels: .*its own size is 8 x 8"):
            ask(np.zeros((1, 9, 9, 3), np.float32))
    assert model.fitted(jnp.zeros((2, 5, 7, 3))).shape == (2, 8, 8, 3)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.head = nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.norm(x).mean((1, 2)))


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.drop, self.head = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(x).mean((1, 2)))


@pytest.mark.parametrize("kind", [Normed, Dropped])
def test_a_network_in_training_mode_is_warned_of(kind, recwarn):
    net = kind(nnx.Rngs(0))
    with pytest.warns(UserWarning, match=r"depends on the other images of its batch\. Is it in training mode"):
        models.wrap(lambda net, images: net(images), net, size=8)
    net.eval()
    recwarn.clear()
    models.wrap(lambda net, images: net(images), net, size=8)
    models.wrap(lambda images: jax.lax.map(lambda image: image.mean((0, 1)) @ WEIGHTS, images), size=8)
    assert not [warning for warning in recwarn if "batch" in str(warning.message)]


def test_what_a_network_reads_is_never_stale():
    weights, net = {"w": WEIGHTS}, nnx.Linear(3, 6, rngs=nnx.Rngs(0))
    by_dict = models.wrap(lambda images: dp.tap(images @ weights["w"], "h").mean((1, 2)), size=8)
    by_module = models.wrap(lambda images: net(images).mean((1, 2)), size=8)
    draw = lambda model: render(model, logit(1), key=KEY, steps=2, transform=None).scores[0, 0]
    jitted = lambda images: jax.jit(lambda images: by_dict(images))(images)
    before = [by_dict(IMAGES), by_module(IMAGES), draw(by_dict), draw(by_module), jitted(IMAGES)]
    weights["w"] = 2 * WEIGHTS
    net.kernel[...] = 2 * net.kernel[...]
    after = [by_dict(IMAGES), by_module(IMAGES), draw(by_dict), draw(by_module), jitted(IMAGES)]
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(second, 2 * np.asarray(first), rtol=1e-3)
    np.testing.assert_allclose(by_dict.activations(IMAGES, "h")["h"], 2 * IMAGES @ WEIGHTS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("closes", [False, True])
def test_a_network_that_nobody_holds_is_freed(closes):
    weights = jnp.asarray(RANDOM.normal(size=(3, 6)).astype(np.float32))
    gone = weakref.ref(weights)
    if closes:
        model = models.wrap(lambda images, w=weights: jax.nn.relu(images @ w).mean((1, 2)), size=8)
    else:
        model = models.wrap(lambda w, images: jax.nn.relu(images @ w).mean((1, 2)), weights, size=8)
    model(IMAGES)
    render(model, logit(1), key=KEY, steps=2, transform=None)
    del model, weights
    gc.collect()
    assert gone() is None


def test_looking_at_layers_leaves_nothing_behind():
    model = models.wrap(lambda w, x: dp.tap(jax.nn.relu(x @ w), "h").mean((1, 2)), WEIGHTS, size=8)
    model.layers_at(16)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        model.layers_at(16)
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert left < 20_000


def test_modules_that_are_not_functions_get_a_sentence():
    module = linen.Dense(4)
    variables = module.init(KEY, IMAGES)
    wrap = lambda *network, **options: models.wrap(*network, **{"size": 8, **options})
    for network, options, message in (
        ((module,), {}, "it is a Flax module without its variables"),
        ((module, variables), {}, "it is a Flax module without its variables"),
        ((module.apply, variables["params"]), {}, "it is a Flax module with variables that are not in collections"),
        ((module.apply,), {}, "found the method apply of a module, which takes its variables first"),
        ((nnx.BatchNorm(3, rngs=nnx.Rngs(0)),), {}, "it is a Flax NNX module in training mode"),
        ((jax.vmap(eqx.nn.Dropout(0.5)),), {}, "it is an Equinox module in training mode"),
        ((lambda images: images.mean((0, 1, 2))[None],), {}, "must compute and return an array with a row for each"),
        ((lambda images: images,), {"channels": "3"}, "channels must be a whole number of at least 1; found '3'"),
    ):
        with pytest.raises(ValueError, match=message):
            wrap(*network, **options)
    assert wrap(module.apply, variables)(IMAGES).shape == (3, 8, 8, 4)
