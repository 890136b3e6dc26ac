"""Loops that find their answer by comparing are named; loops that only compare on their way are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

GRID = jnp.linspace(0.0, 3.0, 301)


def square(x, theta):
    return x**2 - theta


def bisection(theta, count=40):
    def halve(i, bracket):
        low, high = bracket
        middle = (low + high) / 2
        above = square(middle, theta) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = lax.fori_loop(0, count, halve, (0.0, 4.0))
    return (low + high) / 2


def bisection_by_while(theta):
    def halve(bracket):
        low, high = bracket
        middle = (low + high) / 2
        return lax.cond(square(middle, theta) > 0, lambda: (low, middle), lambda: (middle, high))

    return lax.while_loop(lambda b: b[1] - b[0] > 1e-6, halve, (0.0, 4.0))[0]


def bisection_by_sign(theta):
    def halve(middle, width):
        return middle - width * jnp.sign(square(middle, theta)), None

    return lax.scan(halve, 2.0, 2.0 ** -jnp.arange(25.0))[0]


def bisection_in_a_moving_bracket(theta):
    def halve(bracket, _):
        low, high = bracket
        middle = (low + high) / 2
        above = square(middle, theta) > 0
        return (jnp.where(above, low, middle), jnp.where(above, middle, high)), None

    return lax.scan(halve, (0.0 * theta, theta), None, length=30)[0][0]


def golden_section(theta):
    ratio = (5**0.5 - 1) / 2
    cost = lambda x: jnp.exp(x) - theta * x  # least at log(theta)

    def shrink(i, bracket):
        low, high = bracket
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        smaller = cost(left) < cost(right)
        return jnp.where(smaller, low, left), jnp.where(smaller, right, high)

    return jnp.mean(jnp.stack(lax.fori_loop(0, 16, shrink, (0.0, 3.0))))


def best_of_a_grid(theta):
    return GRID[jnp.argmin((GRID**2 - theta) ** 2)]


def first_above_on_a_grid(theta):
    order = jnp.argsort(jnp.abs(GRID**2 - theta))
    return GRID[order[0]]


SEARCHES = [
    bisection,
    bisection_by_while,
    bisection_by_sign,
    bisection_in_a_moving_bracket,
    golden_section,
    best_of_a_grid,
    first_above_on_a_grid,
]


def newton_after_bisection(theta):
    x = lax.stop_gradient(bisection(theta))
    return x - square(x, theta) / (2 * x)


def custom_root(theta):
    def solve(f, _):
        def halve(i, bracket):
            low, high = bracket
            middle = (low + high) / 2
            above = f(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        return lax.fori_loop(0, 40, halve, (0.0, 4.0))[0]

    return lax.custom_root(lambda x: square(x, theta), 1.0, solve, lambda g, y: y / g(1.0))


def newton(theta):
    step = lambda x: x - square(x, theta) / (2 * x)
    return lax.while_loop(lambda x: jnp.abs(square(x, theta)) > 1e-6, step, 2.0)


def fixed_point_rows(theta):
    def solve(t):
        return lax.while_loop(lambda x: jnp.abs(jnp.cos(t * x) - x) > 1e-5, lambda x: jnp.cos(t * x), 0.5)

    return jnp.sum(jax.vmap(solve)(theta * jnp.array([0.3, 0.4, 0.5])))


def recurrent_relu(theta):
    step = lambda h, x: (jnp.where(h * theta + x > 0, h * theta + x, 0.1 * (h * theta + x)), h)
    return jnp.sum(lax.scan(step, jnp.ones(3), jnp.sin(jnp.arange(30.0)).reshape(10, 3))[1])


def clipped_steps(theta):
    return lax.fori_loop(0, 9, lambda i, x: jnp.clip(x + jnp.where(x < 1, theta, -0.1 * theta) / 9, -1.0, 1.5), 0.0)


def running_maximum(theta):
    step = lambda best, x: (jnp.where(theta * x > best, theta * x, best), None)
    return lax.scan(step, -9.0, jnp.sin(jnp.arange(9.0)))[0]


def pooled(theta):
    x = jnp.sin(theta * jnp.arange(12.0)).reshape(4, 3)
    return jnp.sum(jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1))


def sorted_values(theta):
    x = jnp.sin(theta * jnp.arange(6.0))
    return jnp.sum(x[jnp.argsort(x)] * jnp.arange(6)) + jnp.sum(jnp.sort(x)[:2]) + jnp.median(x)


def interpolated(theta):
    return jnp.sum(jnp.interp(theta * jnp.arange(5.0), jnp.arange(6.0), jnp.arange(6.0) ** 2))


def adaptive(theta):
    def step(state):
        t, y, h = state
        error = jnp.abs(h * h * theta * theta * y)
        accepted = error < 0.05
        return jnp.where(accepted, t + h, t), jnp.where(accepted, y * (1 - h * theta), y), jnp.where(accepted, h, h / 2)

    return lax.while_loop(lambda s: s[0] < 1.0, step, (0.0, 1.0, 0.5))[1]


SOUND = [
    newton_after_bisection,
    custom_root,
    newton,
    fixed_point_rows,
    recurrent_relu,
    clipped_steps,
    running_maximum,
    pooled,
    sorted_values,
    interpolated,
    adaptive,
]


def searched(fun, *args):
    return [finding for finding in dp.diagnose(fun)(*args).findings if finding.kind == "search"]


@pytest.mark.parametrize("other", ["alone", "beside another path"])
@pytest.mark.parametrize("search", SEARCHES, ids=lambda f: f.__name__)
def test_a_search_is_named(search, other):
    extra = (lambda t: 0.0) if other == "alone" else (lambda t: t**2)
    diagnosis = dp.diagnose(lambda theta: search(theta) + extra(theta))(2.2)
    (finding,) = (f for f in diagnosis.findings if f.kind == "search")
    lines = range(search.__code__.co_firstlineno, search.__code__.co_firstlineno + 15)
    assert finding.source.line in lines, str(finding)
    assert "custom_root" in finding.fix and "Newton" in finding.fix
    assert "soft step" not in str(diagnosis)


@pytest.mark.parametrize("sound", SOUND, ids=lambda f: f.__name__)
@pytest.mark.parametrize("theta", [2.2, 1.37])
def test_a_sound_loop_is_quiet(sound, theta):
    assert searched(sound, theta) == []


def test_the_loop_and_its_slopes_are_told():
    (finding,) = searched(jax.jit(bisection), 2.2)
    line = bisection.__code__.co_firstlineno
    assert f"the answer of the loop at test_searches.py:{line + 7}" in finding.title
    assert f"compared 40 times at test_searches.py:{line + 4}  above = " in finding.details[0]
    slope = finding.details[1].partition("theta: ")[2].split()[0]
    np.testing.assert_allclose(float(slope), 2.2 * 0.5 / 2.2**0.5, rtol=0.01)  # theta dx/dtheta
    assert ", 0 with the comparisons held" in finding.details[1]
