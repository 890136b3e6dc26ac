"""Newton's methods: quadratic convergence, saddles, every kind of parameters; models against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import optimize
from diffprog.optimize._methods.quadratic_model import exact_step, truncated_step
from diffprog.optimize._search.oracle import Counts

METHODS = [optimize.trust_region(), optimize.trust_region(solver="cg"), optimize.newton_cg()]
NAMES = ["exact", "cg", "newton_cg"]
every_method = pytest.mark.parametrize("method", METHODS, ids=NAMES)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def wood(x):
    return (
        100 * (x[1] - x[0] ** 2) ** 2
        + (1 - x[0]) ** 2
        + 90 * (x[3] - x[2] ** 2) ** 2
        + (1 - x[2]) ** 2
        + 10 * (x[1] + x[3] - 2) ** 2
        + (x[1] - x[3]) ** 2 / 10
    )


def random_model(seed, eigenvalues):
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.normal(size=(len(eigenvalues),) * 2))
    return generator.normal(size=len(eigenvalues)), basis @ np.diag(eigenvalues) @ basis.T, basis


@pytest.mark.parametrize("eigenvalues", [[1, 2, 5.0], [-3, 1, 4.0], [0, 0, 2.0], [-1, -1, -1.0], [1e-8, 1, 1e8]])
@pytest.mark.parametrize("radius", [1e-3, 0.7, 50.0])
def test_the_exact_step_satisfies_its_optimality_conditions(x64, eigenvalues, radius):
    """More and Sorensen: (H + t I) s = -g, H + t I positive semidefinite, t (radius - |s|) = 0."""
    gradient, hessian, _ = random_model(0, eigenvalues)
    found = exact_step(jnp.array(gradient), jnp.array(hessian), jnp.array(radius))
    step = np.asarray(found.step)
    length = np.linalg.norm(step)
    assert length <= radius * 1.011
    t = -(step @ (hessian @ step) + gradient @ step) / (step @ step)
    scale = np.linalg.norm(gradient) + np.linalg.norm(hessian @ step)
    np.testing.assert_allclose(hessian @ step + t * step + gradient, 0, atol=1e-7 * scale)
    assert t >= max(0, -min(eigenvalues)) - 1e-7
    assert t < 1e-7 or length > 0.98 * radius
    np.testing.assert_allclose(
        found.promised, -(gradient @ step + step @ hessian @ step / 2), rtol=1e-6
    )  # condition 1e16


def test_the_hard_case_goes_along_the_lowest_curvature(x64):
    _, hessian, basis = random_model(1, [-2, 1, 3.0])
    gradient = basis @ np.array([0, 1.0, 1.0])  # none of it along the first direction
    found = exact_step(jnp.array(gradient), jnp.array(hessian), jnp.array(5.0))
    inner = -1 / (np.array([1, 3.0]) + 2)
    # The border is met to one part in a hundred.
    np.testing.assert_allclose(np.abs(basis.T @ found.step), [np.sqrt(25 - inner @ inner), *np.abs(inner)], rtol=0.01)
    assert found.is_curved


def test_conjugate_gradients_solve_inside_and_stop_on_the_border(x64):
    gradient, hessian, _ = random_model(2, np.linspace(1, 9, 8))
    product = lambda vector, counts: (hessian @ vector, counts.plus(hessian_vector=1))
    probe, tolerance = jnp.ones(8), jnp.array(1e-12)
    inside, counts = truncated_step(product, jnp.array(gradient), probe, jnp.array(1e3), tolerance, Counts.none())
    np.testing.assert_allclose(inside.step, -np.linalg.solve(hessian, gradient), rtol=1e-9)
    assert counts.hessian_vector <= 10 and inside.is_inside
    border, _ = truncated_step(product, jnp.array(gradient), probe, jnp.array(0.1), tolerance, Counts.none())
    np.testing.assert_allclose(np.linalg.norm(border.step), 0.1, rtol=1e-12)
    assert border.promised > 0 and not border.is_inside


@every_method
def test_the_digits_double_towards_the_minimum(x64, method):
    found = optimize.minimize(rosenbrock, jnp.array([1.2, 1.2]), method, keeps_path=True)
    errors = np.linalg.norm(np.asarray(found.path) - 1, axis=1)
    errors = errors[np.concatenate([[True], np.diff(errors) != 0])]  # steps that were taken
    late = errors[errors < 0.1]
    assert found.converged and len(late) >= 3 and late[-1] < 1e-12
    if method is METHODS[0]:
        assert np.all(late[1:] <= 100 * late[:-1] ** 2 + 1e-15)
    else:  # conjugate gradients stop early
        assert late[-1] <= 100 * late[-2] ** 1.5 + 1e-15


@every_method
@pytest.mark.parametrize("start", [[-3.0, -1, -3, -1], [-0.96797, 0.94714, -0.96952, 0.95125]])
def test_a_saddle_is_left(x64, method, start):
    """Wood's function has a stationary point of value 7.877 with a direction of negative curvature."""
    found = optimize.minimize(wood, jnp.array(start), method)
    assert found.converged and found.value < 1e-20


