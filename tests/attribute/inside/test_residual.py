"""Residual streams, lenses and attention, against sums and products by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from tests.attribute.inside.models import LAYERS, WIDTH, numbers, readout, transformer

pytestmark = pytest.mark.usefixtures("x64")
PARTS = ["embedded", "heads", "mlp"]


def test_contributions_of_blocks_add_up_to_the_logit():
    x = numbers(12, 2, 3, WIDTH)
    found = attribute.residual_contributions(transformer, x, 1, at=PARTS)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-13)
    np.testing.assert_allclose(found.baseline_score, -0.2, rtol=1e-13)  # the readout's bias
    parts = dp.activations(transformer, PARTS)(x)
    column = numbers(9, WIDTH, 2)[:, 1]
    for name in ("heads", "mlp"):
        expected = jnp.moveaxis(parts[name], 1, 0) * column
        np.testing.assert_allclose(found.values[name][:, :, -1], expected[:, :, -1], rtol=1e-12)
        np.testing.assert_array_equal(found.values[name][:, :, :-1], 0.0)
    assert found.values["mlp"].shape == (2, LAYERS, 3, WIDTH)


def test_a_normalized_stream_is_read_with_the_scale_that_it_has():
    x = numbers(12, 2, 3, WIDTH)
    model = lambda x: transformer(x, is_normalized=True)
    found = attribute.residual_contributions(model, x, 0, at=PARTS, frozen="rsqrt")
    assert found.baseline_score is None
    np.testing.assert_allclose(found.gap, 0.3, rtol=1e-12)  # the readout's bias is in no block
    stream = dp.activations(model, "stream")(x)["stream"][-1, :, -1]
    scale = 1 / jnp.sqrt(jnp.mean(stream**2, axis=-1))
    parts = dp.activations(model, "mlp")(x)["mlp"][0, :, -1]
    expected = scale[:, None] * parts * numbers(9, WIDTH, 2)[:, 0]
    np.testing.assert_allclose(found.values["mlp"][:, 0, -1], expected, rtol=1e-12)


def test_what_is_not_linear_is_said():
    square = lambda x: jnp.sum(dp.tap(2.0 * x, "h") ** 2, axis=1)
    with pytest.warns(attribute.AttributionWarning, match="does not read the selected values linearly"):
        found = attribute.residual_contributions(square, jnp.ones((1, 3)), at="h")
    np.testing.assert_allclose(found.gap, -12.0)


def test_a_lens_reads_each_depth():
    x = numbers(12, 2, 3, WIDTH)
    found = attribute.logit_lens(transformer, x, at=["embedded", "stream"], readout=readout)
    stream = dp.activations(transformer, "stream")(x)["stream"]
    np.testing.assert_allclose(found["embedded"], readout(x), rtol=1e-12)
    assert found["stream"].shape == (LAYERS, 2, 3, 2)
    np.testing.assert_allclose(found["stream"], readout(stream), rtol=1e-12)
    np.testing.assert_allclose(found["stream"][-1, :, -1], transformer(x), rtol=1e-12)


# ---------------------------------------------------------------- attention


def test_rollout_of_a_transformer_is_the_product_of_its_layers():
    x = numbers(12, 2, 3, WIDTH)
    attention = dp.activations(transformer, "attention")(x)["attention"]
    rolled = attribute.attention_rollout(attention)
    assert rolled.shape == (2, 3, 3)
    np.testing.assert_allclose(rolled.sum(axis=-1), 1.0, rtol=1e-13)
    mixed = [(each.mean(axis=1) + jnp.eye(3)) / 2 for each in attention]
    np.testing.assert_allclose(rolled, mixed[2] @ mixed[1] @ mixed[0], rtol=1e-13)
    one = attribute.attention_rollout([each[:, 1] for each in attention], heads=None, residual=0.0)
    np.testing.assert_allclose(one, attention[2, :, 1] @ attention[1, :, 1] @ attention[0, :, 1], rtol=1e-13)


def test_identity_attention_gives_the_identity():
    identity = jnp.broadcast_to(jnp.eye(4), (2, 3, 4, 4))
    for heads in ("mean", "max", "min"):
        np.testing.assert_allclose(
            attribute.attention_rollout([identity] * 5, heads=heads), jnp.stack([jnp.eye(4)] * 2)
        )


@pytest.mark.parametrize(
    ("attentions", "options", "message"),
    [
        ([], {}, "found none"),
        ([jnp.ones((2, 3, 3))], {}, "sum to 1"),
        ([jnp.ones((2, 3, 4)) / 4], {}, "positions, positions"),
        ([jnp.eye(3)], {}, "heads, positions"),
        ([jnp.eye(3)[None]], {"heads": "sum"}, "heads must be"),
        ([jnp.eye(3)[None]], {"residual": 2.0}, "weight of the identity"),
    ],
)
def test_what_is_no_attention_is_refused(attentions, options, message):
    with pytest.raises(ValueError, match=message):
        attribute.attention_rollout(attentions, **options)


def test_rollout_under_jit():
    attention = jax.nn.softmax(numbers(1, 2, 3, 4, 4))
    np.testing.assert_allclose(
        jax.jit(attribute.attention_rollout)(attention), attribute.attention_rollout(attention), rtol=1e-14
    )
