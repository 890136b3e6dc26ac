"""The closed forms themselves, against matrices, searches and simulations that know nothing of them."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from diffprog.optimize import rates

SETTINGS = [(alpha, beta) for alpha in (0.05, 0.7, 1.3, 1.9) for beta in (0.0, 0.3, 0.64, 0.9)]
EIGENVALUES = np.array([0.01, 0.3, 1.0, 1.05])


def matrix(method, alpha, beta, eigenvalue):
    """A step on (x, x_prev), from the method's own definition."""
    gradient = lambda x: eigenvalue * x
    x, before = np.eye(2)  # rows: what multiplies x[k] and x[k-1]
    if method == "gradient descent":
        new = x - alpha * gradient(x)
    elif method == "heavy ball":
        new = x - alpha * gradient(x) + beta * (x - before)
    else:
        y = x + beta * (x - before)
        new = y - alpha * gradient(y)
    return np.stack([new, x])


CASES = [(method, *setting, x) for method in rates.METHODS for setting in SETTINGS for x in EIGENVALUES]


def test_rate_is_the_spectral_radius():
    for method, alpha, beta, eigenvalue in CASES:
        radius = np.max(np.abs(np.linalg.eigvals(matrix(method, alpha, beta, eigenvalue))))
        # An eigenvalue routine finds a double root to the square root of the rounding only.
        np.testing.assert_allclose(rates.rate(method, alpha, beta, eigenvalue), radius, atol=3e-8)


def test_iterates_are_powers_of_the_matrix():
    for method, alpha, beta, eigenvalue in CASES:
        step = matrix(method, alpha, beta, eigenvalue)
        powers = [np.linalg.matrix_power(step, k) @ [2.0, 2.0] for k in range(60)]
        expected = np.array([x for x, _ in powers])
        scale = np.maximum(1, np.abs(expected))
        found = rates.iterates(method, alpha, beta, eigenvalue, np.arange(60), 2.0)
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-12)


def test_iterates_at_a_double_root_in_exact_arithmetic():
    alpha, beta, eigenvalue = Fraction(4, 9), Fraction(1, 4), Fraction(9, 16)  # (1 - sqrt(alpha lambda))^2 = beta
    x = before = Fraction(1)
    for k in range(1, 40):
        x, before = x - alpha * eigenvalue * x + beta * (x - before), x
        found = rates.iterates("heavy ball", float(alpha), float(beta), float(eigenvalue), k)
        np.testing.assert_allclose(found, float(x), rtol=1e-12)
        assert x == Fraction(1, 2) ** k * (1 + Fraction(k, 2))  # k rate^k: slower than the rate, at every step


@pytest.mark.parametrize("method", rates.METHODS)
def test_border_of_stability(method):
    beta = np.array([0.0, 0.3, 0.9, 0.99])
    border = rates.largest_stable_step(method, beta, 4.0)
    assert np.all(rates.rate(method, border * (1 - 1e-6), beta, 4.0) < 1)
    assert np.all(rates.rate(method, border * (1 + 1e-6), beta, 4.0) > 1)


@pytest.mark.parametrize("method", rates.METHODS)
@pytest.mark.parametrize("kappa", [10, 100, 1e4])
def test_best_settings_have_their_rate_and_no_others_a_better_one(method, kappa):
    smallest, largest = 3 / kappa, 3.0
    modes = np.linspace(smallest, largest, 2001)
    alpha, beta, rate = rates.best(method, smallest, largest)
    # At a double root, rounding of p and q moves it by the square root of it.
    np.testing.assert_allclose(rates.rate(method, alpha, beta, modes).max(), rate, atol=3e-8)
    steps, momenta = np.meshgrid(
        alpha * np.linspace(0.5, 1.5, 41), np.clip(beta + np.linspace(-0.1, 0.1, 41), 0, 0.9999)
    )
    others = np.maximum(*(rates.rate(method, steps, momenta, end) for end in (smallest, largest)))
    assert others.min() > rate - 3e-8


def test_table_of_rates():
    table = {  # gradient descent, Nesterov with 1 / L, Nesterov at its best, heavy ball
        10: (0.8181818182, 0.6837722340, 0.6407893959, 0.5194938533),
        100: (0.9801980198, 0.9000000000, 0.8847219165, 0.8181818182),
        1e4: (0.9998000200, 0.9900000000, 0.9884531871, 0.9801980198),
    }
    for kappa, expected in table.items():
        descent, ball, nesterov = (rates.best(method, 1 / kappa, 1).rate for method in rates.METHODS)
        found = descent, rates.nesterov_standard(1 / kappa, 1).rate, nesterov, ball
        np.testing.assert_allclose(found, expected, atol=5e-11)


def test_nesterov_standard_has_its_rate():
    alpha, beta, rate = rates.nesterov_standard(0.02, 2.0)
    modes = np.linspace(0.02, 2.0, 2001)
    np.testing.assert_allclose(rates.rate("nesterov", alpha, beta, modes).max(), rate, atol=3e-8)
    assert rate == 0.9


def test_critical_damping_is_the_best_momentum_of_a_mode():
    momenta = np.linspace(0, 0.99, 100_001)
    found = rates.rate("heavy ball", 0.01, momenta, 4.0)
    np.testing.assert_allclose(momenta[found.argmin()], rates.critical_momentum(0.01, 4.0), atol=1e-5)
    np.testing.assert_allclose(found.min(), 0.8, atol=1e-3)  # on a grid of 1e-5: the rate has a square root's corner
    np.testing.assert_allclose(rates.rate("heavy ball", 0.01, 0.64, 4.0), 0.8, atol=3e-8)


