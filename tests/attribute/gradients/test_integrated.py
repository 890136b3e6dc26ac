"""Integrated and expected gradients against closed forms, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute

WEIGHTS = np.array([[0.3, -1.2], [0.7, 0.4], [-0.5, 0.9]])


def smooth_net(x):
    hidden = dp.tap(jnp.tanh(x @ WEIGHTS), "hidden")
    return jnp.sum(jnp.exp(0.3 * hidden), axis=1)


def test_a_monomial_is_shared_by_its_powers(x64):
    powers = np.array([1, 2, 3])
    x = jnp.array([[0.5, 1.5, 2.0], [1.0, -1.0, 0.3]])
    found = attribute.integrated_gradients(lambda x: jnp.prod(x**powers, axis=1), x, steps=3)
    score = np.prod(np.asarray(x) ** powers, axis=1)
    np.testing.assert_allclose(found.values, score[:, None] * powers / powers.sum(), rtol=1e-14)
    np.testing.assert_allclose(found.score, score, rtol=1e-15)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)


@pytest.mark.parametrize("quadrature", ["gauss_legendre", "midpoint", "trapezoid"])
@pytest.mark.parametrize("steps", [2, 7])
def test_a_linear_function_is_exact_by_every_rule_at_any_number_of_steps(x64, quadrature, steps):
    weights, x, start = np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.0]]), np.array([0.5, 0.0, -1.0])
    options = {"baseline": start, "steps": steps, "quadrature": quadrature}
    found = attribute.integrated_gradients(lambda x: x @ weights + 4, x, **options)
    np.testing.assert_allclose(found.values, weights * (x - start), rtol=1e-15)


def test_rules_converge_at_their_rates(x64):
    x = jnp.array([[0.4, -0.8, 1.1]])
    gap = lambda quadrature, steps: abs(
        attribute.integrated_gradients(smooth_net, x, steps=steps, quadrature=quadrature).gap[0]
    )
    assert gap("gauss_legendre", 8) < 1e-8
    for quadrature, intervals in (("midpoint", 0), ("trapezoid", 1)):
        np.testing.assert_allclose(gap(quadrature, 10 + intervals) / gap(quadrature, 20 + intervals), 4, rtol=0.02)


def test_one_unit_is_shared_by_what_enters_it(x64):
    """At a kink the quadrature is exact to one part in its number of steps."""
    weights, x, start = np.array([1.0, -2.0, 0.5]), np.array([[3.0, 0.5, 1.0]]), np.array([[-1.0, 0.2, 0.3]])
    unit = lambda x: jax.nn.relu(x @ weights + 0.2)
    found = attribute.integrated_gradients(unit, x, baseline=start, steps=4001, quadrature="midpoint")
    z, z0 = (x @ weights + 0.2)[0], (start @ weights + 0.2)[0]
    secant = (max(z, 0) - max(z0, 0)) / (z - z0)
    np.testing.assert_allclose(found.values, (x - start) * weights * secant, rtol=5e-4)


def test_the_smaller_of_two_gets_all(x64):
    found = attribute.integrated_gradients(lambda x: x.min(axis=1), np.array([[2.0, 1.0]]), steps=5)
    np.testing.assert_allclose(found.values, [[0, 1]], atol=1e-15)


def test_steps_double_until_the_gap_is_met(x64):
    x = jnp.array([[0.01, 0.0, 0.0], [3.0, -2.0, 4.0]])
    found = attribute.integrated_gradients(smooth_net, x, steps=2, until_gap=1e-6)
    assert found.converged.all() and found.steps[0] < found.steps[1]
    assert (np.abs(found.gap) <= 1e-6 * np.abs(found.score - found.baseline_score)).all()
    assert found.evaluations[1] == sum(2**k + 2 for k in range(1, 1 + int(np.log2(found.steps[1]))))
    for row, steps in enumerate(found.steps):
        alone = attribute.integrated_gradients(smooth_net, x[row : row + 1], steps=int(steps))
        np.testing.assert_array_equal(found.values[row], alone.values[0])
    with pytest.warns(attribute.AttributionWarning, match="1 of 2 examples"):
        short = attribute.integrated_gradients(smooth_net, x, steps=2, until_gap=1e-6, max_steps=4)
    assert list(short.converged) == [True, False] and short.steps[1] == 4


def test_any_value_inside_takes_the_inputs_place(x64):
    x, start = jnp.array([[0.4, -0.8, 1.1], [1.0, 2.0, -3.0]]), jnp.array([0.1, 0.1, 0.2])
    found = attribute.integrated_gradients(smooth_net, x, at="hidden", baseline=start, steps=20)
    hidden, start_hidden = np.tanh(x @ WEIGHTS), np.tanh(start @ WEIGHTS)
    each = np.exp(0.3 * hidden) - np.exp(0.3 * start_hidden)  # the score is additive in the hidden units
    np.testing.assert_allclose(found.values["hidden"], each, rtol=1e-12)
    np.testing.assert_allclose(found.gap, 0, atol=1e-13)
    given = attribute.integrated_gradients(smooth_net, x, at="hidden", baseline={"hidden": start_hidden}, steps=20)
    np.testing.assert_allclose(given.values["hidden"], found.values["hidden"], rtol=1e-14)


def test_values_of_a_loop_take_the_inputs_place(x64):
    def looped(x):
        def turn(carry, weight):
            carry = dp.tap(jnp.tanh(carry * weight), "turn")
            return carry, carry

        _, every = jax.lax.scan(turn, x, jnp.array([0.5, 1.5, 2.0]))
        return jnp.sum(every**2, axis=(0, 2))

    x = jnp.array([[0.4, -0.8], [1.0, 2.0]])
    found = attribute.integrated_gradients(looped, x, at="turn", steps=3)
    values, carry = [], np.asarray(x)
    for weight in (0.5, 1.5, 2.0):
        values.append(carry := np.tanh(carry * weight))
    # Every turn's value is given, so that the later ones do not depend on the earlier: each is credited its square.
    np.testing.assert_allclose(found.values["turn"], np.stack(values, axis=1) ** 2, rtol=1e-12)


def test_several_scores_from_one_forward_pass(x64):
    model = lambda x: jnp.tanh(x @ WEIGHTS)
    x = jnp.array([[0.4, -0.8, 1.1], [1.0, 2.0, -3.0]])
    labels = jnp.array([1, 0])
    wanted = [0, 1, labels, lambda output: output.sum(axis=1)]
    several = attribute.integrated_gradients(model, x, wanted, steps=4)
    for row, score in enumerate(wanted):
        one = attribute.integrated_gradients(model, x, score, steps=4)
        np.testing.assert_allclose(several.values[row], one.values, rtol=1e-14)
        np.testing.assert_allclose(several.gap[row], one.gap, atol=1e-15)
        np.testing.assert_allclose(several.score[row], one.score, rtol=1e-15)


def test_expected_gradients_of_a_square(x64):
    data = jax.random.normal(jax.random.key(1), (50, 2))
    x = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    found = attribute.expected_gradients(lambda x: jnp.sum(x**2, axis=1), x, baseline=data, key=0, samples=20_000)
    truth = x**2 - jnp.mean(data**2, axis=0)
    assert (jnp.abs(found.values - truth) < 4 * found.error).all()
    fewer = attribute.expected_gradients(lambda x: jnp.sum(x**2, axis=1), x, baseline=data, key=0, samples=2000)
    np.testing.assert_allclose(fewer.error / found.error, np.sqrt(10), rtol=0.2)
    np.testing.assert_allclose(found.baseline_score, jnp.mean(jnp.sum(data**2, axis=1)), rtol=1e-12)
    np.testing.assert_allclose(found.gap, found.score - found.baseline_score - found.values.sum(axis=1), atol=1e-12)


def test_an_infinite_slope_at_the_start_does_not_count():
    found = attribute.integrated_gradients(lambda x: jnp.sqrt(x).sum(axis=1), jnp.array([[4.0, 1.0]]), steps=200)
    np.testing.assert_allclose(found.values, [[2, 1]], rtol=5e-3)


def test_attributions_are_differentiable(x64):
    x = jnp.array([[0.4, -0.8, 1.1]])
    of_values = lambda x: jnp.sum(attribute.integrated_gradients(smooth_net, x, steps=8).values[:, 0] ** 2)

    def by_hand(x):
        nodes, weights = np.polynomial.legendre.leggauss(8)
        slope = jax.grad(lambda point: smooth_net(point).sum())
        slopes = sum(w / 2 * slope((n + 1) / 2 * x) for n, w in zip(nodes, weights, strict=True))
        return jnp.sum((x * slopes)[:, 0] ** 2)

    np.testing.assert_allclose(dp.grad(of_values)(x), jax.grad(by_hand)(x), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(of_values)(x), jax.grad(by_hand)(x), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": np.zeros(2)}, "broadcast to the inputs"),
        ({"baseline": np.nan}, "baseline must be finite"),
        ({"quadrature": "simpson"}, "quadrature must be one of"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"at": "hiden"}, "hidden"),
        ({"score": 1}, r"needs an output \(n, classes\)"),
        ({"score": lambda output: output.sum()}, "one real number per example"),
        ({"until_gap": -1.0}, "until_gap must be a positive number"),
        ({"engine": "torch"}, "engine 'torch' is not known"),
    ],
)
def test_one_sentence_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        attribute.integrated_gradients(smooth_net, np.ones((2, 3)), **options)


def test_words_of_others_are_answered():
    with pytest.raises(TypeError, match="steps="):
        attribute.integrated_gradients(smooth_net, np.ones((2, 3)), n_steps=10)
