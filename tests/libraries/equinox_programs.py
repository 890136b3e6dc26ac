"""equinox: modules, filtered custom rules, functions out of line and every kind of while loop."""

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tests.libraries.program import Program

X = jnp.array([0.8, 2.0, -0.3])


def looped(kind, **options):
    """x1 sin(x0)^3 by a loop."""
    step = lambda carry: (carry[0] + 1, carry[1] * jnp.sin(carry[2]), carry[2])
    return lambda x: eqxi.while_loop(lambda c: c[0] < 3, step, (0, x[1], x[0]), kind=kind, **options)[1]


OF_LOOPED = np.array([3 * 2.0 * np.sin(0.8) ** 2 * np.cos(0.8), np.sin(0.8) ** 3, 0.0])


def scanned(kind, **options):
    step = lambda carry, x: (carry * jnp.sin(x) + x, carry**2)

    def loss(x):
        carry, ys = eqxi.scan(step, x[0], jnp.concatenate([x, x**2]), kind=kind, **options)
        return carry + jnp.sum(ys)

    return loss


@eqx.filter_custom_vjp
def own_vjp(pair, power):
    return pair[0] ** power * pair[1]


own_vjp.def_fwd(lambda perturbed, pair, power: (own_vjp(pair, power), None))
own_vjp.def_bwd(lambda residuals, g, perturbed, pair, power: (5 * g * pair[1], 7 * g * pair[0]))


@eqx.filter_custom_jvp
def own_jvp(x, power):
    return x**power


@own_jvp.def_jvp
def _own_jvp(primals, tangents):
    (x, power), (t, _) = primals, tangents
    return x**power, 11 * power * x ** (power - 1) * t


MLP = eqx.nn.MLP(3, "scalar", 8, 2, jax.nn.gelu, key=jr.key(0))
ATTENTION = eqx.nn.MultiheadAttention(2, 4, key=jr.key(1))
weights = lambda module: jax.tree.map(lambda w: w.astype(jnp.float64), eqx.filter(module, eqx.is_inexact_array))
with_weights = lambda module, params: eqx.combine(params, eqx.filter(module, eqx.is_inexact_array, inverse=True))
WORDS = jr.normal(jr.key(2), (5, 4))

PROGRAMS = {
    "while_loop, lax": Program(looped("lax"), X, OF_LOOPED),
    "while_loop, bounded": Program(looped("bounded", max_steps=8), X, hessian=True),
    "while_loop, checkpointed": Program(looped("checkpointed", checkpoints=2), X, OF_LOOPED),
    "scan, lax": Program(scanned("lax"), X, hessian=True),
    "scan, checkpointed": Program(scanned("checkpointed", checkpoints=2), X),
    # no Hessian: reverse over reverse raises within Equinox, under jax.grad too
    "noinline": Program(lambda x: jnp.sum(eqxi.noinline(lambda x: jnp.sin(x) * x)(x) ** 2), X),
    "filter_custom_vjp": Program(lambda x: own_vjp((x[0], x[1]), 2), X, np.array([10.0, 5.6, 0.0])),
    "filter_custom_jvp": Program(lambda x: jnp.sum(own_jvp(x, 3)), X, 33 * np.asarray(X) ** 2),
    "filter_checkpoint": Program(lambda x: eqx.filter_checkpoint(MLP)(x), X, hessian=True),
    "filter_jit of a module": Program(
        lambda p: eqx.filter_jit(lambda m: m(X))(with_weights(MLP, p)) ** 2, weights(MLP)
    ),
    "filter_vmap of attention": Program(
        lambda p: jnp.sum(eqx.filter_vmap(lambda s: with_weights(ATTENTION, p)(s * WORDS, WORDS, WORDS))(X) ** 2),
        weights(ATTENTION),
    ),
    "filter_closure_convert": Program(
        lambda x: jnp.sum(eqx.filter_closure_convert(lambda y: y * jnp.sin(x), x)(x)), X, hessian=True
    ),
    "error_if": Program(lambda x: jnp.sum(eqx.error_if(x, x[0] > 5, "too large") ** 3), X),
    "internal: nondifferentiable_backward elsewhere": Program(
        lambda x: jnp.sum(x * jax.lax.stop_gradient(eqxi.nondifferentiable_backward(x))), X, np.asarray(X)
    ),
    "internal: unvmap_any": Program(lambda x: jnp.sum(jnp.where(eqxi.unvmap_any(x > 100), x, x**2)), X),
}
