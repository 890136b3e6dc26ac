"""Cases: pullbacks as values."""

import copy

import jax
import jax.numpy as jnp
import numpy as np

from tests.transforms.parity.common import FLOAT0, W, X


def pullback(d, fun=lambda x: (jnp.sin(x) * x[0], x[1]), x=X):
    return d.vjp(fun, x)[1]


COTANGENT = (X, np.float32(2.0))


def used_twice(d):
    back = pullback(d)
    return back(COTANGENT), back(COTANGENT), jax.vmap(back)((np.eye(3, dtype=np.float32), X))


def leaves_a_jit(d):
    back = jax.jit(lambda x: pullback(d, x=x))(X)
    return back(COTANGENT), jax.jit(lambda back, g: back(g))(back, COTANGENT)


def leaves_a_vmap(d):
    backs = jax.vmap(lambda x: pullback(d, x=x))(W)
    return jax.vmap(lambda back: back(COTANGENT))(backs)


def donated(d, fun=lambda x: x * 2.0, through=lambda f: f):
    step = jax.jit(through(lambda x: x - d.grad(lambda x: jnp.sum(jnp.sin(fun(x))))(x)), donate_argnums=0)
    return step(jnp.array(X))


def donated_inside(d, extra=lambda x: 0.0):
    inner = jax.jit(lambda x: jnp.sin(x) * x, donate_argnums=0)
    return d.grad(lambda x: jnp.sum(inner(x * 2.0)) + extra(x))(jnp.array(X))


def leaked(d, use):
    kept = []
    d.grad(lambda x: kept.append(x * 2) or jnp.sum(x))(X)
    return use(kept[0])


def donated_pullback(d):
    y, back = jax.jit(lambda x: d.vjp(jnp.sin, x))(jnp.array(X))
    return jax.jit(lambda back, g: back(g), donate_argnums=1)(back, jnp.array(y))


PULLBACKS = {
    "used twice": used_twice,
    "leaves a jit": leaves_a_jit,
    "leaves a vmap": leaves_a_vmap,
    "leaves a scan": lambda d: jax.vmap(lambda b: b(COTANGENT))(
        jax.lax.scan(lambda c, x: (c, pullback(d, x=x)), 0, W)[1]
    ),
    "mapped over its leaves": lambda d: jax.tree.map(lambda x: x, pullback(d))(COTANGENT),
    "flattened and rebuilt": lambda d: (lambda back: jax.tree.unflatten(*jax.tree.flatten(back)[::-1]))(pullback(d))(
        COTANGENT
    ),
    "copied": lambda d: copy.copy(pullback(d))(COTANGENT),
    "hashed": lambda d: isinstance(hash(pullback(d)), int),
    "compared": lambda d: pullback(d) == pullback(d),
    "differentiated": lambda d: d.grad(lambda x: jnp.sum(pullback(d, x=x)(COTANGENT)[0]))(X),
    "linear in the cotangent": lambda d: d.jacrev(pullback(d))(COTANGENT),
    "pushed forward": lambda d: jax.jvp(pullback(d), (COTANGENT,), (COTANGENT,)),
    "transposed": lambda d: jax.linear_transpose(pullback(d), COTANGENT)((X,)),
    "other structure": lambda d: pullback(d)(X),
    "list for tuple": lambda d: pullback(d)(list(COTANGENT)),
    "None": lambda d: pullback(d)((X, None)),
    "other shape": lambda d: pullback(d)((X[:2], COTANGENT[1])),
    "would broadcast": lambda d: pullback(d)((np.float32(1.0), COTANGENT[1])),
    "other dtype": lambda d: pullback(d)((X.astype(np.float16), COTANGENT[1])),
    "complex for real": lambda d: pullback(d)((X * 1j, COTANGENT[1])),
    "integers for floats": lambda d: pullback(d)((X.astype(np.int32), COTANGENT[1])),
    "doubles for floats": lambda d: pullback(d)((X.astype(np.float64), COTANGENT[1])),
    "Python numbers": lambda d: d.vjp(lambda x: x**2, 3.0)[1](2.0),
    "Python int for a float": lambda d: d.vjp(lambda x: x**2, 3.0)[1](2),
    "Python number for a strong float": lambda d: d.vjp(lambda x: x**2, np.float32(3.0))[1](2.0),
    "strong for a Python number": lambda d: d.vjp(lambda x: x**2, 3.0)[1](np.float32(2.0)),
    "Python complex": lambda d: d.vjp(lambda x: x * 1j, 3.0)[1](2.0 + 1j),
    "real for complex": lambda d: d.vjp(lambda x: x * 1j, 3.0)[1](2.0),
    "text": lambda d: pullback(d)((X, "a")),
    "two cotangents": lambda d: pullback(d)(X, X),
    "none at all": lambda d: pullback(d)(),
    "float0": lambda d: d.vjp(lambda x: (x, 1), 3.0)[1]((1.0, np.zeros((), FLOAT0))),
    "zeros for float0": lambda d: d.vjp(lambda x: (x, 1), 3.0)[1]((1.0, 0)),
    "float for float0": lambda d: d.vjp(lambda x: (x, 1), 3.0)[1]((1.0, 0.0)),
    "boolean for float0": lambda d: d.vjp(lambda x: (x, x > 0), 3.0)[1]((1.0, False)),
    "float0 of another shape": lambda d: d.vjp(lambda x: (x, 1), 3.0)[1]((1.0, np.zeros(2, FLOAT0))),
    "float0 for a float": lambda d: d.vjp(lambda x: x**2, 3.0)[1](np.zeros((), FLOAT0)),
    "donated": donated,
    "donated, identity": lambda d: donated(d, fun=lambda x: x),
    "donated inside, jitted": lambda d: jax.jit(lambda: donated_inside(d))(),
    "donated cotangent": donated_pullback,
    "leaked": lambda d: leaked(d, jnp.sin),
    "leaked, as a number": lambda d: leaked(d, lambda x: x + 1),
    "leaked, into another gradient": lambda d: leaked(d, lambda x: d.grad(lambda y: jnp.sum(x * y))(X)),
    "leaked out of a jit": lambda d: (
        lambda kept: jax.jit(d.grad(lambda x: kept.append(x) or jnp.sum(x)))(X) + kept[0]
    )([]),
}
