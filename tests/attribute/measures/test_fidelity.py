"""Does credit predict what changes do? Closed forms of linear and quadratic scores, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from diffprog import attribute
from diffprog.attribute import Attribution, features, measures

MATRIX = np.array([[2.0, 0.5, -1.0], [0.5, 1.0, 0.3], [-1.0, 0.3, 3.0]])
X = np.array([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])
WEIGHTS = np.array([1.0, -2.0, 0.5])
SIGMA = 0.3


def quadratic(x):
    return jnp.einsum("ni,ij,nj->n", x, MATRIX, x) / 2


def linear(x):
    return x @ WEIGHTS + 0.7


OPTIONS = {"key": 0, "samples": 20_000, "noise": SIGMA, "is_absolute": True}
# Of the gradient: the variance of what it does not know, I'AI / 2.
LEAST = SIGMA**4 / 4 * (2 * np.sum(MATRIX**2) + np.trace(MATRIX) ** 2)


def test_infidelity_of_a_linear_score_is_zero(x64):
    gradient = np.tile(WEIGHTS, (2, 1))
    found = measures.infidelity(linear, X, gradient, key=0)
    np.testing.assert_allclose(found.value, 0, atol=1e-28)
    credit = attribute.gradient_times_input(linear, X, baseline=0.2)
    found = measures.infidelity(linear, X, credit, key=0, perturbation="removal", baseline=0.2)
    np.testing.assert_allclose(found.value, 0, atol=1e-28)


def test_infidelity_of_a_quadratic(x64):
    found = measures.infidelity(quadratic, X, X @ MATRIX, **OPTIONS)
    assert (np.abs(found.value - LEAST) < 4.5 * found.error).all()
    assert (found.error < 0.05 * found.value).all()


def test_the_optimum_is_the_least(x64):
    """(E II')^-1 E I(f(x) - f(x - I)), here the gradient: any other map has s^2 |difference|^2 more."""
    for seed in range(3):
        other = np.random.default_rng(seed).normal(size=3)
        found = measures.infidelity(quadratic, X, X @ MATRIX + other, **OPTIONS)
        assert (np.abs(found.value - LEAST - SIGMA**2 * other @ other) < 4.5 * found.error).all()


def test_scaling_leaves_the_direction(x64):
    exact = measures.infidelity(linear, X, np.tile(-7 * WEIGHTS, (2, 1)), key=0, is_scaled=True)
    np.testing.assert_allclose(exact.value, 0, atol=1e-25)
    other = np.random.default_rng(0).normal(size=3)
    found = measures.infidelity(linear, X, np.tile(other, (2, 1)), is_scaled=True, **OPTIONS)
    rest = WEIGHTS @ WEIGHTS - (other @ WEIGHTS) ** 2 / (other @ other)
    assert (np.abs(found.value - SIGMA**2 * rest) < 4.5 * found.error).all()
    nothing = measures.infidelity(linear, X, np.zeros((2, 3)), is_scaled=True, **OPTIONS)
    assert (np.abs(nothing.value - SIGMA**2 * WEIGHTS @ WEIGHTS) < 4.5 * nothing.error).all()


def test_removals_are_those_of_the_features(x64):
    """One of two features goes: (x'Ax - y'Ay) / 2 against its credit, each as often."""
    groups = np.array([0, 1, 1])
    credit = np.array([[0.3, 1.0, -2.0]])
    found = measures.infidelity(
        quadratic, X[:1], credit, key=0, perturbation="removal", features=groups, samples=4000, baseline=0.5
    )
    without = [np.where(groups == gone, 0.5, X[:1]) for gone in (0, 1)]
    falls = [float(quadratic(X[:1])[0] - quadratic(each)[0]) for each in without]
    errors = np.array([(0.3 - falls[0]) ** 2, (-1.0 - falls[1]) ** 2])
    assert abs(found.value[0] - errors.mean()) < 4.5 * found.error[0]
    np.testing.assert_allclose(found.error[0], np.ptp(errors) / 2 / np.sqrt(4000), rtol=0.01)


def test_mu_fidelity_of_an_additive_score(x64):
    x = np.random.default_rng(0).normal(size=(2, 10))
    model = lambda x: (x**3).sum(axis=1)
    found = measures.mu_fidelity(model, x, x**3, key=0)
    np.testing.assert_allclose(found.value, 1, rtol=1e-12)
    np.testing.assert_allclose(measures.mu_fidelity(model, x, -5 * x**3, key=0).value, -1, rtol=1e-12)


def test_mu_fidelity_of_a_pair_of_scores(x64):
    """All pairs of 6 features are drawn: the correlation over all 15 of them, by SciPy."""
    x, credit = np.random.default_rng(0).normal(size=(2, 1, 6))
    model = lambda x: jnp.prod(1 + 0.3 * jnp.sin(x), axis=1)
    pairs = [(i, j) for i in range(6) for j in range(i)]
    losses, sums = [], []
    for i, j in pairs:
        changed = x.copy()
        changed[0, [i, j]] = 0.1
        losses.append(float(model(x)[0] - model(changed)[0]))
        sums.append(credit[0, i] + credit[0, j])
    for is_ranked, truth in ((False, pearsonr), (True, spearmanr)):
        found = measures.mu_fidelity(
            model, x, credit, key=1, share=1 / 3, samples=3000, baseline=0.1, is_ranked=is_ranked
        )
        assert abs(found.value[0] - truth(sums, losses)[0]) < 4.5 * found.error[0]
        np.testing.assert_allclose(found.error[0], (1 - found.value[0] ** 2) / np.sqrt(2997))


def test_sensitivity_n(x64):
    x = np.random.default_rng(0).normal(size=(2, 12))
    found = measures.sensitivity_n(lambda x: (x**3).sum(axis=1), x, x**3, key=0, shares=[0.25, 0.5])
    np.testing.assert_allclose(found.curve, 1, rtol=1e-12)
    np.testing.assert_array_equal(found.at, [3, 6])
    # Of one size it is mu-fidelity with the same sets.
    credit = np.random.default_rng(1).normal(size=(2, 12))
    model = lambda x: jnp.prod(1 + 0.3 * jnp.sin(x), axis=1)
    one = measures.sensitivity_n(model, x, credit, key=3, shares=[0.25], samples=50)
    other = measures.mu_fidelity(model, x, credit, key=3, share=0.25, samples=50)
    np.testing.assert_array_equal(one.value, other.value)


def test_what_does_not_vary_has_no_correlation(x64):
    x = np.ones((1, 6))
    found = measures.mu_fidelity(lambda x: x.sum(axis=1), x, x, key=0)
    assert np.isnan(found.value).all()


def test_images_and_batches():
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(5, 8, 8, 3)).astype(np.float32)
    weights = jnp.asarray(generator.normal(size=(192, 4)) / 10, jnp.float32)
    model = lambda x: jnp.tanh(x.reshape(len(x), -1) @ weights)
    credit = attribute.gradient(model, images, 2)
    options = {"key": 0, "samples": 20}
    asked = [
        lambda x, a: measures.infidelity(model, x, a, 2, **options),
        lambda x, a: measures.infidelity(model, x, a, 2, perturbation="removal", is_scaled=True, **options),
        lambda x, a: measures.mu_fidelity(model, x, a, 2, features=features.patches(2), **options),
    ]
    for ask in asked:
        many = ask(images, credit)
        for row in range(5):
            one = ask(images[row : row + 1], credit.values[row : row + 1])
            assert one.value[0] == many.value[row] and one.error[0] == many.error[row]


