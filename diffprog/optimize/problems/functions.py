"""Functions of two numbers, or of any number of them, on which optimizers are shown."""

import jax.numpy as jnp
import numpy as np

from diffprog.optimize.problems.problem import Problem


def _rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def _distill(x):
    return (1 - x[0]) ** 2 + 20 * (3 * x[1] - x[0] ** 2) ** 2


def _beale(x):
    return sum((c - x[0] * (1 - x[1] ** i)) ** 2 for i, c in enumerate((1.5, 2.25, 2.625), start=1))


def _himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def _rastrigin(x):
    return 10 * len(x) + jnp.sum(x**2 - 10 * jnp.cos(2 * np.pi * x))


def _ackley(x):
    waves = jnp.exp(jnp.mean(jnp.cos(2 * np.pi * x)))
    return 20 - 20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(x**2))) + np.e - waves


def _styblinski_tang(x):
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


def _points(*points):
    return tuple(np.array(point, float) for point in points)


ROSENBROCK = Problem("Rosenbrock", _rosenbrock, _points([-1.2, 1]), (0.0,), _points([1, 1]))
DISTILL = Problem("Distill", _distill, _points([-1.21, 0.853]), (0.0,), _points([1, 1 / 3]))
BEALE = Problem("Beale", _beale, _points([1, 1]), (0.0,), _points([3, 0.5]))
HIMMELBLAU = Problem(
    "Himmelblau",
    _himmelblau,
    _points([0, 0]),
    (0.0,) * 4,
    _points(
        [3, 2],
        [-2.8051180869527448, 3.1313125182505730],
        [-3.7793102533777469, -3.2831859912861694],
        [3.5844283403304917, -1.8481265269644036],
    ),
)
RASTRIGIN = Problem("Rastrigin", _rastrigin, _points([3.3, -2.2]), (0.0,), _points([0, 0]))
ACKLEY = Problem("Ackley", _ackley, _points([2.5, -1.5]), (0.0,), _points([0, 0]))
STYBLINSKI_TANG = Problem(
    "Styblinski-Tang",
    _styblinski_tang,
    _points([0, 0]),
    (-78.33233140754282,),
    _points([-2.9035340277711765] * 2),
)

FUNCTIONS = {
    problem.name: problem for problem in (ROSENBROCK, DISTILL, BEALE, HIMMELBLAU, RASTRIGIN, ACKLEY, STYBLINSKI_TANG)
}
