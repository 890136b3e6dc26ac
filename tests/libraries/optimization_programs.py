"""Optax, jaxopt and interpax: losses, unrolled training, implicit minima, splines."""

import interpax
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxopt
import optax

from tests.libraries.program import Program

P = jnp.array([0.4, 1.3, -0.7])
LOGITS = jr.normal(jr.key(0), (4, 5))
LABELS = jnp.array([0, 2, 1, 4])
DESIGN, TARGETS = jr.normal(jr.key(1), (8, 3)), jr.normal(jr.key(2), (8,))


def trained(optimizer):
    """Make the loss after ten steps of training, of the start and the learning rate."""

    def loss(x):
        start, rate = x
        update = optimizer(rate)
        objective = lambda p: jnp.sum((DESIGN @ p - TARGETS) ** 2) + jnp.sum(p**4)

        def step(carry, _):
            params, state = carry
            updates, state = update.update(jax.grad(objective)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (start, update.init(start)), None, length=10)
        return objective(params)

    return loss


ridge = lambda w, penalty: jnp.mean((DESIGN @ w - TARGETS) ** 2) + penalty * jnp.sum(w**2)
lasso = lambda w, penalty: 0.5 * jnp.mean((DESIGN @ w - TARGETS) ** 2)
minimum = lambda solver: lambda x: jnp.sum(jnp.sin(solver.run(jnp.zeros(3), jnp.exp(x[0])).params))
knots = jnp.linspace(0.0, 1.0, 6)
POINTS = jnp.array([0.03, 0.41, 0.77])

PROGRAMS = {
    "Optax: cross-entropy": Program(
        lambda x: optax.softmax_cross_entropy_with_integer_labels(x, LABELS).mean(), LOGITS, hessian=True
    ),
    "Optax: sigmoid focal loss": Program(lambda x: optax.sigmoid_focal_loss(x, jnp.eye(5)[:4]).sum(), LOGITS),
    "Optax: CTC loss": Program(
        lambda x: optax.ctc_loss(x[None], jnp.zeros((1, 4)), jnp.array([[1, 2]]), jnp.zeros((1, 2))).sum(), LOGITS
    ),
    "Optax: Huber, cosine and KL losses": Program(
        lambda x: (
            optax.huber_loss(x).sum()
            + optax.cosine_similarity(x[:2], x[2:]).sum()
            + optax.kl_divergence(jax.nn.log_softmax(x[0]), jax.nn.softmax(x[1]))
        ),
        LOGITS,
    ),
    "Optax: training by Adam, unrolled": Program(trained(optax.adam), (P, jnp.float64(0.05)), tolerance=1e-7),
    "Optax: training by momentum, unrolled": Program(trained(lambda r: optax.sgd(r, 0.9)), (P, jnp.float64(0.01))),
    "Optax: projection on the simplex": Program(
        lambda x: jnp.sum(jnp.sin(optax.projections.projection_simplex(x)) * P), P, hessian=True
    ),
    "Optax: a perturbed maximum": Program(
        lambda x: jnp.sum(
            optax.perturbations.make_perturbed_fun(lambda x: jax.nn.one_hot(jnp.argmax(x), 3) * x, 16, 0.5)(
                jr.key(0), x
            )
            * P
        ),
        P,
        vmap=False,
    ),
    "jaxopt: gradient descent, implicit": Program(
        minimum(jaxopt.GradientDescent(ridge, maxiter=2000, tol=1e-12)), P[:1], tolerance=1e-6
    ),
    "jaxopt: LBFGS, implicit": Program(minimum(jaxopt.LBFGS(ridge, maxiter=500, tol=1e-12)), P[:1], tolerance=1e-6),
    "jaxopt: proximal gradient (lasso)": Program(
        lambda x: jnp.sum(
            jnp.sin(
                jaxopt.ProximalGradient(lambda w, _: lasso(w, 0), jaxopt.prox.prox_lasso, maxiter=3000, tol=1e-12)
                .run(jnp.ones(3), x[0] * 0.1, 1.0)
                .params
            )
        ),
        P[:1],
        vmap=False,
        tolerance=1e-6,
    ),
    "jaxopt: projection on the simplex": Program(
        lambda x: jnp.sum(jnp.sin(jaxopt.projection.projection_simplex(x)) * P), P
    ),
    "jaxopt: quadratic program": Program(
        lambda x: jnp.sum(
            jaxopt.EqualityConstrainedQP()
            .run(params_obj=(jnp.eye(3) * jnp.exp(x), x), params_eq=(jnp.ones((1, 3)), x[:1]))
            .params.primal
            ** 2
        ),
        P,
        tolerance=1e-5,
    ),
    "interpax: cubic spline": Program(
        lambda x: jnp.sum(jnp.sin(interpax.interp1d(x[0], knots, x[1], method="cubic2"))),
        (POINTS, jnp.sin(5 * knots)),
        hessian=True,
    ),
    "interpax: monotonic": Program(
        lambda x: jnp.sum(jnp.sin(interpax.interp1d(POINTS, knots, x, method="monotonic"))), jnp.sin(5 * knots)
    ),
    "interpax: two dimensions": Program(
        lambda x: jnp.sum(interpax.interp2d(x[0], x[0] ** 2, knots, knots, jnp.outer(x[1], x[1]), method="cubic") ** 2),
        (POINTS, jnp.sin(5 * knots)),
    ),
}
