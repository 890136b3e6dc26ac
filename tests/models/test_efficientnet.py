"""EfficientNet-Lite0 against PyTorch's own numbers in tests/data: logits and gradients of photographs and of noise."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import images, models
from diffprog.models import _efficientnet as efficientnet

ROOT = Path(__file__).parents[2]
REFERENCE = np.load(ROOT / "tests/data/efficientnet_lite0.npz")


@pytest.fixture(scope="module")
def model():
    return models.load("efficientnet_lite0")


@pytest.fixture(scope="module")
def photographs():
    """Chelsea and the rocket from the files, through our own preprocessing; the others as PyTorch got them."""
    crop = lambda name: images.network_crop(images.read_image(ROOT / "assets" / name))
    stored = lambda name: REFERENCE[name].astype(np.float32) / 255
    return np.stack([crop("chelsea.png"), stored("coffee"), stored("astronaut"), crop("rocket.jpg")])


@pytest.mark.parametrize("convolution", ["fast", "native"])
def test_logits_agree_with_pytorch(photographs, convolution):
    logits = models.load("efficientnet_lite0", convolution=convolution)(photographs)
    np.testing.assert_allclose(logits, REFERENCE["logits"], rtol=0, atol=1e-4)


def test_logits_of_noise_at_another_size(model):
    noise = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype(np.float32)  # what PyTorch got, normalized
    logits = jax.jit(model.apply)(model.parameters, (noise * 128 + 127) / 255)
    np.testing.assert_allclose(logits, REFERENCE["noise_logits"], rtol=0, atol=1e-4)


def test_input_gradient_agrees_with_pytorch(model, photographs):
    ostrich = lambda images: model.apply(model.parameters, images)[:, 9].sum()
    gradient = np.asarray(jax.jit(jax.grad(ostrich))(photographs))[:, 1::4, 2::4]
    ours, theirs = gradient * 128 / 255, REFERENCE["ostrich_gradient"]  # theirs: by the normalized image
    error = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(ours, theirs, strict=True)]
    # In the other two photographs some units lie within rounding of a ReLU6's kink, and the two sides of a kink have
    # different gradients: in float64, PyTorch's float32 gradients are off by as much.
    assert error[0] < 1e-5
    assert error[2] < 1e-5
    assert max(error) < 1e-2


def test_best_guesses_are_the_published_ones(model, photographs):
    best = [guesses[0] for guesses in model.top(photographs, 1)]
    assert [(index, round(p, 3)) for _, index, p in best] == [(282, 0.386), (967, 0.951), (560, 0.162), (657, 0.296)]
    assert best[0][0] == "tiger cat"


def test_parameter_count_after_folding(model):
    assert sum(leaf.size for leaf in jax.tree.leaves(model.parameters)) == 4_631_000


def test_folding_a_batch_norm_is_exact():
    random = np.random.default_rng(0)
    part = lambda *shape: random.uniform(0.5, 1.5, shape)
    state = {"c.weight": part(4, 3, 1, 1), "n.weight": part(4), "n.bias": part(4)}
    state |= {"n.running_mean": part(4), "n.running_var": part(4)}
    folded = efficientnet._folded(state, "c", "n")
    x = part(5, 3)
    plain = x @ state["c.weight"][:, :, 0, 0].T
    normal = (plain - state["n.running_mean"]) / np.sqrt(state["n.running_var"] + 1e-3)
    expected = normal * state["n.weight"] + state["n.bias"]
    np.testing.assert_allclose(x @ folded["kernel"][0, 0] + folded["bias"], expected, rtol=1e-5)


def test_layers_are_listed_in_order_with_shapes(model):
    assert list(model.layers)[:3] == ["stem.pre", "stem", "blocks.0.depthwise.pre"]
    assert list(model.layers)[-3:] == ["head.pre", "head", "logits"]
    assert model.layers["blocks.3.expand"] == (56, 56, 144)
    assert model.layers["blocks.3.depthwise"] == (28, 28, 144)
    assert model.layers["blocks.15"] == (7, 7, 320)
    assert model.layers_at(64, 100)["head"] == (2, 4, 1280)
    assert [f"blocks.{i}" in model.layers for i in (0, 15, 16)] == [True, True, False]


def test_activations_lead_to_the_logits(model, photographs):
    found = model.activations(photographs[:1], ["logits", "head", "head.pre", "blocks.0"])
    assert list(found) == ["logits", "head", "head.pre", "blocks.0"]
    np.testing.assert_array_equal(found["head"], jnp.clip(found["head.pre"], 0, 6))
    last = model.parameters["logits"]
    logits = np.asarray(found["head"]).mean((1, 2)) @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(logits, found["logits"], atol=1e-4)
    assert found["blocks.0"].min() < 0  # a linear output


def test_a_shallow_layer_computes_no_deeper_one(model):
    jaxpr = jax.make_jaxpr(lambda x: model.collect(model.parameters, x, ("stem",)))(
        jnp.zeros((1, 64, 64, 3), jnp.float32)
    )
    assert sum(equation.primitive.name == "conv_general_dilated" for equation in jaxpr.eqns) == 1
    assert "dot_general" not in str(jaxpr)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: (x * 255).astype(np.uint8), r"float32 in \[0, 1\]; found uint8 \d+ \.\. \d+: divide bytes by 255"),
        (lambda x: x * 2 - 1, r"in \[0, 1\]; found -[\d.]+ \.\. [\d.]+: are they already normalized"),
        (lambda x: np.where(x == x.max(), np.nan, x), r"in \[0, 1\]; found nan"),
        (lambda x: x[0], r"shape \(n, height, width, 3\); found \(96, 96, 3\): add a batch axis"),
        (lambda x: x.transpose(0, 3, 1, 2), r"found \(1, 3, 96, 96\): channels come last"),
        (lambda x: x[:, :63], "64 pixels or more; found 63 x 96: enlarge"),
        (lambda x: x + 0j, r"found complex64: convert"),
    ],
)
def test_unsuitable_images_are_refused_in_one_sentence(model, photographs, change, message):
    with pytest.raises(ValueError, match=message):
        model(change(photographs[:1, :96, :96]))


def test_under_jit_only_the_shape_is_checked(model):
    logits = jax.jit(model)(jnp.full((1, 64, 64, 3), 0.5))
    np.testing.assert_allclose(logits, model(np.full((1, 64, 64, 3), 0.5, np.float32)), atol=1e-4)
    with pytest.raises(ValueError, match="64 pixels"):
        jax.eval_shape(model, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))


def test_near_misses_are_listed(model):
    with pytest.raises(ValueError, match=r"no layer 'blocks\.3\.expnd'; did you mean 'blocks\.3\.expand'"):
        model.activations(np.zeros((1, 64, 64, 3), np.float32), "blocks.3.expnd")
    with pytest.raises(ValueError, match="has no class 'volcanoe'; did you mean 'volcano'"):
        model.label_index("volcanoe")
    with pytest.raises(ValueError, match="has the classes 0 to 999; found 1000"):
        model.label_index(1000)
    with pytest.raises(ValueError, match="there is no network 'efficientnet'; did you mean 'efficientnet_lite"):
        models.load("efficientnet")
    with pytest.raises(ValueError, match='"fast" or "native"'):
        models.load("efficientnet_lite0", convolution="slow")


def test_classes_are_found_by_synonym_number_and_case(model):
    assert model.label_index("volcano") == model.label_index("Volcano") == 980
    assert model.label_index("ostrich") == model.label_index("struthio_camelus") == 9
    assert [model.label_index(name) for name in (9, "9", np.int64(9))] == [9, 9, 9]
    assert model.label_index("tabby, tabby cat") == model.label_index("tabby") == 281
    assert len(set(map(model.label_index, range(1000)))) == 1000
