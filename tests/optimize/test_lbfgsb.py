import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize as scipy_optimize

from diffprog.optimize import _lbfgsb as lbfgsb
from diffprog.optimize import _line_search as line_search
from diffprog.optimize._box_model import Pairs, add_pair, cauchy_point, quadratic_model, subspace_minimum
from diffprog.optimize._lbfgsb import STUCK, minimize

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
    found = minimize(fun, points, *bounds, tuple(map(np.float32, args)))
    active = 0
    for row in range(len(points)):
        own = [each if shared and len(each) == 1 else each[row : row + 1] for each in args]
        best = scipys(fun, points[row], lower[row], upper[row], own)
        with jax.enable_x64(True):
            value = float(fun(found.points[row : row + 1].astype(np.float64), *own)[0])
        assert value <= best + 0.001 * abs(best)
        active += np.sum((found.points[row] == np.float32(lower[row])) | (found.points[row] == np.float32(upper[row])))
    assert np.all((found.points >= lower.astype(np.float32)) & (found.points <= upper.astype(np.float32)))
    assert active > 0  # the box was in the way
    assert np.all(found.status != lbfgsb.SEARCHING) and np.all(found.num_iterations < found.num_evaluations)
    assert found.num_evaluations.max() < 200


def test_no_bound_is_passed_by_a_rounding_error():
    """Boxes whose sides are of all sizes, with most minima outside."""
    rng = np.random.default_rng(4)
    fun, _, _, _, (matrices, slopes) = problems(np.random.default_rng(3))["quadratic"]
    for _ in range(20):
        lower = rng.normal(size=(6, SIZE)).astype(np.float32)
        upper = lower + np.float32(10) ** rng.uniform(-4, 1, (6, SIZE)).astype(np.float32)
        points = rng.uniform(lower, upper)
        found = minimize(fun, points, lower, upper, tuple(map(np.float32, (matrices, slopes)))).points
        assert np.all((found >= lower) & (found <= upper)) and np.sum((found == lower) | (found == upper)) > 10


def test_a_problem_that_fails_is_alone_with_it():
    """One function is NaN, one has no minimum, and one starts at its own: the fourth takes no notice."""

    def fun(points, kind):
        bowl = jnp.sum((points - 0.3) ** 2 * jnp.arange(1, 4), axis=-1)
        return jnp.where(kind == 0, jnp.nan, jnp.where(kind == 1, -points.sum(axis=-1), bowl))

    points = np.array([[0.5] * 3, [0.5] * 3, [0.3] * 3, [5.0, 0.5, -5.0]])
    found = minimize(fun, points, -np.inf, [[1], [np.inf], [1], [1]], (np.arange(4),), max_evaluations=60)
    assert found.status[0] == STUCK and found.num_evaluations[0] == 1
    np.testing.assert_array_equal(found.points[0], points[0].astype(np.float32))
    assert found.values[1] < -1e6
    assert found.num_evaluations[2] == 1
    np.testing.assert_allclose(found.points[3], 0.3, atol=1e-4)
    alone = minimize(fun, points[[3] * 4], -np.inf, 1, (np.full(4, 3),), max_evaluations=60)
    np.testing.assert_array_equal(alone.points[0], found.points[3])
    assert alone.num_evaluations[0] == found.num_evaluations[3]
    with pytest.raises(ValueError, match="points must have the shape"):
        minimize(fun, points[0])


@pytest.mark.parametrize("fun", [jnp.sum, lambda points: points**2, lambda points: jnp.sum(points, 1, keepdims=True)])
def test_a_function_without_one_value_for_each_point_is_refused(fun):
    with pytest.raises(ValueError, match=r"fun must return one value for each of the 2 points.*found \("):
        minimize(fun, np.zeros((2, 3)))


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


@pytest.mark.parametrize(
    "value, slope",
    [
        (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),  # the first step is too short
        (lambda t: (50 * t - 1) ** 2, lambda t: 100 * (50 * t - 1)),  # and here too long
        (lambda t: -t / (t**2 + 2), lambda t: (t**2 - 2) / (t**2 + 2) ** 2),  # More & Thuente (1994), example 5.1
        (lambda t: np.inf if t > 0.1 else -t, lambda t: np.nan if t > 0.1 else -1.0),  # finite only nearby
    ],
)
def test_line_search_ends_at_a_step_that_satisfies_wolfe(value, slope):
    search, steps = line_search.init(jnp.float32(value(0)), jnp.float32(slope(0)), jnp.float32(100)), []
    update = jax.jit(line_search.update)
    for _ in range(line_search.MAX_TRIALS):
        steps.append(float(search.step))
        search, accepted, failed = update(search, *map(jnp.float32, (value(steps[-1]), slope(steps[-1]))))
        if accepted or failed:
            break
    step = steps[-1]
    if np.isfinite(value(1)):
        assert accepted and len(steps) < 8
        assert value(step) <= value(0) + 1e-3 * step * slope(0)
        assert abs(slope(step)) <= 0.9 * abs(slope(0))
    else:  # no such step exists: the bracket closes on the edge
        assert failed and abs(float(search.low.step) - 0.1) < 1e-3


def test_a_multiple_of_a_function_has_the_same_search():
    factors = np.float32(2.0) ** np.array([[0], [30], [-20], [10], [-2], [4]])
    found = minimize(rosenbrock, np.full((6, SIZE), 1.5), 0, 2, (factors,))
    np.testing.assert_array_equal(found.points, found.points[[0] * 6])
    np.testing.assert_array_equal(found.num_evaluations, found.num_evaluations[0])
    np.testing.assert_array_equal(found.values, factors[:, 0] * found.values[0])


def test_a_result_says_why_each_search_ended():
    """A bowl whose minimum is in the box, one where it is not, one that is NaN, and one that never ends."""
    centers, slopes = np.array([[0.5], [2.0], [np.nan], [0.0]]), np.array([[0.0], [0.0], [0.0], [-1.0]])
    bowls = lambda points, centers, slopes: jnp.sum((1 + slopes) * (points - centers) ** 2 + slopes * points, axis=-1)
    found = minimize(bowls, np.zeros((4, 3)), 0, [[1], [1], [1], [np.inf]], (centers, slopes), max_evaluations=9)
    np.testing.assert_allclose(found.points[:2], [[0.5] * 3, [1.0] * 3], atol=1e-6)
    np.testing.assert_array_equal(found.converged, [True, True, False, False])
    assert found.messages[2:] == ["no lower value was found along the gradient", "the evaluations were used up"]
    assert found.num_evaluations[3] == 9


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"history_size": 0}, "history_size and max_evaluations must be at least 1; found 0 and 1000"),
        ({"max_evaluations": 0}, "history_size and max_evaluations must be at least 1; found 10 and 0"),
        ({"lower": 2.0, "upper": 1.0}, "lie in a box with lower <= upper"),
        ({"engine": "torch"}, "engine 'torch' is not known"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        minimize(lambda points: points.sum(axis=1), np.zeros((2, 3)), **options)
    assert "\n" not in str(refused.value)


def test_the_example_of_the_docstring():
    import doctest

    failed, tried = doctest.testmod(lbfgsb, extraglobs={"jnp": jnp})
    assert (failed, tried) == (0, 2)
