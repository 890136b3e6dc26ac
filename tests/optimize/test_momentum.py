import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog import optimize


def hero(w):
    """The function of Goh's article on momentum (Distill, 2017)."""
    x, y = w
    return (1 - x) ** 2 + 20 * (3 * y - x**2) ** 2


def slope(w):
    x, y = w
    return np.array([-2 * (1 - x) - 80 * x * (3 * y - x**2), 120 * (3 * y - x**2)])


START = np.array([-1.21, 0.853])


def path(optimizer):
    with jax.enable_x64(True):
        return np.asarray(optimize.minimize(hero, START, optimizer, max_steps=60, keeps_path=True).path)


def lowest_of(walk):
    values = np.array([hero(w) for w in walk])
    return [walk[np.argmin(values[: k + 1])] for k in range(len(walk))]


def by_velocity(alpha, beta, steps=60):
    w, z, walk = START, 0, [START]
    for _ in range(steps):
        z = beta * z + slope(w)
        w = w - alpha * z
        walk.append(w)
    return walk


def by_two_steps(alpha, beta):
    walk = [START, START]
    for _ in range(60):
        walk.append(walk[-1] - alpha * slope(walk[-1]) + beta * (walk[-1] - walk[-2]))
    return walk[1:]


def by_lookahead(alpha, beta):
    x, y, walk = START, START, [START]
    for _ in range(60):
        previous, x = x, y - alpha * slope(y)
        y = x + beta * (x - previous)
        walk.append(y)
    return walk


@pytest.mark.parametrize("beta", [0.0, 0.74, 0.9])
def test_heavy_ball_has_the_iterates_of_its_equivalent_forms(beta):
    ours = path(optimize.heavy_ball(0.003, beta))
    for walk in (by_velocity(0.003, beta), by_two_steps(0.003, beta)):
        np.testing.assert_allclose(ours, lowest_of(walk), rtol=1e-12, atol=1e-13)


def test_nesterov_has_the_iterates_of_its_definition():
    np.testing.assert_allclose(
        path(optimize.nesterov(0.002, 0.8)), lowest_of(by_lookahead(0.002, 0.8)), rtol=1e-12, atol=1e-13
    )


def test_the_end_of_the_articles_figure():
    """alpha = .003, beta = .9 after 150 steps, where the page's function is 1.246e-6."""
    walk = by_velocity(0.003, 0.9, steps=150)
    np.testing.assert_allclose(hero(walk[-1]), 1.246003e-6, rtol=1e-6)
    with jax.enable_x64(True):
        found = optimize.minimize(hero, START, optimize.heavy_ball(0.003, 0.9), max_steps=150)
        np.testing.assert_allclose(found.value, min(map(hero, walk)), rtol=1e-9)
        away = optimize.minimize(hero, START, optimize.heavy_ball(0.02, 0.99), max_steps=150)
    assert not away.converged and "not finite" in away.reason and away.num_steps < 10


def test_the_step_can_be_a_schedule():
    constant, scheduled = (
        optimize.minimize(hero, START, optimize.heavy_ball(alpha, 0.5), max_steps=20)
        for alpha in (1e-3, optax.constant_schedule(1e-3))
    )
    np.testing.assert_allclose(constant.parameters, scheduled.parameters, rtol=1e-6)


@pytest.mark.parametrize("make", [optimize.heavy_ball, optimize.nesterov])
def test_settings_that_cannot_be_are_refused(make):
    with pytest.raises(ValueError, match="alpha must be a positive number"):
        make(0.0, 0.5)
    with pytest.raises(ValueError, match="beta must be a part"):
        make(0.1, 1.0)
    assert float(jnp.abs(jax.tree.leaves(make(0.1, 0.5).init(jnp.ones(2)))[0]).sum()) == 0
