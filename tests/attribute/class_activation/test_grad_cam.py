"""Class activation maps against their formulas in NumPy, closed forms and Captum, in double precision."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import diffprog as dp
from diffprog import attribute, models
from diffprog.attribute._class_activation.grad_cam import KINDS
from diffprog.images import network_crop

GENERATOR = np.random.default_rng(0)
KERNEL, MIXING = GENERATOR.normal(size=(2, 6)), GENERATOR.normal(size=(6, 6))
READOUT, BIAS = GENERATOR.normal(size=(6, 3)), np.array([1.0, 2.0, 3.0])
X = GENERATOR.normal(size=(3, 4, 5, 2))
RELUS = {
    "maximum": lambda x: jnp.maximum(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "product": lambda x: x * (x > 0),
    "clip": lambda x: jnp.clip(x, 0, jnp.inf),
    "absolute": lambda x: (x + jnp.abs(x)) / 2,
    "jax": jax.nn.relu,
}
every_kind = pytest.mark.parametrize("kind", KINDS)
of_gradients = pytest.mark.parametrize("kind", ["grad", "hires", "plus_plus", "layer", "x_grad"])


def network(relu=jax.nn.relu, is_deep=True):
    kernel, mixing, readout, bias = map(jnp.asarray, (KERNEL, MIXING, READOUT, BIAS))

    def apply(x):
        layer = dp.tap(relu(x @ kernel), "layer")
        # Positions differ behind the layer, so that the kinds do.
        deep = relu(layer @ mixing + jnp.cumsum(layer, axis=1)) if is_deep else layer
        return deep.mean(axis=(1, 2)) @ readout + bias

    return apply


def tail(layer):
    deep = jax.nn.relu(layer @ MIXING + jnp.cumsum(layer, axis=1))
    return deep.mean(axis=(1, 2)) @ READOUT + BIAS


def values_and_slopes(index):
    layer = np.maximum(X @ KERNEL, 0)
    return layer, np.asarray(jax.grad(lambda layer: tail(layer)[:, index].sum())(jnp.asarray(layer)))


def formula(kind, values, slopes):
    """One example's map, by loops over channels as in the papers."""
    total = np.zeros(values.shape[:-1])
    for channel in range(values.shape[-1]):
        a, g = values[..., channel], slopes[..., channel]
        if kind == "grad":
            total += g.mean() * a
        elif kind == "hires":
            total += g * a
        elif kind == "layer":
            total += np.maximum(g, 0) * a
        elif kind == "x_grad":
            total += (g * a).sum() / a.sum() * a if a.sum() else 0
        else:
            below = 2 * g**2 + a.sum() * g**3
            alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
            total += (alpha * np.maximum(g, 0)).sum() * a
    return total


@of_gradients
def test_formulas(x64, kind):
    values, slopes = values_and_slopes(1)
    expected = [formula(kind, *row) for row in zip(values, slopes, strict=True)]
    found = attribute.grad_cam(network(), X, 1, at="layer", kind=kind)
    np.testing.assert_allclose(found.values["layer"], expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.score, tail(values)[:, 1], rtol=1e-12)
    assert found.gap is None and list(found.evaluations) == [1, 1, 1]


def test_kinds_differ_behind_a_nonlinear_layer(x64):
    maps = [attribute.grad_cam(network(), X, 1, at="layer", kind=kind).values["layer"] for kind in KINDS]
    for number, one in enumerate(maps):
        assert all(np.abs(one - other).max() > 1e-3 for other in maps[number + 1 :])


