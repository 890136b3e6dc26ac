"""Integrated Hessians, against closed forms of polynomials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from diffprog.attribute._inside.log_quadrature import log_nodes_and_weights
from tests.attribute.inside.models import mlp, numbers

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.filterwarnings("ignore:hessian_interactions. all second derivatives")
@pytest.mark.parametrize("powers", [(1, 1), (2, 1), (3, 2), (1, 0), (4, 0)])
def test_of_a_monomial_entries_are_products_of_shares(powers):
    """Of prod x_i^k_i from 0, feature i has the share k_i / sum k, and of that feature j again k_j / sum k."""
    model = lambda x: x[:, 0] ** powers[0] * x[:, 1] ** powers[1]
    x = jnp.array([[2.0, 3.0], [-1.5, 0.5]])
    found = attribute.hessian_interactions(model, x, steps=3)
    shares = np.array(powers) / sum(powers)
    expected = np.asarray(model(x))[:, None, None] * np.outer(shares, shares)
    np.testing.assert_allclose(found.values, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-13)


def test_features_that_do_not_meet_have_no_interaction():
    model = lambda x: jnp.sin(x[:, 0]) + x[:, 1] ** 3 + jnp.exp(x[:, 2])
    x, start = jnp.array([[1.0, 2.0, -0.5]]), jnp.array([[0.2, -1.0, 0.3]])
    with pytest.warns(attribute.AttributionWarning, match="sum over features"):
        found = attribute.hessian_interactions(model, x, baseline=start)
    each = jnp.array([jnp.sin(1.0) - jnp.sin(0.2), 9.0, jnp.exp(-0.5) - jnp.exp(0.3)])
    np.testing.assert_allclose(found.values[0], jnp.diag(each), rtol=1e-12, atol=1e-14)


def test_rows_are_integrated_gradients():
    x, start = numbers(10, 2, 3), numbers(11, 2, 3)
    found = attribute.hessian_interactions(mlp, x, 1, baseline=start, steps=40)
    rows = attribute.integrated_gradients(mlp, x, 1, baseline=start, steps=40).values
    np.testing.assert_allclose(found.values.sum(axis=2), rows, rtol=1e-10)
    np.testing.assert_allclose(found.values, found.values.swapaxes(1, 2), rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-12)


def test_words_are_groups_of_numbers():
    """Of a bilinear score of two words' vectors, a quarter of it is on each entry of the two."""
    x = numbers(3, 2, 3, 4)
    model = lambda x: jnp.sum(x[:, 0] * x[:, 2], axis=1)
    found = attribute.hessian_interactions(model, x, features=jnp.arange(3)[:, None], steps=2)
    expected = np.zeros((2, 3, 3))
    expected[:, ::2, ::2] = np.asarray(model(x))[:, None, None] / 4
    np.testing.assert_allclose(found.values, expected, rtol=1e-12, atol=1e-15)


def test_inside_the_model():
    model = lambda x: jnp.prod(dp.tap(2.0 * x + 1.0, "h"), axis=1)
    x = jnp.array([[1.0, 0.5]])
    found = attribute.hessian_interactions(model, x, baseline={"h": 0.0}, at="h", steps=2)
    np.testing.assert_allclose(found.values, np.full((1, 2, 2), 6.0 / 4), rtol=1e-13)


def test_a_network_of_relus_is_warned_of():
    model = lambda x: jax.nn.relu(x @ numbers(0, 3, 4)).sum(axis=1)
    with pytest.warns(attribute.AttributionWarning, match="softplus"):
        attribute.hessian_interactions(model, numbers(1, 1, 3), steps=2)


@pytest.mark.parametrize("steps", [1, 4, 30])
def test_the_rule_integrates_polynomials_with_the_weight(steps):
    nodes, weights = log_nodes_and_weights(steps)
    degrees = np.arange(2 * steps)
    np.testing.assert_allclose((weights @ nodes[:, None] ** degrees) * (degrees + 1) ** 2, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("features", "message"),
    [(jnp.arange(2.0), "integers"), (jnp.arange(5), "the shape of one example"), (jnp.array([-1, 0, 1]), "found -1")],
)
def test_what_are_no_features_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        attribute.hessian_interactions(lambda x: x.sum(axis=1), jnp.ones((1, 3)), features=features)
