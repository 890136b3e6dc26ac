"""diffrax: every adjoint, implicit and stiff solvers, adaptive steps, events, dense output and stochastic equations."""

import diffrax as dx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx

from tests.libraries.program import Program

P = jnp.array([0.7, 2.0])
decay = dx.ODETerm(lambda t, y, k: -k * y)
adaptive = dx.PIDController(rtol=1e-9, atol=1e-9)
OF_END = np.array([-2.0 * np.exp(-0.7), np.exp(-0.7)])  # of y(1) = y0 exp(-k): in k and in y0


def end(adjoint, solver=None, controller=None, max_steps=64):
    def loss(p):
        return dx.diffeqsolve(
            decay,
            solver or dx.Tsit5(),
            0.0,
            1.0,
            0.05,
            p[1],
            p[0],
            adjoint=adjoint,
            stepsize_controller=controller or dx.ConstantStepSize(),
            max_steps=max_steps,
        ).ys[0]

    return loss


def saved(adjoint):
    """A pendulum that is saved on the way and in between the steps."""
    term = dx.ODETerm(lambda t, y, p: jnp.stack([y[1], -p * jnp.sin(y[0])]))

    def loss(x):
        solution = dx.diffeqsolve(
            term,
            dx.Dopri5(),
            0.0,
            2.0,
            0.1,
            x[1:],
            x[0],
            saveat=dx.SaveAt(ts=jnp.linspace(0.0, 2.0, 7)),
            adjoint=adjoint,
            stepsize_controller=adaptive,
        )
        return jnp.sum(solution.ys**2)

    return loss


def falling(x):
    """When a ball of height x0 and velocity x1 reaches the ground: x0 + x1 t - g t^2 / 2 = 0."""
    solution = dx.diffeqsolve(
        dx.ODETerm(lambda t, y, args: jnp.stack([y[1], -9.8])),
        dx.Tsit5(),
        0.0,
        jnp.inf,
        0.05,
        x,
        event=dx.Event(lambda t, y, args, **kwargs: y[0], optx.Newton(1e-10, 1e-10)),
        max_steps=256,
    )
    return solution.ts[0]


def of_falling(height, velocity, g=9.8):
    root = np.sqrt(velocity**2 + 2 * g * height)
    return np.array([1 / root, (1 + velocity / root) / g])


def stochastic(solver, terms, adjoint=None):
    def loss(x):
        path = dx.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=jr.key(0))
        solution = dx.diffeqsolve(
            terms(path),
            solver,
            0.0,
            1.0,
            0.05,
            x[1],
            x[0],
            adjoint=adjoint or dx.RecursiveCheckpointAdjoint(),
            max_steps=64,
        )
        return solution.ys[0] ** 2

    return loss


drift = dx.ODETerm(lambda t, y, k: -k * y)
noisy = lambda path: dx.MultiTerm(drift, dx.ControlTerm(lambda t, y, k: 0.3 * k * jnp.cos(y), path))

PROGRAMS = {
    "RecursiveCheckpointAdjoint": Program(end(dx.RecursiveCheckpointAdjoint()), P, OF_END, tolerance=1e-6),
    "RecursiveCheckpointAdjoint, as JAX": Program(end(dx.RecursiveCheckpointAdjoint()), P),
    "DirectAdjoint": Program(end(dx.DirectAdjoint()), P, hessian=True),
    "ForwardMode's loop in reverse": Program(end(dx.ForwardMode()), P, OF_END, tolerance=1e-6),
    "BacksolveAdjoint": Program(end(dx.BacksolveAdjoint(solver=dx.Tsit5())), P, tolerance=1e-6),
    "ImplicitAdjoint": Program(
        lambda p: dx.diffeqsolve(
            dx.ODETerm(lambda t, y, p: p[1] - p[0] * y),
            dx.Tsit5(),
            0.0,
            jnp.inf,
            0.1,
            0.0,
            p,
            adjoint=dx.ImplicitAdjoint(),
            event=dx.Event(dx.steady_state_event(rtol=1e-9, atol=1e-9)),
            stepsize_controller=adaptive,
            max_steps=1024,
        ).ys[0],
        P,
        np.array([-2.0 / 0.7**2, 1 / 0.7]),
        tolerance=1e-6,
    ),
    "adaptive steps, saved on the way, RecursiveCheckpointAdjoint": Program(
        saved(dx.RecursiveCheckpointAdjoint()), jnp.array([9.8, 0.5, 0.1])
    ),
    "adaptive steps, saved on the way, DirectAdjoint": Program(saved(dx.DirectAdjoint()), jnp.array([9.8, 0.5, 0.1])),
    "Kvaerno5 (implicit)": Program(
        end(dx.RecursiveCheckpointAdjoint(), dx.Kvaerno5(root_finder=dx.VeryChord(rtol=1e-9, atol=1e-9)), adaptive), P
    ),
    "an event": Program(falling, jnp.array([10.0, 1.0]), of_falling(10.0, 1.0), tolerance=1e-6),
    "SDE, Euler-Heun": Program(stochastic(dx.EulerHeun(), noisy), P),
    "SDE, ReversibleHeun": Program(stochastic(dx.ReversibleHeun(), noisy), P),
}
