import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import diffprog as dp
from diffprog import models
from diffprog.visualize import channel, fourier, logit, neuron, render
from diffprog.visualize.transforms import still

IMAGES = np.random.default_rng(0).uniform(size=(2, 12, 12, 3)).astype(np.float32)
KEY = jax.random.key(0)
WEIGHTS = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)


class CNN(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(6, (3, 3), strides=2)(x))
        return linen.Dense(4)(dp.tap(linen.relu(linen.Conv(7, (3, 3))(x)), "hidden").mean((1, 2)))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Conv(3, 6, (3, 3), rngs=rngs), nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)).mean((1, 2)))


class Chain(eqx.Module):
    first: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __call__(self, x):
        return self.last(jax.nn.relu(self.first(x)).mean((1, 2)))


def linen_model():
    parameters = CNN().init(KEY, IMAGES)
    expected = lambda images: CNN().apply(parameters, images, capture_intermediates=True)
    values = lambda images: expected(images)[1]["intermediates"]["Conv_1"]["__call__"][0]
    return models.wrap(CNN().apply, parameters, size=12), "CNN/Conv_1", values, lambda images: expected(images)[0]


def nnx_model():
    net = Net(nnx.Rngs(0))
    return models.wrap(lambda net, images: net(images), net, size=12), "Net/first", net.first, net


def equinox_model():
    chain = Chain(eqx.nn.Conv2d(3, 5, 3, key=KEY, dtype=np.float32), eqx.nn.Linear(5, 4, key=KEY, dtype=np.float32))
    first = lambda images: jnp.moveaxis(jax.vmap(chain.first)(jnp.moveaxis(images, -1, 1)), 1, -1)
    whole = lambda images: jax.vmap(chain)(jnp.moveaxis(images, -1, 1))
    return models.wrap(jax.vmap(chain), size=12, channels_first=True), "Chain/first", first, whole


@pytest.mark.parametrize("make", [linen_model, nnx_model, equinox_model])
def test_layers_of_libraries_are_found_by_path_and_by_name(make):
    model, layer, values, whole = make()
    assert layer in model.layers and "logits" in model.layers
    found = model.activations(IMAGES, [layer, "logits"])
    np.testing.assert_allclose(found[layer], values(IMAGES), atol=1e-6)
    np.testing.assert_allclose(found["logits"], whole(IMAGES), atol=1e-6)
    np.testing.assert_allclose(model(IMAGES), whole(IMAGES), atol=1e-6)
    assert found[layer].shape[1:] == model.layers[layer]
    short = layer.rpartition("/")[2]
    np.testing.assert_array_equal(model.activations(IMAGES, short)[short], found[layer])
    drawn = render(
        model, [channel(short, 0), logit(2)], key=KEY, parameterization=fourier(12), transform=still, steps=16
    )
    assert (drawn.scores[-1] > drawn.scores[0]).all()
    last = model.activations(drawn.images, [layer])[layer][0, ..., 0].mean()
    assert last > drawn.scores[0, 0]


def test_a_plain_function_has_its_operations_and_taps_for_layers():
    plain = models.wrap(lambda w, x: jax.nn.relu(jax.nn.relu(x @ w) @ w.T), WEIGHTS, size=12)
    assert list(plain.layers) == ["dot_general#1", "relu#1", "dot_general#2", "relu#2", "output"]
    first = np.maximum(IMAGES @ WEIGHTS, 0)
    np.testing.assert_allclose(plain.activations(IMAGES, "relu#1")["relu#1"], first, atol=1e-5)
    last = np.maximum(first @ WEIGHTS.T, 0)
    np.testing.assert_allclose(plain.activations(IMAGES, "output")["output"], last, atol=1e-4)
    tapped = models.wrap(lambda w, x: dp.tap(x @ w, "hidden").sum((1, 2)), WEIGHTS, size=12)
    assert list(tapped.layers) == ["hidden", "logits"]
    drawn = render(tapped, neuron("hidden", 1), key=KEY, parameterization=fourier(12), transform=still, steps=10)
    assert drawn.scores[-1, 0] > drawn.scores[0, 0]