def test_before_a_mean_and_a_dense_layer_it_is_the_class_activation_map(x64):
    values = np.maximum(X @ KERNEL, 0)
    expected = values @ READOUT[:, 2] / 20
    for kind in ("grad", "hires", "x_grad"):
        found = attribute.grad_cam(network(is_deep=False), X, 2, at="layer", kind=kind)
        np.testing.assert_allclose(found.values["layer"], expected, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(found.values["layer"].sum(axis=(1, 2)), found.score - BIAS[2], rtol=1e-12)


def test_plus_plus_is_that_of_the_exponential(x64):
    """Derivatives of exp(score), order by order, in one channel of a linear readout, where they are known."""
    values = np.maximum(X @ KERNEL, 0)
    g, score = READOUT[:, 0] / 20, values.mean(axis=(1, 2)) @ READOUT[:, 0] + BIAS[0]
    first, second, third = (np.exp(score)[:, None] * g**order for order in (1, 2, 3))
    alpha = second / (2 * second + values.sum(axis=(1, 2)) * third)
    weights = 20 * alpha * np.maximum(first, 0)  # equation 5 of the paper, summed over 20 equal positions
    expected = np.einsum("nhwc,nc->nhw", values, weights) / np.exp(score)[:, None, None]
    found = attribute.grad_cam(network(is_deep=False), X, 0, at="layer", kind="plus_plus")
    np.testing.assert_allclose(found.values["layer"], expected, rtol=1e-10)


def test_eigen_projects_on_the_first_direction(x64):
    values = np.maximum(X @ KERNEL, 0)
    found = attribute.grad_cam(network(), X, 0, at="layer", kind="eigen").values["layer"]
    for row, one in zip(found, values, strict=True):
        directions = np.linalg.svd(one.reshape(20, 6))[2]
        np.testing.assert_allclose(np.abs(row), np.abs(one @ directions[0]), rtol=1e-9, atol=1e-12)
        assert row.sum() > 0 and (row > -1e-12).all()  # of values that are not negative
    negative = attribute.grad_cam(lambda x: network()(-x), -X, 0, at="layer", kind="eigen").values["layer"]
    np.testing.assert_allclose(negative, found, rtol=1e-9, atol=1e-12)


def test_ablation_weighs_by_what_is_lost(x64):
    values = np.maximum(X @ KERNEL, 0)
    whole = np.asarray(tail(values))[:, 1]
    expected = np.zeros(values.shape[:-1])
    for channel in range(6):
        without = values.copy()
        without[..., channel] = 0
        lost = (whole - np.asarray(tail(without))[:, 1]) / np.abs(whole)
        expected += lost[:, None, None] * values[..., channel]
    found = attribute.grad_cam(network(), X, 1, at="layer", kind="ablation")
    np.testing.assert_allclose(found.values["layer"], expected, rtol=1e-10, atol=1e-13)
    assert list(found.evaluations) == [7, 7, 7]


def test_score_weighs_by_what_a_channel_shows(x64):
    values = np.maximum(X @ KERNEL, 0)
    values[..., 3] = 0
    off = jnp.asarray(np.arange(6) != 3)

    def gated(x):
        layer = dp.tap(jax.nn.relu(x @ jnp.asarray(KERNEL)) * off, "layer")
        return tail(layer)

    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    masks = (values - low) / np.where(high > low, high - low, 1)
    start = 0.5
    scores = np.array([gated(start + masks[..., c : c + 1] * (X - start))[:, 1] for c in range(6)]).T
    powers = np.exp(scores - scores.max()) * (np.arange(6) != 3)
    expected = np.einsum("nhwc,nc->nhw", values, powers / powers.sum(axis=1, keepdims=True))
    found = attribute.grad_cam(gated, X, 1, at="layer", kind="score", baseline=start)
    np.testing.assert_allclose(found.values["layer"], expected, rtol=1e-9, atol=1e-12)


@every_kind
def test_spellings_of_a_relu_agree(x64, kind):
    expected = attribute.grad_cam(network(), X, 1, at="layer", kind=kind).values["layer"]
    for spelling, relu in RELUS.items():
        found = attribute.grad_cam(network(relu), X, 1, at="layer", kind=kind).values["layer"]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=spelling)


@every_kind
def test_rows_know_nothing_of_each_other(kind):
    inputs, model = X.astype(np.float32), network()
    options = {"at": "layer", "kind": kind, "upsample": (8, 10)}
    whole = attribute.grad_cam(model, inputs, [1, 2], **options)
    chunked = attribute.grad_cam(model, inputs[::-1], [1, 2], chunk=1000, **options)
    np.testing.assert_array_equal(chunked.values[:, ::-1], whole.values)
    for row in range(3):
        alone = attribute.grad_cam(model, inputs[row : row + 1], [1, 2], **options)
        np.testing.assert_array_equal(alone.values[:, 0], whole.values[:, row])