def exact(model, x, score):
    return Attribution(np.asarray(x) @ MATRIX, jnp.zeros(len(x)))


CORNERS = [2 * np.array(corner) - 1 for corner in np.ndindex(2, 2, 2)]


@pytest.mark.parametrize(
    ("norm", "largest"),
    [("l2", np.linalg.norm(MATRIX, 2)), ("linf", max(np.linalg.norm(MATRIX @ corner) for corner in CORNERS))],
)
def test_max_sensitivity_of_a_quadratic(x64, norm, largest):
    """Over a ball r |A|_2 / |Ax|; over a cube the largest at its corners."""
    found = measures.max_sensitivity(quadratic, X, exact, key=0, radius=0.05, samples=1000, norm=norm)
    bound = 0.05 * largest / np.linalg.norm(X @ MATRIX, axis=1)
    assert (found.value <= bound * (1 + 1e-12)).all()
    assert (found.value > 0.9 * bound).all()
    few = {"key": 0, "radius": 0.05, "samples": 5, "norm": norm}
    ours = measures.max_sensitivity(quadratic, X, attribute.gradient, **few)
    np.testing.assert_allclose(ours.value, measures.max_sensitivity(quadratic, X, exact, **few).value, rtol=1e-10)
    assert list(ours.evaluations) == [6, 6]


def test_max_sensitivity_of_a_linear_score_is_zero(x64):
    found = measures.max_sensitivity(linear, X, attribute.gradient, key=0)
    np.testing.assert_array_equal(found.value, 0)
    with pytest.raises(ValueError, match="method must return an Attribution"):
        measures.max_sensitivity(linear, X, lambda *_: X, key=0)


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("infidelity", {"perturbation": "gauss"}, "perturbation must be one of 'noise', 'removal'; found 'gauss'"),
        ("infidelity", {"noise": 0}, "noise must be a positive number"),
        ("mu_fidelity", {"share": 1.0}, "at least one and not all 3; found a share of 1.0"),
        ("mu_fidelity", {"samples": 3}, "samples must be a whole number of at least 4"),
        ("sensitivity_n", {"shares": [0.1]}, "at least one and not all 3; found a share of .*0.1"),
    ],
)
def test_bad_input_gets_a_sentence(measure, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(measures, measure)(quadratic, X, X, key=0, **options)


def test_a_score_that_is_not_finite_is_named():
    model = lambda x: jnp.where(x[:, 0] == 0, jnp.nan, x.sum(axis=1))
    with pytest.raises(ValueError, match=r"the score of the inputs with features taken away is .*nan.* for example 0"):
        measures.mu_fidelity(model, X, X, key=0, share=0.5)


def test_not_under_jit():
    with pytest.raises(ValueError, match="call them outside of jit"):
        jax.jit(lambda x: measures.deletion(quadratic, x, X).value)(X)