def test_a_layer_that_is_called_twice_is_two():
    model = models.wrap(lambda w, x: dp.tap(dp.tap(x @ w, "h") @ w.T, "h"), WEIGHTS, size=12)
    assert list(model.layers)[:2] == ["h", "h#2"]
    np.testing.assert_allclose(model.activations(IMAGES, "h#2")["h#2"], IMAGES @ WEIGHTS @ WEIGHTS.T, atol=1e-4)


def test_the_network_gets_the_range_that_it_was_trained_for():
    seen = models.wrap(lambda images: dp.tap(images, "seen"), size=12, mean=[0.1, 0.2, 0.3], std=0.5)
    np.testing.assert_allclose(seen.activations(IMAGES, "seen")["seen"], (IMAGES - [0.1, 0.2, 0.3]) / 0.5, atol=1e-6)
    bytes_of = models.wrap(lambda images: dp.tap(images, "seen"), size=12, std=1 / 255, channels_first=True)
    np.testing.assert_allclose(bytes_of.activations(IMAGES, "seen")["seen"], IMAGES * 255, rtol=1e-5)


def test_networks_together_answer_as_they_do_alone():
    a = models.wrap(lambda w, x: dp.tap(x @ w, "h").mean((1, 2)), WEIGHTS, size=12, labels=[*"abcdefgh"])
    b = models.wrap(lambda w, x: dp.tap(x @ -w, "h").mean((1, 2)), WEIGHTS, size=16, labels=[*"abcdefgh"])
    both = models.combine({"a": a, "b": b})
    assert list(both.layers) == ["a/h", "a/logits", "b/h", "b/logits", "logits"]
    found = both.activations(IMAGES.repeat(2, 1).repeat(2, 2), ["a/h", "b/h"])
    np.testing.assert_allclose(found["a/h"], -found["b/h"])
    objective = channel("a/h", 1) + 2 * logit("c", "b/logits")
    drawn = render(both, objective, key=KEY, parameterization=fourier(12), transform=still, steps=10)
    images = drawn.images[:, :, :, :]
    expected = (images @ WEIGHTS)[..., 1].mean((1, 2)) - 2 * (images @ WEIGHTS)[..., 2].mean((1, 2))
    again = objective.score(both, both.collect(both.parameters, images, ("a/h", "b/logits")))
    np.testing.assert_allclose(again, expected, rtol=1e-4)
    assert drawn.scores[-1, 0] > drawn.scores[0, 0]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: models.wrap(lambda x: x.reshape(3, 7), size=12), r"cannot take images of 12 x 12 x 3: .*reshape"),
        (lambda: models.wrap(lambda x: x, size=12, std=0), "std must be a finite number or 3 of them, .* found 0"),
        (lambda: models.wrap(lambda x: x, size=12, mean=[1, 2]), r"mean must be a finite number or 3 of them"),
        (lambda: models.combine({}), 'combined in a dict, under names without "/"'),
        (lambda: linen_model()[0].layer_name("Conv_9"), "CNN has no layer 'Conv_9'; did you mean 'CNN/Conv_"),
        (lambda: linen_model()[0].label_index("cat"), "CNN has no names for its 4 classes; found 'cat'"),
        (lambda: linen_model()[0].check_images(IMAGES[..., :1]), r"\(n, height, width, 3\); found \(2, 12, 12, 1\)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_too_small_a_picture_is_refused():
    deep = models.wrap(lambda w, x: dp.tap(linen.max_pool(x @ w, (8, 8), (8, 8)), "p"), WEIGHTS, size=12)
    with pytest.raises(ValueError, match="p is empty for images of 6 x 6 pixels; draw larger pictures"):
        render(deep, channel("p", 0), key=KEY, parameterization=fourier(6), transform=still)
