"""What is changed in place, or dropped, between two calls of an attack."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from tests.compilations import counted

IMAGES = np.full((1, 6), 0.5, np.float32)
WEIGHTS = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)


def step(weights):
    """What FGSM does on a linear model of two classes: epsilon along the sign, from the label to the other class."""
    label = (IMAGES @ weights).argmax(1)
    return label, IMAGES + 0.125 * np.sign(weights[:, 1 - label[0]] - weights[:, label[0]])


class Holder:
    """A module whose weights are an attribute."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images):
        return images @ self.weights


def test_weights_replaced_in_place_are_used_and_compile_nothing():
    model, counts = Holder(jnp.asarray(WEIGHTS)), []
    for weights in (WEIGHTS, -WEIGHTS, WEIGHTS[::-1]):
        model.weights = jnp.asarray(weights)
        label, expected = step(weights)
        with counted() as count:
            found = attack.fgsm(model, IMAGES, label, epsilon=0.125).images
        np.testing.assert_allclose(found, expected, atol=1e-6)
        counts += count
    assert counts[1:] == [0, 0]


@pytest.mark.parametrize("what", ["loss", "criterion"])
def test_a_loss_and_a_criterion_changed_in_place_are_used(what):
    state = {"sign": jnp.float32(1)}
    label, expected = step(WEIGHTS)
    loss = lambda logits, labels: state["sign"] * attack.margin(logits, labels)
    criterion = lambda logits, labels: state["sign"] * jnp.ones(len(logits)) < 0
    for sign in (1, -1):
        state["sign"] = jnp.float32(sign)
        option = {"loss": loss} if what == "loss" else {"criterion": criterion}
        result = attack.fgsm(lambda x: x @ WEIGHTS, IMAGES, label, epsilon=0.125, **option)
        if what == "loss":
            np.testing.assert_allclose(result.images - IMAGES, sign * (expected - IMAGES), atol=1e-6)
        else:
            assert result.initially_wrong.tolist() == [sign < 0]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: attack.ExpectationOverTransformation(f, 2)])
def test_a_dropped_model_frees_its_memory(wrap):
    images, labels = np.full((2, 8), 0.5, np.float32), np.zeros(2, int)
    held = lambda: (gc.collect(), sum(x.nbytes for x in jax.live_arrays()))[1]

    def turn(seed):
        weights = jax.random.normal(jax.random.key(seed), (8, 50_000))
        attack.fgsm(wrap(lambda images, key=None: jnp.tanh(images @ weights)[:, :3]), images, labels, epsilon=0.01)

    turn(0)
    before = held()
    for seed in range(1, 4):
        turn(seed)
    assert held() - before < 100_000


def test_weights_on_one_device_and_images_on_several():
    devices = jax.local_devices()[:2]
    weights = jax.device_put(WEIGHTS, devices[-1])
    label, expected = step(WEIGHTS)
    found = attack.fgsm(lambda x: x @ weights, IMAGES, label, epsilon=0.125, devices=devices).images
    np.testing.assert_allclose(found, expected, atol=1e-6)