@every_method
def test_a_start_on_a_saddle_is_left(x64, method):
    found = optimize.minimize(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4, jnp.zeros(2), method)
    np.testing.assert_allclose(found.value, -1, rtol=1e-10)
    np.testing.assert_allclose(np.abs(found.parameters), [0, np.sqrt(2)], atol=1e-6)


def test_rounding_is_not_taken_for_negative_curvature():
    """Where the gradient is 0 the tolerance is 0 too, and what was left underflowed: a minimum looked like a saddle."""
    hessian = jnp.array([[802.0, -400.0], [-400.0, 200.0]])
    probes = jax.random.normal(jax.random.key(0), (500, 2))

    def curved(probe, tolerance):
        product = lambda v, counts: (hessian @ v, counts)
        found, _ = truncated_step(product, jnp.zeros(2), probe, jnp.array(10.0), tolerance, Counts.none())
        return found.is_curved

    assert not jnp.any(jax.vmap(curved, (0, None))(probes, jnp.array(0.0)))


@every_method
def test_any_pytree_and_complex_leaves(x64, method):
    def function(p):
        return jnp.abs(p["z"] ** 2 - (3 + 4j)) ** 2 + jnp.sum(jnp.cosh(p["w"] - p["n"]))

    start = {"z": jnp.array(1.0 + 0j), "w": jnp.zeros(3), "n": jnp.array([1, 2, 3])}
    found = optimize.minimize(function, start, method)
    np.testing.assert_allclose(found.parameters["z"], 2 + 1j, rtol=1e-7)
    np.testing.assert_allclose(found.parameters["w"], [1, 2, 3], rtol=1e-7)
    assert found.converged


@every_method
def test_rows_of_a_batch_end_by_themselves(method):
    starts = jnp.array([[-1.2, 1.0], [0.0, 0.0], [1.0, 1.0]])
    many = jax.vmap(lambda start: optimize.minimize(rosenbrock, start, method))(starts)
    for row, start in enumerate(starts):
        one = optimize.minimize(rosenbrock, start, method)
        np.testing.assert_allclose(many.parameters[row], one.parameters, atol=1e-3)
        np.testing.assert_allclose(one.parameters, 1, atol=2e-3)
        assert one.converged and many.converged[row]
    assert many.num_steps[2] <= 1 < many.num_steps[0]


@every_method
def test_where_a_function_is_not_finite_a_step_is_taken_back(x64, method):
    found = optimize.minimize(lambda x: x - jnp.log(x), jnp.array(30.0), method)
    np.testing.assert_allclose(found.parameters, 1, rtol=1e-7)


def test_hundreds_of_parameters_by_products_alone(x64):
    """By default, no Hessian is made of more than 128 parameters."""
    function = lambda x: jnp.sum(100 * (x[1::2] - x[::2] ** 2) ** 2 + (1 - x[::2]) ** 2)
    found = optimize.minimize(function, jnp.tile(jnp.array([-1.2, 1.0]), 100), optimize.trust_region())
    np.testing.assert_allclose(found.parameters, 1, rtol=1e-8)
    assert found.evaluations["hessian_vector"] < 200


def test_a_solver_that_is_not_there():
    with pytest.raises(ValueError, match='must be "exact" or "cg"'):
        optimize.trust_region(solver="lu")


def test_gauss_newton(x64):
    generator = np.random.default_rng(1)
    design, target = generator.normal(size=(9, 4)), generator.normal(size=9)
    linear = optimize.least_squares(lambda p: design @ p - target, jnp.zeros(4), optimize.gauss_newton())
    np.testing.assert_allclose(linear.parameters, np.linalg.lstsq(design, target)[0], rtol=1e-12)
    assert linear.converged and linear.num_steps <= 2
    # Whole steps diverge from here: |x| > 1.39 of arctan.
    far = optimize.least_squares(jnp.arctan, jnp.array(5.0), optimize.gauss_newton())
    np.testing.assert_allclose(far.parameters, 0, atol=1e-12)
    bounded = optimize.least_squares(
        lambda p: design @ p - target, jnp.zeros(4), optimize.gauss_newton(), bounds=(-0.1, 0.1)
    )
    from scipy.optimize import lsq_linear

    np.testing.assert_allclose(bounded.parameters, lsq_linear(design, target, (-0.1, 0.1)).x, atol=1e-6)
