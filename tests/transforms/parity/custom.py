"""Cases: `checkpoint` and the custom rules."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.transforms.parity.common import W, X, loss


def clip_rule(bwd, fwd=lambda x, y: (x * y, (x, y)), primal=lambda x, y: x * y, **options):
    """The gradient of a custom_vjp function of two arguments."""

    def case(d):
        fun = jax.custom_vjp(primal)
        fun.defvjp(fwd, bwd, **options)
        return d.value_and_grad(lambda x, y: jnp.sum(fun(x, y)), (0, 1))(X, np.float32(2.0))

    return case


def tangent_rule(rule, primal=lambda x, y: x * y, **options):
    def case(d):
        fun = jax.custom_jvp(primal)
        fun.defjvp(rule, **options)
        return d.value_and_grad(lambda x, y: jnp.sum(fun(x, y)), (0, 1))(X, X + 1)

    return case


def with_defjvps(*rules):
    def case(d):
        fun = jax.custom_jvp(lambda x, y: x * jnp.sin(y))
        fun.defjvps(*rules)
        return d.value_and_grad(lambda x, y: jnp.sum(fun(x, y)), (0, 1))(X, X + 1)

    return case


def custom_vjp_nondiff(d, bwd=lambda power, saved, g: (power * saved ** (power - 1) * g,), **options):
    fun = jax.custom_vjp(lambda power, x: x**power, **(options or {"nondiff_argnums": (0,)}))
    fun.defvjp(lambda power, x: (x**power, x), bwd)
    return d.grad(lambda x: jnp.sum(fun(3, x)))(X)


def custom_jvp_nondiff(d, **options):
    fun = jax.custom_jvp(lambda f, x: f(x), **options)
    fun.defjvp(lambda f, primals, tangents: (f(*primals), 2 * f(*primals) * tangents[0]))
    return d.grad(lambda x: jnp.sum(fun(jnp.sin, x)))(X)


def custom_vjp_by_keyword(d):
    fun = jax.custom_vjp(lambda x, y: x * y)
    fun.defvjp(lambda x, y: (x * y, y), lambda y, g: (3 * g * y, None))
    return d.grad(lambda x: jnp.sum(fun(y=2.0, x=x)))(X)


def symbolic(d):
    fun = jax.custom_vjp(lambda x, y: (x * y, y))

    def fwd(x, y):
        return (x.value * y.value, y.value), (x.value, y.value, x.perturbed, y.perturbed)

    def bwd(saved, g):
        zeros = [type(part).__name__ == "SymbolicZero" for part in g]
        x, y, *_ = saved
        return (0 * x if zeros[0] else g[0] * y), jnp.float32(10 * zeros[0] + zeros[1])

    fun.defvjp(fwd, bwd, symbolic_zeros=True)
    return d.grad(lambda x, y: jnp.sum(fun(x, y)[0]), (0, 1))(X, np.float32(2.0))


def remat(fun=loss, x=X, call=lambda fun, x: fun(x), **options):
    return lambda d: d.value_and_grad(lambda x: call(jax.checkpoint(fun, **options), x))(x)


POLICIES = jax.checkpoint_policies
CUSTOM = {
    "custom_vjp": clip_rule(lambda saved, g: (saved[1] * g, jnp.sum(saved[0] * g))),
    "custom_vjp, None": clip_rule(lambda saved, g: (3 * g, None)),
    "custom_vjp, all None": clip_rule(lambda saved, g: (None, None)),
    "custom_vjp, a list": clip_rule(lambda saved, g: [3 * g, jnp.float32(1.0)]),
    "custom_vjp, too few": clip_rule(lambda saved, g: (g,)),
    "custom_vjp, too many": clip_rule(lambda saved, g: (g, g, g)),
    "custom_vjp, no tuple": clip_rule(lambda saved, g: g),
    "custom_vjp, nothing": clip_rule(lambda saved, g: None),
    "custom_vjp, wrong shape": clip_rule(lambda saved, g: (g[:2], jnp.float32(1.0))),
    "custom_vjp, would broadcast": clip_rule(lambda saved, g: (g, g)),
    "custom_vjp, wrong dtype": clip_rule(lambda saved, g: (g.astype(jnp.float16), jnp.float32(1.0))),
    "custom_vjp, integers": clip_rule(lambda saved, g: (g.astype(jnp.int32), jnp.float32(1.0))),
    "custom_vjp, Python numbers": clip_rule(lambda saved, g: (g, 1.0)),
    "custom_vjp, Python int": clip_rule(lambda saved, g: (g, 1)),
    "custom_vjp, text": clip_rule(lambda saved, g: (g, "a")),
    "custom_vjp, dict": clip_rule(lambda saved, g: ({"x": g}, None)),
    "custom_vjp, bwd of one argument": clip_rule(lambda saved: (saved, None)),
    "custom_vjp, fwd without residuals": clip_rule(lambda saved, g: (g, None), fwd=lambda x, y: x * y),
    "custom_vjp, fwd of three": clip_rule(lambda saved, g: (g, None), fwd=lambda x, y: (x * y, x, y)),
    "custom_vjp, fwd of another structure": clip_rule(lambda saved, g: (g, None), fwd=lambda x, y: ((x, x), y)),
    "custom_vjp, fwd of another shape": clip_rule(lambda saved, g: (3.0 * X, None), fwd=lambda x, y: (y, y)),
    "custom_vjp, fwd of one argument": clip_rule(lambda saved, g: (g, None), fwd=lambda x: (x, x)),
    "custom_vjp, fwd is no function": clip_rule(lambda saved, g: (g, None), fwd=3),
    "custom_vjp, residual of any kind": clip_rule(lambda saved, g: (g, None), fwd=lambda x, y: (x * y, "text")),
    "custom_vjp, static residuals": clip_rule(
        lambda saved, g: (saved[0] * g, None), fwd=lambda x, y: (x * y, (3, None))
    ),
    "custom_vjp, optimize_remat": clip_rule(lambda saved, g: (3 * g, None), optimize_remat=True),
    "custom_vjp, nondiff_argnums": custom_vjp_nondiff,
    "custom_vjp, nondiff_argnames": lambda d: custom_vjp_nondiff(d, nondiff_argnames=("power",)),
    "custom_vjp, nondiff, too many": lambda d: custom_vjp_nondiff(d, bwd=lambda power, saved, g: (None, g)),
    "custom_vjp, nondiff out of range": lambda d: custom_vjp_nondiff(d, nondiff_argnums=(5,)),
    "custom_vjp, by keyword": custom_vjp_by_keyword,
    "custom_vjp, symbolic zeros": symbolic,
    "custom_vjp, undefined": lambda d: d.grad(jax.custom_vjp(jnp.sin))(1.0),
    "custom_jvp": tangent_rule(lambda p, t: (p[0] * p[1], 3 * t[0] + t[1] * p[1])),
    "custom_jvp, one tangent unused": tangent_rule(lambda p, t: (p[0] * p[1], 3 * t[0])),
    "custom_jvp, zero": tangent_rule(lambda p, t: (p[0] * p[1], jnp.zeros_like(p[0]))),
    "custom_jvp, no pair": tangent_rule(lambda p, t: t[0]),
    "custom_jvp, None": tangent_rule(lambda p, t: (p[0], None)),
    "custom_jvp, wrong shape": tangent_rule(lambda p, t: (p[0] * p[1], t[0][:2])),
    "custom_jvp, wrong dtype": tangent_rule(lambda p, t: (p[0] * p[1], t[0].astype(jnp.float16))),
    "custom_jvp, wrong structure": tangent_rule(lambda p, t: (p[0] * p[1], (t[0], t[1]))),
    "custom_jvp, another primal": tangent_rule(lambda p, t: (p[0][0], t[0][0])),
    "custom_jvp, symbolic zeros": tangent_rule(lambda p, t: (p[0] * p[1], 3 * t[0] + 5 * t[1]), symbolic_zeros=True),
    "custom_jvp, defjvps": with_defjvps(lambda t, ans, x, y: 2 * t * ans, lambda t, ans, x, y: t * x),
    "custom_jvp, defjvps with None": with_defjvps(lambda t, ans, x, y: 2 * t * ans, None),
    "custom_jvp, defjvps, too few": with_defjvps(lambda t, ans, x, y: 2 * t * ans),
    "custom_jvp, defjvps, too many": with_defjvps(lambda t, ans, x, y: 2 * t * ans, None, None),
    "custom_jvp, nondiff_argnums": lambda d: custom_jvp_nondiff(d, nondiff_argnums=(0,)),
    "custom_jvp, nondiff_argnames": lambda d: custom_jvp_nondiff(d, nondiff_argnames=("f",)),
    "custom_jvp, undefined": lambda d: d.grad(jax.custom_jvp(jnp.sin))(1.0),
    "checkpoint": remat(),
    "checkpoint, prevent_cse": remat(prevent_cse=False),
    "checkpoint, policy": remat(policy=POLICIES.dots_saveable),
    "checkpoint, no policy": remat(policy=3),
    "checkpoint, policy that answers otherwise": remat(policy=lambda *args, **params: "perhaps"),
    "checkpoint, static_argnums": remat(lambda x, n: jnp.sum(x**n), call=lambda f, x: f(x, 3), static_argnums=1),
    "checkpoint, negative static_argnums": remat(
        lambda x, n: jnp.sum(x**n), call=lambda f, x: f(x, 3), static_argnums=-1
    ),
    "checkpoint, static_argnums out of range": remat(static_argnums=4),
    "checkpoint, traced static argument": remat(lambda x: jnp.sum(x), static_argnums=0),
    "checkpoint, static_argnames": remat(lambda x, n: jnp.sum(x**n), call=lambda f, x: f(x, n=3), static_argnames="n"),
    "checkpoint, unhashable static argument": remat(
        lambda x, n: jnp.sum(x ** n[0]), call=lambda f, x: f(x, [3]), static_argnums=1
    ),
    "checkpoint, concrete": remat(concrete=True),
    "checkpoint, keyword": remat(call=lambda f, x: f(x, w=2 * W)),
    "checkpoint, Python control flow": remat(lambda x: jnp.sum(x) if x[0] > 0 else x[1]),
    "checkpoint of a non-callable": remat(3),
    "checkpoint with names": remat(
        lambda x: jnp.sum(jnp.sin(jax.ad_checkpoint.checkpoint_name(jnp.sin(x), "s"))),
        policy=POLICIES.save_only_these_names("s"),
    ),
}