@every_kind
def test_several_scores_are_those_one_by_one(x64, kind):
    both = attribute.grad_cam(network(), X, [0, 2], at="layer", kind=kind)
    for number, score in enumerate((0, 2)):
        alone = attribute.grad_cam(network(), X, score, at="layer", kind=kind)
        np.testing.assert_allclose(both.values["layer"][number], alone.values["layer"], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(both.score[number], alone.score, rtol=1e-14)


def test_maps_are_enlarged_to_the_inputs(x64):
    coarse = lambda x: network(is_deep=False)(x.reshape(-1, 4, 2, 5, 2, 2).mean(axis=(2, 4)))
    pictures = GENERATOR.normal(size=(3, 8, 10, 2))
    small = attribute.grad_cam(coarse, pictures, 1, at="layer").values["layer"]
    large = attribute.grad_cam(coarse, pictures, 1, at="layer", upsample=True).values
    assert small.shape == (3, 4, 5) and large.shape == (3, 8, 10)
    # Half-pixel centers: a quarter of the way between the centers of two large pixels, and the edge goes on.
    between = lambda a, b, part: a + part * (b - a)
    left, right = (between(small[:, 0, i], small[:, 1, i], 0.25) for i in (0, 1))
    np.testing.assert_allclose(large[:, 1, 1], between(left, right, 0.25), rtol=1e-6)
    np.testing.assert_allclose(large[:, 0, 0], small[:, 0, 0], rtol=1e-12)


def test_signs_stay_unless_they_are_cut_off(x64):
    signed = attribute.grad_cam(network(), X, 1, at="layer").values["layer"]
    cut = attribute.grad_cam(network(), X, 1, at="layer", relu=True).values["layer"]
    assert signed.min() < 0
    np.testing.assert_array_equal(cut, np.maximum(signed, 0))
    against = lambda x: -jnp.sum(dp.tap(jax.nn.relu(x), "layer"), axis=(1, 2, 3))
    with pytest.warns(attribute.AttributionWarning, match="leaves nothing of 3 of 3 maps"):
        attribute.grad_cam(against, X, at="layer", relu=True)


def test_layers_of_any_rank_and_several_at_once(x64):
    def text(tokens):
        first = dp.tap(jnp.tanh(tokens @ jnp.asarray(KERNEL)), "first")
        second = dp.tap(jnp.tanh(first @ jnp.asarray(MIXING)), "second")
        return (second**2).mean(axis=1) @ jnp.asarray(READOUT)

    tokens = X.reshape(3, 20, 2)
    found = attribute.grad_cam(text, tokens, 0, at=["first", "second"], kind="hires").values
    second = np.tanh(np.tanh(tokens @ KERNEL) @ MIXING)
    np.testing.assert_allclose(found["second"], 2 * second**2 @ READOUT[:, 0] / 20, rtol=1e-11)
    assert found["first"].shape == (3, 20)
    channels_first = lambda x: dp.tap(jnp.tanh(x), "layer").sum(axis=(1, 2)) ** 2
    one = attribute.grad_cam(lambda x: channels_first(x).sum(axis=1), np.moveaxis(X, -1, 1), at="layer", channel_axis=0)
    layer, slopes = np.tanh(X), 2 * np.tanh(X).sum(axis=(1, 3), keepdims=True)
    expected = (np.broadcast_to(slopes, X.shape).mean(axis=(1, 2), keepdims=True) * layer).sum(axis=-1)
    np.testing.assert_allclose(one.values["layer"], expected, rtol=1e-11)


def test_a_wrapped_network_with_channels_in_front():
    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        last: eqx.nn.Linear

        def __call__(self, image):
            return self.last(jax.nn.relu(self.conv(image)).mean(axis=(1, 2)))

    first, second = jax.random.split(jax.random.key(0))
    net = Net(eqx.nn.Conv2d(3, 5, 3, key=first, dtype=np.float32), eqx.nn.Linear(5, 4, key=second, dtype=np.float32))
    model = models.wrap(jax.vmap(net), size=12, channels_first=True)
    images = np.random.default_rng(0).uniform(size=(2, 12, 12, 3)).astype(np.float32)
    found = attribute.grad_cam(model, images, 2, at="*/conv", kind="hires", upsample=True).values
    values = model.activations(images, "conv")["conv"]
    slopes = jax.grad(lambda v: (jax.nn.relu(v).mean(axis=(1, 2)) @ net.last.weight[2]).sum())(values)
    small = np.sum(values * slopes, axis=-1)
    expected = jax.image.resize(small, (2, 12, 12), "linear")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_bad_input_is_named():
    model, inputs = network(), X.astype(np.float32)
    cases = {
        r"kind must be one of 'grad'.*; found 'grad\+\+'": {"at": "layer", "kind": "grad++"},
        "'nowhere'": {"at": "nowhere"},
        "positions are summed up": {"at": "flat"},
        "channel_axis one of its axes": {"at": "layer", "channel_axis": 3},
        'only kind="score" shows a baseline': {"at": "layer", "baseline": 0},
        "found 1|tuple of 2 lengths": {"at": "layer", "upsample": (3,)},
    }
    flat = lambda x: dp.tap(model(x), "flat")
    for message, options in cases.items():
        with pytest.raises(ValueError, match=message):
            attribute.grad_cam(flat, inputs, 1, **options)
    with pytest.raises(TypeError, match="layer is at="):
        attribute.grad_cam(model, inputs, 1, at="layer", target_layer="layer")


CAPTUM_GRADIENT = [  # LayerGradCam of Captum 0.9.0 and its gradient and integrated gradients, class 282
    [-0.4747, 0.114, 0.8093, -0.4632],
    [0.2375, 1.0011, 2.1418, 2.6641],
    [-0.4162, -0.1482, -4.6316, 0.4098],
    [0.9826, 0.3717, 0.1713, 0.3363],
]
CAPTUM_INTEGRATED = [
    [0.7835, 0.2439, 0.1577, -0.0301],
    [0.7077, 1.692, 1.5852, 0.8456],
    [-0.1477, 0.8978, 1.1942, 0.2303],
    [0.4326, 0.4942, 0.4375, 0.2623],
]
CAPTUM_GRAD_CAM = [  # at the normalization before the last ReLU6, of which a module makes the values
    [-0.03887, 0.01136, -0.01234, -0.05205, -0.05206, 0.02957, -0.01198],
    [0.03162, 0.07982, 0.07003, 0.04001, 0.04577, 0.09926, 0.01265],
    [0.00911, 0.10688, 0.03237, 0.03434, 0.01635, 0.10734, -0.07231],
    [0.04031, 0.19898, 0.07267, 0.03351, -0.00971, 0.04705, -0.12046],
    [0.03884, 0.19289, 0.07164, 0.05584, 0.02222, 0.06379, -0.08838],
    [-0.02001, 0.10627, 0.09367, 0.09925, 0.06283, 0.13691, -0.03537],
    [-0.0973, -0.04781, -0.05693, -0.06396, -0.04797, 0.02474, -0.07325],
]


@pytest.mark.slow  # the compilation of the real network
def test_the_cat_of_the_real_network_beside_captum():
    model = models.load("efficientnet_lite0")
    photograph = Path(__file__).parents[3] / "assets" / "chelsea.png"
    image = np.asarray(network_crop(np.asarray(Image.open(photograph), np.float32) / 255, 224))[None]
    coarse = lambda values: np.asarray(values, np.float64).reshape(4, 56, 4, 56, 3).sum(axis=(1, 3, 4))
    half = 5e-5  # of the last digit that is given
    np.testing.assert_allclose(coarse(attribute.gradient(model, image, 282).values), CAPTUM_GRADIENT, atol=2 * half)
    integrated = attribute.integrated_gradients(model, image, 282)
    # 3,136 pixels with a rounding of each of 50 gradients, which is 1e-2 of the largest where the integrand jumps.
    np.testing.assert_allclose(coarse(integrated.values), CAPTUM_INTEGRATED, atol=0.01)
    np.testing.assert_allclose(integrated.gap, 0.0874, atol=0.005)
    before = attribute.grad_cam(model, image, 282, at="head.pre").values["head.pre"]
    # A unit at a border of ReLU6 may be on by one rounding and off by another.
    np.testing.assert_allclose(before[0], CAPTUM_GRAD_CAM, atol=half)
    maps = [attribute.grad_cam(model, image, 282, at="head", kind=kind) for kind in ("grad", "hires", "x_grad")]
    bias = float(model.parameters["logits"]["bias"][282])
    for found in maps:
        np.testing.assert_allclose(found.values["head"].sum(), found.score - bias, rtol=1e-6)
        np.testing.assert_allclose(found.values["head"].sum(), 9.17102, atol=1e-5)
        np.testing.assert_allclose(found.values["head"], maps[0].values["head"], rtol=1e-4, atol=1e-6)
