"""The problems are what the literature says, and our methods solve them: NIST's certified digits, and minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import optimize
from diffprog.optimize import problems


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def digits(found, certified):
    """Log relative error: the digits that agree, of the parameter that agrees least."""
    with np.errstate(divide="ignore"):
        return np.min(-np.log10(np.abs(np.asarray(found) - certified) / np.abs(certified)))


@pytest.mark.parametrize("problem", problems.FUNCTIONS.values(), ids=problems.FUNCTIONS)
def test_minima_are_where_they_are_said_to_be(x64, problem):
    for point, value in zip(problem.minimizers, problem.values, strict=True):
        np.testing.assert_allclose(problem.function(jnp.array(point)), value, atol=1e-12)
        if problem.name != "Ackley":  # which has a kink there
            np.testing.assert_allclose(jax.grad(problem.function)(jnp.array(point)), 0, atol=1e-9)
            assert np.linalg.eigvalsh(jax.hessian(problem.function)(jnp.array(point)))[0] > 0


def test_a_data_set_that_is_not_there():
    with pytest.raises(ValueError, match="name must be one of Bennett5, BoxBOD"):
        problems.nist("Longley")


def test_certified_sums_of_squares(x64):
    for name in problems.NIST_NAMES:
        problem = problems.nist(name)
        value = float(problem.function(jnp.array(problem.minimizers[0])))
        if name == "Lanczos1":  # 1.4e-25 of data near 1: eleven certified digits of the parameters leave 1e-21
            assert value < 1e-20
        else:
            np.testing.assert_allclose(value, problem.values[0], rtol=1e-6)


def solve(name):
    problem = problems.nist(name)
    return problem, [optimize.least_squares(problem.residuals, jnp.array(start)) for start in problem.starts]


FAST = ("MGH17", "MGH10", "BoxBOD", "Lanczos3")  # the hard ones


def check_certified(name):
    problem, fits = solve(name)
    for found in fits:
        assert found.converged
        assert digits(found.parameters, problem.minimizers[0]) >= 6, (name, found)
        # Lanczos1's residuals are 1e-13 of data near 1: rounding alone leaves three digits of their size.
        assert digits(found.standard_errors, problem.standard_errors) >= (2.5 if name == "Lanczos1" else 4), name
    return sum(found.evaluations["function"] for found in fits)


@pytest.mark.parametrize("name", FAST)
def test_certified_parameters_and_errors_of_hard_fits(x64, name):
    check_certified(name)


@pytest.mark.slow
def test_all_certified_parameters_and_errors(x64):
    """54 of 54. SciPy's better method needs 3128 values where both solve (`python -m benchmarks.least_squares`)."""
    assert sum(check_certified(name) for name in problems.NIST_NAMES) <= 0.75 * 3128


def is_solved(problem, found):
    scale = float(problem.function(jnp.array(problem.starts[0]))) - np.array(problem.values)
    # Minima that are not 0 are known to eight digits or fewer.
    within = 1e-10 * scale + 1e-5 * np.abs(problem.values)
    return bool(np.any(float(found) <= np.array(problem.values) + within))


QUICK = ("1 Rosenbrock", "3 Powell badly scaled", "4 Brown badly scaled", "10 Meyer", "14 Wood", "17 Osborne 1")
SOME = [p for p in problems.MORE_GARBOW_HILLSTROM if p.name in QUICK]


@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("problem", SOME, ids=lambda problem: problem.name)
def test_hard_problems_of_more_garbow_and_hillstrom(x64, problem, solver):
    found = optimize.minimize(problem.function, jnp.array(problem.starts[0]), optimize.trust_region(solver=solver))
    assert found.converged and is_solved(problem, found.value)


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "most"), [("exact", 1832), ("cg", 3728)])
def test_all_problems_of_more_garbow_and_hillstrom(x64, solver, most):
    """27 of 27, with no more values than SciPy's trust-exact and trust-ncg (`python -m benchmarks.minimize`)."""
    evaluations = 0
    for problem in problems.MORE_GARBOW_HILLSTROM:
        found = optimize.minimize(problem.function, jnp.array(problem.starts[0]), optimize.trust_region(solver=solver))
        assert found.converged and is_solved(problem, found.value), (problem.name, found)
        evaluations += found.evaluations["function"]
    assert evaluations <= most


def test_large_residuals_are_for_newton(x64):
    """On Brown and Dennis' problem Levenberg-Marquardt goes zigzag; a method that asks for the Hessian does not."""
    (problem,) = (p for p in problems.MORE_GARBOW_HILLSTROM if p.name == "16 Brown-Dennis")
    found = optimize.least_squares(problem.residuals, jnp.array(problem.starts[0]), optimize.trust_region())
    assert is_solved(problem, 2 * found.value) and found.evaluations["function"] < 15


@pytest.mark.slow
def test_all_problems_as_least_squares(x64):
    """26 of 27: not Brown and Dennis' (see above)."""
    for problem in problems.MORE_GARBOW_HILLSTROM:
        found = optimize.least_squares(problem.residuals, jnp.array(problem.starts[0]))
        assert is_solved(problem, 2 * found.value) or problem.name == "16 Brown-Dennis", (problem.name, found)
