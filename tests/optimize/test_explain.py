"""What `explain` measures: minima, curvatures, paths, counts and the function on a grid."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog import optimize
from diffprog.optimize import rates
from diffprog.optimize._page.objectives import BUILT_IN


def bowl(p):
    """Curvatures 1 and 9 at (2, -1), not a quadratic."""
    x, y = p["first"] - 2, p["second"] + 1
    return x**2 / 2 + 9 * y**2 / 2 + jnp.sin(x * y) ** 2 + x**4 / 10


@pytest.fixture(scope="module")
def explained():
    optimizers = {"gradient descent": optax.sgd(0.05), "heavy ball": optax.sgd(0.05, momentum=0.5)}
    with jax.enable_x64(True):
        start = {"first": jnp.array(0.0), "second": jnp.array(1.0)}
        (own,) = optimize.explain(bowl, start, optimizers, max_steps=40, well_known=False).functions
    return own


def test_the_minimum_its_curvatures_and_best_settings(explained):
    (minimum,) = explained.minima
    np.testing.assert_allclose(minimum.point, [2, -1], atol=1e-12)
    np.testing.assert_allclose(minimum.eigenvalues, [1, 9], rtol=1e-12)
    best = explained.numbers()["minima"][0]["best"]["heavy ball"]
    assert best == rates.best("heavy ball", *minimum.eigenvalues)._asdict()
    assert best["beta"] == pytest.approx(1 / 4) and best["rate"] == pytest.approx(1 / 2)


def test_paths_are_those_of_the_methods_and_counts_are_what_they_asked(explained):
    def gradient(p):
        x, y = p[0] - 2, p[1] + 1
        turn = np.sin(2 * x * y)
        return np.array([x + y * turn + 0.4 * x**3, 9 * y + x * turn])

    for family, beta in zip(explained.families, (0, 0.5), strict=True):
        point, velocity, path = np.array([0.0, 1.0]), np.zeros(2), [np.array([0.0, 1.0])]
        for _ in range(40):
            velocity = beta * velocity + gradient(point)
            point = point - 0.05 * velocity
            path.append(point)
        np.testing.assert_allclose(family.path, path, rtol=0, atol=1e-12)
        assert family.counts.keys() == {"function", "gradient"}
        np.testing.assert_array_equal(family.counts["gradient"], np.arange(1, 42))
        assert np.all(np.diff(family.values) <= 0) and family.seconds > 0
        assert family.reason == "the steps were used up, after 40 steps"


def test_the_grid_has_all_derivatives_and_knows_its_error(explained):
    grid = explained.grid
    (left, right), (bottom, top) = explained.view
    size = grid.derivatives.shape[-1]
    xs, ys = np.meshgrid(np.linspace(left, right, size) - 2, np.linspace(bottom, top, size) + 1)
    angle = 2 * xs * ys
    closed = {
        (0, 0): xs**2 / 2 + 9 * ys**2 / 2 + np.sin(xs * ys) ** 2 + xs**4 / 10,
        (1, 0): xs + ys * np.sin(angle) + 0.4 * xs**3,
        (0, 2): 9 + 2 * xs**2 * np.cos(angle),
        (1, 1): np.sin(angle) + angle * np.cos(angle),
        (2, 1): 4 * ys * np.cos(angle) - 4 * xs * ys**2 * np.sin(angle),
    }
    for (a, b), expected in closed.items():
        np.testing.assert_allclose(grid.derivatives[a, b], expected, rtol=0, atol=1e-10 * np.max(np.abs(expected)))
    assert 0 < grid.error < 1e-5


def test_what_is_measured_is_json_and_a_table(explained):
    numbers = json.loads(json.dumps(explained.numbers(), allow_nan=False))
    assert numbers["labels"] == ["first", "second"] and numbers["precision"] == "float64"
    assert len(numbers["families"][0]["path"]) == 41
    text = str(optimize.Explanation((explained,)))
    assert "bowl, from (0, 1)" in text and "heavy ball" in text and "curvatures 1 and 9" in text


def test_well_known_minima_are_all_found():
    explanation = optimize.explain(optimizers={}, max_steps=1)
    known = {
        "quadratic": (1, 0),
        "valley": (1, 0),
        "rosenbrock": (1, 0),
        "himmelblau": (4, 0),
        "two_wells": (2, -0.25),
        "rastrigin": (121, 0),
    }
    assert [f.name for f in explanation.functions] == [objective.name for objective in BUILT_IN] == list(known)
    for found in explanation.functions:
        count, lowest = known[found.name]
        assert len(found.minima) == count and found.precision == "float64"
        assert found.minima[0].value == pytest.approx(lowest, abs=1e-20)
    # Reference numbers of the function in Distill's article.
    np.testing.assert_allclose(explanation.functions[1].minima[0].eigenvalues, [1.38297436, 520.61702564], rtol=1e-8)


def test_float32_and_no_minimum():
    plane = lambda v: v[0] + 2 * v[1]
    (own,) = optimize.explain(plane, jnp.zeros(2, jnp.float32), {}, well_known=False).functions
    assert own.minima == () and own.precision == "float32"
    assert own.title == "your function" and own.labels == ("x", "y")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"well_known": False}, "nothing to explain"),
        ({"function": jnp.sum}, "start is missing"),
        ({"function": jnp.sum, "start": jnp.zeros(3)}, "functions of two real numbers; found 3"),
        ({"function": jnp.sum, "start": jnp.zeros(2), "view": (0, 1)}, r"view must be \(\(x low, x high\)"),
        ({"function": jnp.sum, "start": jnp.zeros(2), "view": ((1, 0), (0, 1))}, "low < high"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        optimize.explain(**arguments)


@pytest.mark.not_under("strict", reason="the same program as under the defaults")
def test_all_families_arrive_and_cma_es_has_its_ellipse():
    with jax.enable_x64(True):
        (own,) = optimize.explain(
            lambda v: jnp.sum((v - 1) ** 2 * jnp.array([1.0, 4.0])), jnp.zeros(2), max_steps=150, well_known=False
        ).functions
    families = {family.name: family for family in own.families}
    assert list(families) == [
        *["gradient descent", "heavy ball", "Nesterov", "Adam", "L-BFGS", "trust region", "CMA-ES", "random search"]
    ]
    for name, family in families.items():
        assert family.values[-1] < 1e-6, name
        assert ("gradient" in family.counts) == (name not in ("CMA-ES", "random search")), name
        assert ("hessian_vector" in family.counts) == (name == "trust region"), name
        assert (family.ellipses is not None) == (name == "CMA-ES"), name
    mean, (xx, xy, yy) = families["CMA-ES"].ellipses[40, :2], families["CMA-ES"].ellipses[40, 2:]
    np.testing.assert_array_equal(mean, families["CMA-ES"].path[40])
    assert xx > 0 < yy and xy**2 < xx * yy  # a covariance: positive definite
    areas = np.prod(families["CMA-ES"].ellipses[:, [2, 4]], axis=1)
    assert areas[-1] < 1e-12 * areas[0]
