import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize as scipy_optimize

from diffprog import optimize

SIZE = 12


def quadratics(points, matrices, slopes):
    return jnp.einsum("ni,nij,nj->n", points, matrices, points) / 2 - jnp.sum(slopes * points, axis=-1)


def rosenbrock(points, factor):
    inner = 100 * (points[:, 1:] - points[:, :-1] ** 2) ** 2 + (1 - points[:, :-1]) ** 2
    return factor[:, 0] * jnp.sum(inner, axis=-1)


def carlini_wagner(points, images, inner, outer):
    """|r|^2 + 3 log(1 + exp(lead)) of a small network."""
    logits = jnp.tanh((points - 0.5) @ inner[0]) @ outer[0]
    return jnp.sum((points - images) ** 2, axis=-1) + 3 * jnp.logaddexp(0, logits[:, 0] - logits[:, 1])


def minimize(fun, points, lower, upper, args, **options):
    """Each row by itself, in one compiled program."""
    bounds = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), points.shape) for bound in (lower, upper))
    args = [jnp.broadcast_to(x, (len(points), *np.shape(x)[1:])) for x in args]

    @jax.jit
    @jax.vmap
    def rows(point, lower, upper, *args):
        alone = lambda x: fun(x[None], *(each[None] for each in args))[0]
        return optimize.minimize(alone, point, optimize.lbfgsb(), bounds=(lower, upper), **options)

    found = rows(jnp.asarray(points, jnp.float32), *bounds, *args)
    return found, np.asarray(found.parameters), found.evaluations["gradient"]


def problems(rng, count=6):
    roots = rng.normal(size=(count, SIZE, SIZE))
    images = rng.uniform(0, 1, (count, SIZE)).round(1)
    return {
        "quadratic": (
            quadratics,
            rng.uniform(0, 1, (count, SIZE)),
            (0, 1),
            False,
            (roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(SIZE), 6 * rng.normal(size=(count, SIZE))),
        ),
        "rosenbrock": (
            rosenbrock,
            rng.uniform(0.5, 2, (count, SIZE)),
            (0.5, [0.8] + [2] * (SIZE - 1)),
            False,
            (10.0 ** rng.uniform(-6, 6, (count, 1)),),
        ),
        "network": (
            carlini_wagner,
            images,
            (0, 1),
            True,
            (images, rng.normal(size=(1, SIZE, 16)), rng.normal(size=(1, 16, 2))),
        ),
    }


def scipys(fun, point, lower, upper, args):
    """The same function of one row, minimized in float64."""
    with jax.enable_x64(True):
        both = jax.jit(jax.value_and_grad(lambda point, *args: fun(point[None], *args)[0]))
        return scipy_optimize.minimize(
            lambda x: tuple(map(np.asarray, both(x, *args))),
            point,
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([lower, upper], axis=-1),
        ).fun


@pytest.mark.parametrize("name", ["quadratic", "rosenbrock", "network"])
def test_each_minimum_is_as_low_as_scipys_and_in_the_box(name):
    fun, points, bounds, shared, args = problems(np.random.default_rng(3))[name]
    lower, upper = (np.broadcast_to(np.asarray(bound, np.float64), points.shape) for bound in bounds)
    found, ends, evaluations = minimize(fun, points, *bounds, [np.float32(x) for x in args])
    active = 0
    for row in range(len(points)):
        own = [each if shared and len(each) == 1 else each[row : row + 1] for each in args]
        best = scipys(fun, points[row], lower[row], upper[row], own)
        with jax.enable_x64(True):
            value = float(fun(ends[row : row + 1].astype(np.float64), *own)[0])
        assert value <= best + 0.001 * abs(best)
        active += np.sum((ends[row] == np.float32(lower[row])) | (ends[row] == np.float32(upper[row])))
    assert np.all((ends >= lower.astype(np.float32)) & (ends <= upper.astype(np.float32)))
    assert active > 0  # the box was in the way
    assert np.all(found.status != 0) and evaluations.max() < 200


def test_no_bound_is_passed_by_a_rounding_error():
    """Boxes whose sides are of all sizes, with most minima outside."""
    rng = np.random.default_rng(4)
    fun, _, _, _, args = problems(np.random.default_rng(3), 120)["quadratic"]
    lower = rng.normal(size=(120, SIZE)).astype(np.float32)
    upper = lower + np.float32(10) ** rng.uniform(-4, 1, (120, SIZE)).astype(np.float32)
    _, found, _ = minimize(fun, rng.uniform(lower, upper), lower, upper, [np.float32(x) for x in args])
    assert np.all((found >= lower) & (found <= upper))
    assert np.all(np.sum((found == lower) | (found == upper), axis=1) > 0)


def test_a_problem_that_fails_is_alone_with_it():
    """One function is NaN, one has no minimum, and one starts at its own: the fourth takes no notice."""

    def fun(points, kind):
        bowl = jnp.sum((points - 0.3) ** 2 * jnp.arange(1, 4), axis=-1)
        return jnp.where(kind == 0, jnp.nan, jnp.where(kind == 1, -points.sum(axis=-1), bowl))

    points = np.array([[0.5] * 3, [0.5] * 3, [0.3] * 3, [5.0, 0.5, -5.0]])
    upper = np.array([[1], [np.inf], [1], [1]])
    found, ends, evaluations = minimize(fun, points, -np.inf, upper, [np.arange(4)], max_steps=60)
    assert "not finite at the start" in found.reason[0] and np.isnan(found.value[0]) and evaluations[0] == 1
    np.testing.assert_array_equal(ends[0], points[0].astype(np.float32))
    assert found.value[1] < -1e6
    assert evaluations[2] == 1 and "gradient is small" in found.reason[2]
    np.testing.assert_allclose(ends[3], 0.3, atol=1e-4)
    alone = minimize(fun, points[[3] * 4], -np.inf, np.ones((4, 1)), [np.full(4, 3)], max_steps=60)
    np.testing.assert_array_equal(alone[1][0], ends[3])
    assert alone[2][0] == evaluations[3]


def test_a_multiple_of_a_function_has_the_same_search():
    factors = np.float32(2.0) ** np.array([[0], [30], [-20], [10], [-2], [4]])
    found, ends, evaluations = minimize(rosenbrock, np.full((6, SIZE), 1.5), 0, 2, [factors])
    np.testing.assert_array_equal(ends, ends[[0] * 6])
    np.testing.assert_array_equal(evaluations, evaluations[0])
    np.testing.assert_array_equal(found.value, factors[:, 0] * found.value[0])


def test_a_result_says_why_each_search_ended():
    """A bowl whose minimum is in the box, one where it is not, one that is NaN, and one that never ends."""
    centers, slopes = np.array([[0.5], [2.0], [np.nan], [0.0]]), np.array([[0.0], [0.0], [0.0], [-1.0]])
    bowls = lambda points, centers, slopes: jnp.sum((1 + slopes) * (points - centers) ** 2 + slopes * points, axis=-1)
    upper = np.array([[1], [1], [1], [np.inf]])
    found, ends, evaluations = minimize(
        bowls, np.zeros((4, 3)), 0, upper, [np.float32(centers), np.float32(slopes)], max_steps=8
    )
    np.testing.assert_allclose(ends[:2], [[0.5] * 3, [1.0] * 3], atol=1e-6)
    np.testing.assert_array_equal(found.converged, [True, True, False, False])
    assert found.reason[3] == "the steps were used up, after 8 steps" and evaluations[3] == 9
