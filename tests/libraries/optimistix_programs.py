"""optimistix: roots, fixed points, least squares and minima, by implicit and recursive adjoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from tests.libraries.program import Program

P = jnp.array([0.4, 1.3, -0.7])
Y = jnp.array([0.1, 0.4, 1.0])
equation = lambda y, p: y + jnp.sin(y) - p
tight = {"rtol": 1e-12, "atol": 1e-12}


def root(solver, adjoint=None, **options):
    def loss(p):
        solve = optx.root_find(equation, solver, jnp.zeros(3), p, adjoint=adjoint or optx.ImplicitAdjoint(), **options)
        return jnp.sum(solve.value**2)

    return loss


def of_root(p):
    """Differentiate |y|^2 where y + sin y = p: dy/dp = 1 / (1 + cos y)."""
    y = np.zeros(3)
    for _ in range(50):
        y = y - (y + np.sin(y) - np.asarray(p)) / (1 + np.cos(y))
    return 2 * y / (1 + np.cos(y))


def least_squares(solver):
    residuals = lambda y, p: jnp.concatenate([jnp.exp(y) - 2 - p, 0.1 * y])
    return lambda p: jnp.sum(jnp.sin(optx.least_squares(residuals, solver, jnp.zeros(3), p, max_steps=500).value))


def minimum(solver):
    objective = lambda y, p: jnp.sum(jnp.cosh(y - p)) + 0.5 * jnp.sum(y) ** 2
    return lambda p: jnp.sum(jnp.sin(optx.minimise(objective, solver, jnp.zeros(3), p, max_steps=5000).value))


fixed_point = lambda p: jnp.sum(
    optx.fixed_point(lambda y, p: jnp.cos(y) * 0.5 + p, optx.FixedPointIteration(**tight), jnp.zeros(3), p).value ** 2
)

PROGRAMS = {
    "Newton, implicit": Program(root(optx.Newton(**tight)), P, of_root(P), hessian=False),
    "Newton, implicit, Hessian of a root": Program(root(optx.Newton(**tight)), P, hessian=True),
    "Newton, recursive": Program(
        root(optx.Newton(**tight), optx.RecursiveCheckpointAdjoint(), max_steps=16), P, of_root(P)
    ),
    "Chord": Program(root(optx.Chord(**tight)), P, of_root(P)),
    "Dogleg": Program(root(optx.Dogleg(**tight)), P, of_root(P)),
    "LevenbergMarquardt as root finder": Program(root(optx.LevenbergMarquardt(**tight)), P, of_root(P)),
    "Bisection": Program(
        lambda p: (
            optx.root_find(
                lambda y, p: y + jnp.sin(y) - p,
                optx.Bisection(**tight),
                0.0,
                p[0],
                options={"lower": -3.0, "upper": 3.0},
            ).value
            ** 2
        ),
        P[:1],
        of_root(P[0])[:1],
    ),
    "fixed point": Program(fixed_point, P, hessian=True),
    "GaussNewton": Program(least_squares(optx.GaussNewton(**tight)), P, tolerance=1e-6),
    "LevenbergMarquardt": Program(least_squares(optx.LevenbergMarquardt(**tight)), P, tolerance=1e-6),
    "BFGS": Program(minimum(optx.BFGS(**tight)), P, hessian=True, tolerance=1e-6),
    "NelderMead": Program(minimum(optx.NelderMead(rtol=1e-10, atol=1e-10)), P, tolerance=1e-4),
    "NonlinearCG": Program(minimum(optx.NonlinearCG(**tight)), P, tolerance=1e-6),
    "a root of a root under vmap": Program(
        lambda p: jnp.sum(jax.vmap(lambda q: root(optx.Newton(**tight))(q * P))(p)), P, hessian=True
    ),
}