def test_complex_roots_have_the_rate_root_of_beta_whatever_step_and_mode():
    alpha, eigenvalue = np.meshgrid([0.01, 0.3, 1.0], [0.5, 1.0, 3.0])
    product, beta = np.sqrt(alpha * eigenvalue), 0.95
    inside = ((1 - product) ** 2 < beta) & (beta < (1 + product) ** 2)
    np.testing.assert_allclose(rates.rate("heavy ball", alpha, beta, eigenvalue)[inside], beta**0.5)
    assert inside.sum() >= 7


@pytest.mark.parametrize("kappa", [10, 100, 1e4])
@pytest.mark.parametrize("method", rates.METHODS)
def test_steps_to_a_tolerance_are_those_that_are_counted(method, kappa):
    alpha, beta, _ = rates.best(method, 1 / kappa, 1.0)
    modes = np.linspace(1 / kappa, 1, 101)
    predicted = rates.steps_to(method, alpha, beta, modes, 1e-6)
    p, q = rates.recursion(method, alpha, beta, modes)
    x = before = np.ones_like(modes)
    above = [1.0]
    for _ in range(int(predicted) + 300):
        x, before = p * x + q * before, x
        above.append(np.abs(x).max())
    counted = np.flatnonzero(np.array(above) > 1e-6)[-1] + 1
    assert counted == predicted


def test_steps_of_complex_modes_are_bounded_closely():
    predicted = rates.steps_to("heavy ball", 0.1, 0.95, [1.0, 3.0], 1e-6)
    path = np.abs(rates.iterates("heavy ball", 0.1, 0.95, np.array([[1.0], [3.0]]), np.arange(2000))).max(0)
    counted = np.flatnonzero(path > 1e-6)[-1] + 1
    assert predicted - 20 < counted <= predicted
    assert rates.steps_to("heavy ball", 2.1, 0.0, 1.0) == np.inf


def test_stationary_variance_of_known_settings():
    found = rates.stationary_variance("heavy ball", 0.1, np.array([0, 0.5, 0.9]), 1, 9)
    np.testing.assert_allclose(found, [0.473684, 0.931034, 4.621622], atol=5e-7)
    np.testing.assert_allclose(rates.stationary_variance("heavy ball", 0.02, 0.99, 1, 1), 1.005051, atol=5e-7)
    np.testing.assert_allclose(rates.stationary_variance("nesterov", 0.1, 0.9, 1, 9), 2.435706, atol=5e-7)
    np.testing.assert_allclose(rates.stationary_variance("gradient descent", 0.1, 0, 2, 9), 0.9 / (2 * 1.8))
    assert rates.stationary_variance("gradient descent", 2.1, 0, 1) == np.inf


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("method, alpha, beta", [("heavy ball", 0.4, 0.7), ("nesterov", 0.4, 0.7)])
def test_stationary_variance_is_the_fixed_point_of_its_recursion(method, alpha, beta, lookahead):
    if lookahead and method != "nesterov":
        with pytest.raises(ValueError, match="only nesterov looks ahead"):
            rates.stationary_variance(method, alpha, beta, 1.5, lookahead=True)
        return
    step, covariance = matrix(method, alpha, beta, 1.5), np.zeros((2, 2))
    for _ in range(600):
        covariance = step @ covariance @ step.T + np.diag([alpha**2, 0])
    seen = np.array([1 + beta, -beta]) if lookahead else np.array([1.0, 0])
    found = rates.stationary_variance(method, alpha, beta, 1.5, lookahead=lookahead)
    np.testing.assert_allclose(found, seen @ covariance @ seen, rtol=1e-10)


def test_stationary_covariance_solves_its_equation():
    rng = np.random.default_rng(0)
    a, c = (m @ m.T for m in rng.normal(size=(2, 4, 4)))
    v = rates.stationary_covariance(a, c, 0.01)
    np.testing.assert_allclose(a @ v + v @ a - 0.01 * a @ v @ a, 0.01 * c, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 6])
def test_batches_without_replacement_by_enumeration(batch_size):
    gradients = np.random.default_rng(0).normal(size=(6, 3))
    means = np.array([gradients[list(batch)].mean(0) for batch in itertools.combinations(range(6), batch_size)])
    expected = rates.batch_factor(6, batch_size) * np.cov(gradients.T, bias=True)
    np.testing.assert_allclose(np.cov(means.T, bias=True) if len(means) > 1 else 0, expected, atol=1e-14)


def test_least_squares_moments_by_enumeration():
    rng = np.random.default_rng(1)
    features, targets = rng.normal(size=(4, 2)), rng.normal(size=4)
    minimum = np.linalg.lstsq(features, targets, rcond=None)[0]
    batches = [list(b) for b in itertools.combinations(range(4), 2)]
    points = np.zeros((1, 2))
    expected = [np.mean(np.sum((points - minimum) ** 2, -1))]
    for _ in range(4):  # all 6^4 sequences of batches
        steps = [points - 0.1 * (points @ features[b].T - targets[b]) @ features[b] / 2 for b in batches]
        points = np.concatenate(steps)
        expected.append(np.mean(np.sum((points - minimum) ** 2, -1)))
    found = rates.least_squares_moments(features, targets, np.zeros(2), 0.1, 2, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="method 'adam' is not known"):
        rates.rate("adam", 0.1, 0.9, 1)
    with pytest.raises(ValueError, match="indefinite or singular"):
        rates.best("heavy ball", -1.0, 2.0)
