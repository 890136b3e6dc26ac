import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from diffprog.attack import l1, l2, linf
from diffprog.attack._norms.hyperplane import way_to_plane

SIZE = 9


def shortest(norm, point, rise, slope, lower, upper):
    """The size of the shortest way, in float64: a linear program in L1 and L-infinity, and in L2 the KKT conditions."""
    if norm is l2:

        def way(t):
            return np.clip(point + t * slope, lower, upper) - point

        low, high = 0.0, np.sign(rise) * 1e9
        for _ in range(300):
            middle = (low + high) / 2
            low, high = (middle, high) if abs(slope @ way(middle)) < abs(rise) else (low, middle)
        return np.linalg.norm(way(high))
    ones, eye = np.ones(SIZE), np.eye(SIZE)
    if norm is l1:  # way = plus - minus
        found = linprog(
            np.ones(2 * SIZE),
            A_eq=[np.concatenate([slope, -slope])],
            b_eq=[rise],
            bounds=[*zip(0 * ones, upper - point, strict=True), *zip(0 * ones, point - lower, strict=True)],
        )
    else:  # |way| <= its largest element, the last variable
        found = linprog(
            [*0 * ones, 1],
            A_ub=np.block([[eye, -ones[:, None]], [-eye, -ones[:, None]]]),
            b_ub=np.zeros(2 * SIZE),
            A_eq=[np.append(slope, 0)],
            b_eq=[rise],
            bounds=[*zip(lower - point, upper - point, strict=True), (0, None)],
        )
    assert found.success
    return found.fun


@pytest.mark.parametrize("norm", [linf, l2, l1], ids=lambda norm: norm.name)
def test_way_is_the_shortest_and_stays_in_the_box(norm):
    rng = np.random.default_rng(0)
    lower, upper = np.full(SIZE, -0.5), np.full(SIZE, 2.0)
    go = jax.jit(lambda *given: way_to_plane(norm, *given))
    for case in range(40):
        point = rng.uniform(lower, upper)
        point[:2] = lower[0], upper[0]  # no room on one side
        slope = rng.normal(size=SIZE)
        slope[2] = 0
        most = np.sum(np.maximum(slope * (upper - point), slope * (lower - point)))
        least = np.sum(np.minimum(slope * (upper - point), slope * (lower - point)))
        rise = rng.uniform(0.05, 0.95) * (most if case % 2 else least)
        given = [np.float32(each) for each in (point, rise, slope, lower, upper)]
        way = np.asarray(go(*given), np.float64)
        np.testing.assert_allclose(slope @ way, rise, rtol=1e-4)
        assert np.all(point + way >= lower - 1e-6) and np.all(point + way <= upper + 1e-6) and way[2] == 0
        np.testing.assert_allclose(
            norm.measure(way[None])[0], shortest(norm, point, rise, slope, lower, upper), rtol=1e-4
        )


@pytest.mark.parametrize("norm", [linf, l2, l1], ids=lambda norm: norm.name)
def test_out_of_reach_it_goes_as_far_as_the_box(norm):
    point, slope = (np.array(row, np.float32) for row in ([[0.2, 0.6, 0.5]], [[1.0, -2.0, 0.0]]))
    zeros = np.zeros_like(point)
    way = way_to_plane(norm, point, jnp.float32(5.0), slope, zeros, zeros + 1)
    np.testing.assert_allclose(way, [[0.8, -0.6, 0.0]], rtol=1e-6)
    still = way_to_plane(norm, point, jnp.float32(5.0), 0 * slope, zeros, zeros + 1)
    np.testing.assert_array_equal(still, 0)
