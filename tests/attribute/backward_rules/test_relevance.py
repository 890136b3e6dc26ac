"""LRP: conservation, its rules' closed forms, and what is not a layer."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffprog import attribute
from diffprog.attribute import rules
from tests.attribute.backward_rules.programs import RELUS, attention, convolutional, dense, wave

ASSETS = Path(__file__).parents[3] / "assets"
pytestmark = pytest.mark.usefixtures("x64")

LAYER_RULES = {
    "zero": rules.zero(),
    "epsilon": rules.epsilon(0.01),
    "gamma": rules.gamma(0.25),
    "z_plus": rules.z_plus(),
    "alpha_beta": rules.alpha_beta(2, 1),
    "z_box": rules.composite(rules.z_plus(), first=rules.z_box(-2.0, 2.0)),
    "w_square": rules.composite(rules.z_plus(), first=rules.w_square()),
    "flat": rules.composite(rules.z_plus(), first=rules.flat()),
}


def points():
    return wave(3, 6, phase=0.3) * 2


@pytest.mark.parametrize("bias", ["absorb", "spread"])
@pytest.mark.parametrize("rule", [name for name in LAYER_RULES if name != "epsilon"])
def test_relevance_is_conserved(rule, bias):
    """The inputs' and the constants' part add up to the score; with bias="spread" the constants have none."""
    found = attribute.lrp(dense(jax.nn.relu), points(), rules=LAYER_RULES[rule], bias=bias)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)
    if bias == "spread":
        np.testing.assert_array_equal(found.baseline_score, 0)
    elif rule in ("zero", "gamma", "z_plus", "alpha_beta"):
        assert (abs(found.baseline_score) > 0.01).any()


@pytest.mark.parametrize("rule", ["zero", "gamma"])
@pytest.mark.parametrize("spelling", RELUS)
def test_a_relu_has_one_rule_however_it_is_spelled(spelling, rule):
    run = lambda activation: attribute.lrp(dense(activation), points(), rules=LAYER_RULES[rule]).values
    np.testing.assert_allclose(run(RELUS[spelling]), run(jax.nn.relu), atol=1e-14)


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_zero_is_gradient_times_input_of_a_network_of_relus(bias):
    network, x = dense(jax.nn.relu, bias), points()
    gradient = jax.grad(lambda x: network(x).sum())(x)
    found = attribute.lrp(network, x, rules=rules.zero())
    np.testing.assert_allclose(found.values, x * gradient, atol=1e-14)
    fades = attribute.lrp(network, x, rules=rules.epsilon(1e-9))
    np.testing.assert_allclose(fades.values, x * gradient, atol=1e-7)


def test_epsilon_absorbs_its_part():
    w, x = wave(6, phase=0.4), points()
    found = attribute.lrp(lambda x: x @ w[:, None], x, 0, rules=rules.epsilon(0.5))
    z = x @ w
    np.testing.assert_allclose(found.values, x * w * (z / (z + 0.5 * jnp.sign(z)))[:, None], rtol=1e-12)
    np.testing.assert_allclose(found.gap, z - z * z / (z + 0.5 * jnp.sign(z)), rtol=1e-10)


def test_gamma_favors_terms_of_the_sign_of_their_sum():
    w, x = wave(6, phase=0.4), points()
    found = attribute.lrp(lambda x: x @ w[:, None], x, 0, rules=rules.gamma(0.5))
    terms, z = x * w, (x @ w)[:, None]
    weighted = jnp.where(jnp.sign(terms) == jnp.sign(z), 1.5, 1.0) * terms
    np.testing.assert_allclose(found.values, weighted / weighted.sum(1, keepdims=True) * z, rtol=1e-12)


def test_alpha_beta_by_hand():
    w, x = wave(6, phase=0.4), wave(3, 6, phase=2.0)
    found = attribute.lrp(lambda x: x @ w[:, None], x, 0, rules=rules.alpha_beta(3, 2))
    terms, z = x * w, (x @ w)[:, None]
    up, down = jnp.maximum(terms, 0), jnp.minimum(terms, 0)
    expected = z * (3 * up / up.sum(1, keepdims=True) - 2 * down / down.sum(1, keepdims=True))
    np.testing.assert_allclose(found.values[:2], expected[:2], rtol=1e-12)
    np.testing.assert_allclose(found.values[2], terms[2], rtol=1e-12)  # which are all negative: there is one part


def test_rules_that_read_no_activations_by_hand():
    w = jnp.asarray([[3.0], [-4.0]])
    x = jnp.asarray([[0.5, 0.25]])
    one = lambda rule: attribute.lrp(lambda x: x @ w, x, 0, rules=rules.composite(first=rule)).values
    z = 0.5
    np.testing.assert_allclose(one(rules.w_square()), [[z * 9 / 25, z * 16 / 25]], rtol=1e-14)
    np.testing.assert_allclose(one(rules.flat()), [[z / 2, z / 2]], rtol=1e-14)
    terms = np.array([0.5 * 3 - 0.0 * 3, 0.25 * -4 - 1.0 * -4])
    np.testing.assert_allclose(one(rules.z_box(0.0, 1.0)), [z * terms / terms.sum()], rtol=1e-14)


def test_a_box_is_in_the_units_of_the_inputs():
    """A network that scales its inputs first, with a change of sign, divides as one whose weights are scaled."""
    w, x = wave(6, 4, phase=0.4), points() / 2
    last = wave(4, phase=0.1)
    box = rules.composite(rules.z_plus(), first=rules.z_box(-1.0, 1.0))
    scaled = attribute.lrp(lambda x: jax.nn.relu(((0.25 - x) / 0.5 - 0.5) @ w) @ last, x, rules=box)
    folded = attribute.lrp(lambda x: jax.nn.relu(x @ (-2 * w)) @ last, x, rules=box)
    np.testing.assert_allclose(scaled.values, folded.values, atol=1e-13)


@pytest.mark.parametrize("rule", ["z_plus", "z_box", "flat"])
def test_positive_rules_give_positive_relevance(rule):
    """For a positive score of inputs without sign, and no biases."""
    x = abs(points())
    found = attribute.lrp(
        lambda x: jax.nn.relu(jax.nn.relu(x @ wave(6, 8, phase=0.4)) @ wave(8, 3, phase=0.2)),
        x,
        1,
        rules=LAYER_RULES[rule],
    )
    assert (found.score > 0).any()
    assert (found.values >= 0).all()
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)


def test_normalization_belongs_to_the_layer_before_it():
    """A product followed by a scaling and a shift is one layer: as if these were folded into the weights."""
    w, x = wave(6, 8, phase=0.4), points()
    scale, shift, last = wave(8, phase=0.8), wave(8, phase=1.1), wave(8, phase=0.1)
    apart = lambda x: jax.nn.relu((x @ w - 0.25) / 0.5 * scale[None] + shift[None]) @ last
    folded = lambda x: jax.nn.relu(x @ (w / 0.5 * scale) + (shift - 0.5 * scale)[None]) @ last
    for rule in (rules.z_plus(), rules.gamma(0.25)):
        of = lambda network, rule=rule: attribute.lrp(network, x, rules=rule, bias="spread").values
        np.testing.assert_allclose(of(apart), of(folded), atol=1e-12)


CONSERVING = {
    "gelu": lambda x: jax.nn.gelu(x @ wave(6, 8, phase=0.4)).sum(1),
    "softplus by hand": lambda x: jnp.log1p(jnp.exp(x @ wave(6, 8, phase=0.4))).sum(1),
    "layer norm": lambda x: ((x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 0.1) * jnp.arange(6)).sum(1),
    "product": lambda x: (x[:, :3] * x[:, 3:]).sum(1),
    "matrix product": lambda x: jnp.einsum("bi,bj->b", x[:, :3], x[:, 3:] ** 2),
    "product of six": lambda x: jnp.prod(x, 1),
    "maximum": lambda x: (x @ wave(6, 8, phase=0.4)).max(1),
    "sort": lambda x: (jnp.sort(x, 1) * jnp.arange(6)).sum(1),
    "choice": lambda x: jnp.where(x[:, :3] > x[:, 3:], x[:, :3] ** 2, 3.0 * x[:, 3:]).sum(1),
    "by index": lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1)[:, 0],
    "power": lambda x: (abs(x[:, :3]) ** x[:, 3:]).sum(1),
    "scan": lambda x: lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum(-1)), x, jnp.stack([wave(6, 6, phase=1.0)] * 3))[
        1
    ].sum(0),
    "while_loop": lambda x: lax.while_loop(lambda c: (c**2).sum() < 900, lambda c: 1.3 * jnp.sinh(c), x).sum(1),
    "branches by row": lambda x: jax.vmap(
        lambda row: lax.cond(row.sum() > 0, lambda r: (r**2).sum(), lambda r: r.sum(), row)
    )(x),
}


@pytest.mark.parametrize("name", CONSERVING)
def test_what_is_no_layer_conserves_too(name):
    found = attribute.lrp(CONSERVING[name], points(), rules=rules.zero())
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)
    assert found.unruled == ()


def test_attention_has_the_rules_of_its_paper():
    """Against the gradient of the program that those rules amount to: parts are stopped, and halves are taken."""
    x, stop = points(), lax.stop_gradient

    def rewritten(x):
        weights = wave(8, 5, phase=0.2)
        half = lambda a: a / 2 + stop(a / 2)
        h = x[..., None] * wave(8, phase=0.6)
        query, key, value = h @ weights, h @ weights[::-1], 2 * (h @ weights)
        scores = jax.nn.softmax(half(jnp.einsum("bid,bjd->bij", query, key)), axis=-1)
        out = half(jnp.einsum("bij,bjd->bid", scores, value))
        centered = out - out.mean(-1, keepdims=True)
        out = centered * stop(lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-3))
        return (out * stop(jax.nn.gelu(out) / out)).sum((1, 2))

    found = attribute.attention_lrp(attention, x, rules=rules.zero())
    gradient = jax.grad(lambda x: rewritten(x).sum())(x)
    np.testing.assert_allclose(found.values, x * gradient, atol=1e-13)
    assert found.method == "attention_lrp"


@pytest.mark.parametrize(
    "softmax",
    [
        lambda z: jnp.exp(z) / jnp.exp(z).sum(-1, keepdims=True),
        lambda z: jax.nn.softmax(z, where=jnp.ones(6, bool)),
        lambda z: (e := jnp.exp(z - z.max(-1, keepdims=True))) / e.sum(-1, keepdims=True),
    ],
)
def test_a_softmax_passes_its_derivative_on_however_it_is_spelled(softmax):
    x, w = points(), wave(6, phase=0.2)
    expected = attribute.lrp(lambda x: jax.nn.softmax(x) @ w, x, rules=rules.zero()).values
    gradient = jax.grad(lambda x: (jax.nn.softmax(x) @ w).sum())(x)
    np.testing.assert_allclose(expected, x * gradient, atol=1e-15)
    found = attribute.lrp(lambda x: softmax(x) @ w, x, rules=rules.zero()).values
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_composites_choose_by_kind_depth_and_selector():
    x, network = wave(2, 4, 4, 2, phase=0.3), convolutional(jax.nn.relu)
    of = lambda chosen: attribute.lrp(network, x, 1, rules=chosen).values
    kinds = rules.composite(convolution=rules.gamma(0.5), dense=rules.z_plus())
    gamma, plus, by_kind = of(rules.gamma(0.5)), of(rules.z_plus()), of(kinds)
    np.testing.assert_array_equal(by_kind, of(rules.composite(depths=[(0.0, rules.gamma(0.5)), (0.3, rules.z_plus())])))
    np.testing.assert_array_equal(
        by_kind,
        of(rules.composite(rules.z_plus(), overrides={"conv_general_dilated": rules.gamma(0.5)})),
    )
    np.testing.assert_array_equal(by_kind, of(rules.composite(rules.z_plus(), first=rules.gamma(0.5))))
    assert abs(by_kind - gamma).max() > 1e-3
    assert abs(by_kind - plus).max() > 1e-3
    np.testing.assert_array_equal(
        of(rules.epsilon_plus(0.01)), of(rules.composite(convolution=rules.z_plus(), dense=rules.epsilon(0.01)))
    )


def test_an_override_by_scope_and_by_line():
    x = points()

    def network(x):
        with jax.named_scope("lower"):
            h = jax.nn.relu(x @ wave(6, 8, phase=0.4))
        return jax.nn.relu(h @ wave(8, 8, phase=0.5)) @ wave(8, phase=0.1)

    line = network.__code__.co_firstlineno + 2
    of = lambda overrides: attribute.lrp(network, x, rules=rules.composite(rules.zero(), overrides=overrides)).values
    by_line = of({f"test_relevance.py:{line}": rules.z_plus()})
    np.testing.assert_array_equal(of({"lower/*": rules.z_plus()}), by_line)
    np.testing.assert_array_equal(of({lambda site: site.path == "lower": rules.z_plus()}), by_line)
    assert abs(by_line - of({})).max() > 1e-3


def test_another_box_is_another_result():
    """The bounds are arguments of the compiled program, and no part of its key."""
    x = points()
    of = lambda low: attribute.lrp(dense(jax.nn.relu), x, rules=rules.composite(first=rules.z_box(low, 2.0))).values
    assert abs(of(-2.0) - of(-3.0)).max() > 1e-3


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda f, x: attribute.lrp(f, x, rules="epsilon"), TypeError, "rules must be of diffprog.attribute.rules"),
        (lambda f, x: attribute.lrp(f, x, bias="keep"), ValueError, "bias must be one of 'absorb', 'spread'"),
        (lambda f, x: rules.alpha_beta(1, 1), ValueError, "alpha - beta must be 1"),
        (lambda f, x: rules.composite(depths=[(0.5, rules.zero()), (0.2, rules.zero())]), ValueError, "growing d"),
        (
            lambda f, x: rules.composite(dense=rules.zero(), depths=[(0.5, rules.zero())]),
            ValueError,
            "by kind .* or by depth",
        ),
        (lambda f, x: attribute.lrp(f, x, rules=rules.flat()), ValueError, r"rules.composite\(first="),
        (
            lambda f, x: attribute.lrp(f, x, rules=rules.composite(overrides={"dot_generl": rules.zero()})),
            ValueError,
            "an override means no layer: .*did you mean 'dot_general'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(dense(jax.nn.relu), points())


@pytest.mark.slow
def test_the_parts_of_a_real_network():
    """The inputs, the offset of the preprocessing and the biases of EfficientNet-Lite0 add up to its logit."""
    from diffprog import images, models

    with jax.enable_x64(False):
        cat = images.network_crop(images.read_image(ASSETS / "chelsea.png"))[None]
        found = attribute.lrp(models.load("efficientnet_lite0"), cat, 282, rules=rules.zero())
        np.testing.assert_allclose(np.asarray(found.values, np.float64).sum(), -1.524, atol=2e-3)
        np.testing.assert_allclose(found.baseline_score, 12.654 - 1.963, atol=2e-3)
        np.testing.assert_allclose(found.score, 9.1667, atol=2e-4)
        assert abs(float(found.gap[0])) < 1e-5 * float(found.score[0])
