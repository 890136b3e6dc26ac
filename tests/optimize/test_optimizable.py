"""Difficulties named right, by what is measured: no name of a function is known to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.optimize import HARDNESS, optimizable
from diffprog.optimize._page.verdicts import verdicts
from tests.optimize.hard_functions import KNOWN, OTHERS, inputs


def assert_named(name, table, **options):
    function, start, kind, family = table[name]
    found = optimizable(function, start, **options)
    assert found.kind == kind, str(found)
    assert found.family == family
    assert found.verdict.startswith(f"{kind}: ") and "\n" not in found.verdict
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_twelve_of_twelve(name):
    assert_named(name, KNOWN)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_twelve_others(name):
    assert_named(name, OTHERS)


@pytest.mark.slow
@pytest.mark.parametrize("key", [1, 2, 3])
@pytest.mark.parametrize("double", [False, True])
def test_the_verdict_depends_neither_on_the_draws_nor_on_the_precision(double, key):
    with jax.enable_x64(double):
        for table in (KNOWN, OTHERS):
            for name, (function, start, kind, family) in table.items():
                if double:
                    start = jax.tree.map(lambda x: x.astype(jnp.float64), start)
                assert_named(name, {name: (function, start, kind, family)}, key=key)


def test_evidence_has_the_numbers():
    found = assert_named("quadratic", KNOWN)
    np.testing.assert_allclose(found.advice.condition, 1e4, rtol=0.02)  # float32: rounding of the smallest eigenvalue
    assert "1,074" in found.verdict  # steps of heavy ball to a millionth, from the closed form
    assert any(d.kind == "ill-conditioned" for d in found.difficulties)
    found = assert_named("piecewise quadratic", KNOWN)
    assert "alpha 0.1111 and beta 0.4444" in found.verdict and "does not converge from" in found.verdict
    assert "by a factor 25" in found.verdict
    found = assert_named("rounding network", KNOWN)
    assert "p['first']: round is flat at hard_functions.py" in found.verdict


def test_noise_floor_is_that_of_the_formula():
    function = lambda x, key: 2 * jnp.sum(x**2) + 3 * jnp.vdot(x, jax.random.normal(key, x.shape, x.dtype))
    found = optimizable(function, jnp.array([2.0, 1.0]))
    assert found.kind == "noisy"
    words = found.verdict.split()
    variance = float(words[words.index("variance") + 1].rstrip(":"))
    np.testing.assert_allclose(variance, 18, rtol=0.5)  # of 64 draws of two: 3 standard errors of 0.18
    floor = float(words[words.index("about") + 1])
    np.testing.assert_allclose(floor, variance / 8, rtol=0.01)  # alpha s^2 / (2 (2 - alpha lambda)) at alpha 1 / lambda


FURTHER = {
    "sphere": (lambda x: jnp.sum((x - 1) ** 2), jnp.array([3.0, -2.0]), "well conditioned"),
    "complex": (lambda z: jnp.sum(jnp.abs(z - (1 + 2j)) ** 2), jnp.array([0.5 + 0.1j]), "well conditioned"),
    "quartic": (lambda x: jnp.sum(x**4), jnp.array([1.0, 2.0]), "degenerate"),
    "root at zero": (lambda x: jnp.sum(jnp.sqrt(x)), jnp.array([0.0, 1.0]), "not finite"),
    "jump in a bowl": (lambda x: jnp.sum(x**2 + jnp.where(x > 0.7, 1.0, 0)), jnp.array([1.3]), "discontinuous"),
    "valley with a bend": (
        lambda p: (1 - p[0]) ** 2 + 20 * (3 * p[1] - p[0] ** 2) ** 2,
        jnp.array([-1.21, 0.853]),  # indefinite there, with a twentieth of the slope along the falling direction
        "curved valley",
    ),
    "linear": (lambda x: jnp.sum(x), jnp.array([1.0, 2.0]), "unbounded"),
    "constant": (lambda x: 0 * jnp.sum(x) + 1, jnp.array([1.0, 2.0]), "constant"),
}


@pytest.mark.parametrize("name", FURTHER)
def test_further_kinds(name):
    function, start, kind = FURTHER[name]
    found = optimizable(function, start)
    assert found.kind == kind, str(found)


@pytest.mark.slow
def test_a_network_with_other_leaves_and_many_parameters():
    rng = np.random.default_rng(0)
    parameters = {"a": rng.normal(size=(3, 40)).astype(np.float32), "b": np.zeros(40, np.float32), "steps": 3}
    loss = lambda p: jnp.mean((jnp.tanh(inputs @ p["a"]) @ p["b"] - jnp.sin(inputs[:, 0])) ** 2)
    found = optimizable(loss, parameters, num_starts=4)
    assert found.kind in HARDNESS and found.parameters["steps"] == 3
    assert found.value < float(loss(parameters)) and found.parameters["a"].shape == (3, 40)
    np.testing.assert_allclose(found.value, loss(found.parameters), rtol=1e-5)


def test_reach_decides_what_is_near():
    wells = lambda x: jnp.sum(jnp.sin(3 * x) + 0.1 * x**2)
    assert optimizable(wells, jnp.array([1.6]), reach=0.3).kind != "multimodal"
    assert optimizable(wells, jnp.array([1.6]), reach=jnp.array([6.0])).kind == "multimodal"


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(reach=-1.0), "reach must be positive"),
        (dict(reach={"x": 1.0}), "reach must be a positive number, or shaped like the parameters"),
        (dict(num_starts=1), "num_starts must be a whole number of at least 2"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        optimizable(lambda x: jnp.sum(x**2), jnp.ones(2), **options)


def test_each_kind_has_its_family_and_its_words():
    for kind, row in HARDNESS.items():
        assert row.family in ("black box", "first order", "second order"), kind
        assert row.optimizers and row.means and row.remedy
    assert set(x[2] for x in {**KNOWN, **OTHERS}.values()) <= set(HARDNESS)


@pytest.mark.slow
def test_the_gallery_of_the_page_is_judged_right():
    expected = {
        "hero": "curved valley",
        "lessard": "changing curvature",
        "saddle": "saddle",
        "plateau": "plateau",
        "cliff": "cliff",
        "step": "piecewise constant",
        "kink": "kink",
    }
    assert {name: verdict.partition(":")[0] for name, verdict in verdicts().items()} == expected
    assert "(floor is flat in the formula above)" in verdicts()["step"]  # and at no line of the package
    assert not any(".py:" in verdict for verdict in verdicts().values())
