import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.optimize._methods.box_model import cauchy_point, quadratic_model, subspace_minimum
from diffprog.optimize._methods.lbfgs import two_loop_direction
from diffprog.optimize._methods.lbfgsb import box_direction
from diffprog.optimize._methods.pairs import Pairs, add_pair

SIZE = 12


def memory(rng, used, count=4):
    """Pairs of a convex function, and the matrix of the BFGS formula for the newest of them."""
    root = rng.normal(size=(SIZE, SIZE))
    hessian = root @ root.T + np.eye(SIZE)
    pairs = Pairs(jnp.zeros((count, SIZE)), jnp.zeros((count, SIZE)), jnp.float32(1))
    kept = []
    for _ in range(used):
        step = rng.normal(size=SIZE)
        kept.append((step, hessian @ step))
        pairs = add_pair(pairs, *map(jnp.float32, kept[-1]))
    dense = np.eye(SIZE)
    if used:
        step, change = kept[-1]
        dense *= (change @ change) / (step @ change)
    for step, change in kept[-count:]:
        along = dense @ step
        dense += np.outer(change, change) / (change @ step) - np.outer(along, along) / (step @ along)
    return pairs, dense


def walked_cauchy_point(dense, point, gradient, lower, upper):
    """Algorithm CP of the paper with a full matrix: from bound to bound until the model rises."""
    bound = np.where(gradient < 0, upper, lower)
    times = np.where(gradient != 0, (point - bound) / np.where(gradient != 0, gradient, 1), np.inf)
    now, here = 0.0, point.copy()
    for time in [*np.unique(times[times > 0]), np.inf]:
        direction = np.where(times > now, -gradient, 0)
        slope = gradient @ direction + direction @ dense @ (here - point)
        if slope >= 0:
            break
        step = -slope / (direction @ dense @ direction)
        if step < time - now:
            return here + step * direction
        here = np.where(times <= time, bound, here + (time - now) * direction)
        now = time
    return here


@jax.jit
def everything(pairs, point, gradient, lower, upper):
    model = quadratic_model(pairs)
    cauchy = cauchy_point(model, point, gradient, lower, upper)
    return model.multiply(gradient), cauchy, subspace_minimum(model, point, gradient, cauchy, lower, upper)


@pytest.mark.not_under("strict", reason="calls what minimize calls under JAX's defaults")
@pytest.mark.parametrize("used", [0, 3, 4, 6])
def test_model_and_its_minimum_are_those_of_full_matrices(used):
    """Against the BFGS formula, the paper's walk along the bent path, and a linear system in the free elements."""
    rng = np.random.default_rng(used)
    pairs, dense = memory(rng, used)
    stops = 0
    for _ in range(10):
        point, gradient = rng.uniform(0, 1, SIZE).round(1), rng.normal(size=SIZE) * 10 ** rng.uniform(-1, 1.5)
        lower, upper = np.zeros(SIZE), np.ones(SIZE)
        times, cauchy, minimum = map(np.asarray, everything(pairs, *map(jnp.float32, (point, gradient, lower, upper))))
        np.testing.assert_allclose(times, dense @ gradient, rtol=1e-3, atol=1e-3 * np.abs(dense @ gradient).max())
        walked = walked_cauchy_point(dense, point, gradient, lower, upper)
        np.testing.assert_allclose(cauchy, walked, atol=2e-4)
        free = (cauchy > 0) & (cauchy < 1)
        stops += np.sum(~free)
        residual = (gradient + dense @ (walked - point))[free]
        way = np.zeros(SIZE)
        way[free] = -np.linalg.solve(dense[np.ix_(free, free)], residual)
        projected = np.clip(walked + way, 0, 1)
        if gradient @ (projected - point) < -1e-4:
            np.testing.assert_allclose(minimum, projected, atol=1e-3)
        assert np.all((minimum >= 0) & (minimum <= 1)) and gradient @ (minimum - point) <= 1e-5
    assert stops > 10


@pytest.mark.parametrize("used", [0, 3, 6])
def test_the_two_loops_solve_with_the_matrix_of_the_formula(used):
    rng = np.random.default_rng(used)
    pairs, dense = memory(rng, used)
    gradient = rng.normal(size=SIZE)
    arguments = pairs, jnp.zeros(SIZE), *(jnp.float32(x) for x in (gradient, np.full(SIZE, -1e9), np.full(SIZE, 1e9)))
    expected = -np.linalg.solve(dense, gradient)
    for direction_of in (two_loop_direction, box_direction):
        np.testing.assert_allclose(jax.jit(direction_of)(*arguments), expected, atol=2e-3 * np.abs(expected).max())
