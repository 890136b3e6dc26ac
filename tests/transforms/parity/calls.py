"""Cases: what is differentiated, with respect to what, and what it returns."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.transforms.parity.common import FLOAT0, W, X, Z, loss


class Pair(NamedTuple):
    a: float
    b: float


class Squares:
    """A callable object and a bound method."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * jnp.sum(x**2)

    def cubes(self, x):
        return self.factor * jnp.sum(x**3)


# ---------------------------------------------------------------- what is differentiated, and with respect to what

FUNCTIONS = {
    "not callable": lambda d: d.grad(3),
    "vjp of a non-callable": lambda d: d.vjp(3, 1.0),
    "jacrev of a non-callable": lambda d: d.jacrev(3),
    "hessian of a non-callable": lambda d: d.hessian(3),
    "partial": lambda d: d.grad(functools.partial(loss, w=2 * W))(X),
    "partial, positional": lambda d: d.grad(functools.partial(lambda a, b: jnp.sum(a * b), X))(X),
    "callable object": lambda d: d.value_and_grad(Squares(2.0))(X),
    "bound method": lambda d: d.jacrev(Squares(2.0).cubes)(X),
    "jitted": lambda d: d.grad(jax.jit(loss))(X),
    "vmapped": lambda d: d.jacrev(jax.vmap(lambda x: x**2))(X),
    "built-in": lambda d: d.grad(abs)(-2.0),
    "keyword arguments": lambda d: d.grad(loss)(X, w=2 * W),
    "keyword-only function": lambda d: d.grad(lambda *, x: x)(x=1.0),
    "keyword-only beside positional": lambda d: d.value_and_grad(lambda x, *, scale, n: scale * x**n)(
        2.0, scale=X[0], n=3
    ),
    "keyword arguments of jacrev and hessian": lambda d: (d.jacrev(loss)(X, w=W / 2), d.hessian(loss)(X, w=W / 2)),
    "vjp takes no keyword arguments": lambda d: d.vjp(loss, X, w=W),
    "wrong number of arguments": lambda d: d.grad(lambda x, y: x)(1.0),
    "vjp, wrong number of arguments": lambda d: d.vjp(lambda x, y: x, 1.0),
    "vjp of nothing": lambda d: (lambda y, back: (y, back(1.0)))(*d.vjp(lambda: jnp.float32(2.0))),
    "default argument untouched": lambda d: d.grad(lambda x, n=2: x**n)(3.0),
    "an error of the function's own": lambda d: d.grad(lambda x: {}["missing"])(1.0),
    "named scope": lambda d: d.grad(jax.named_scope("part")(loss))(X),
    "argument mutated by the function": lambda d: d.grad(lambda tree: tree.update(b=1.0) or tree["a"])({"a": 2.0}),
}

ARGNUMS = {
    f"{name}, argnums={argnums!r}": functools.partial(
        lambda d, name, argnums: getattr(d, name)(lambda x, y, z: x**2 * y**3 * z, argnums)(2.0, 3.0, 5.0),
        name=name,
        argnums=argnums,
    )
    for name in ("grad", "value_and_grad", "jacrev", "hessian")
    for argnums in (
        1,
        -1,
        True,
        (0, 2),
        [0, 2],
        (-1, 0),
        (1, 1),
        (0, -3),
        (1,),
        np.int64(1),
        (np.int32(0), 1),
        np.asarray([0, 1]),
        range(2),
        3,
        -4,
        (0, 3),
        (0, -4),
        (),
        "a",
        None,
        1.0,
        (0.0, 1),
    )
    if not (isinstance(argnums, np.integer) and name in ("jacrev", "hessian"))  # see test_numpy_argnums
}

ARGNUMS |= {
    "argument missing because it came by keyword": lambda d: d.grad(lambda x, y: x * y, 1)(1.0, y=2.0),
    "no argument at all": lambda d: d.grad(lambda x=1.0: x)(),
    "others may be anything": lambda d: d.grad(lambda x, how: x**2 if how == "square" else x)(3.0, "square"),
    "others of jacrev may be anything": lambda d: d.jacrev(lambda x, how: x**2 if how is None else x)(X, None),
    "others stay Python scalars": lambda d: d.grad(lambda x, n: x * sum(range(n)))(2.0, 4),
    "others of hessian stay Python scalars": lambda d: d.hessian(lambda x, n: x ** sum(range(n)))(2.0, 3),
    "the same array twice": lambda d: (lambda x: d.grad(lambda a, b: jnp.sum(a * b**2), (0, 1))(x, x))(jnp.asarray(X)),
}

# ---------------------------------------------------------------- results


def both(name, fun, *args, **options):
    return {f"{name} ({t})": lambda d, t=t: getattr(d, t)(fun, **options)(*args) for t in ("value_and_grad", "jacrev")}


RESULTS = {
    **both("vector", lambda x: x, X),
    **both("one element", lambda x: x[:1], X),
    **both("tuple", lambda x: (x, x), 1.0),
    **both("tuple of one", lambda x: (x,), 1.0),
    **both("dict of one", lambda x: {"a": x}, 1.0),
    **both("no result", lambda x: None, 1.0),
    **both("empty tuple", lambda x: (), 1.0),
    **both("text", lambda x: "text", 1.0),
    **both("a type", lambda x: int, 1.0),
    **both("list with text", lambda x: [x, "text"], 1.0),
    **both("boolean", lambda x: x > 0, 1.0),
    **both("integer", lambda x: jnp.int32(3), 1.0),
    **both("Python int", lambda x: 3, 1.0),
    **both("Python float", lambda x: 3.0, 1.0),
    **both("NumPy scalar", lambda x: np.float32(3.0), 1.0),
    **both("the argument itself", lambda x: x, 1.0),
    **both("complex", lambda x: x * 1j, 1.0),
    **both("complex input, real result", lambda z: jnp.sum(jnp.abs(z) ** 2), Z),
    **both("complex input, complex result", lambda z: jnp.sum(z**2), Z),
    **both("holomorphic", lambda z: jnp.sum(jnp.sin(z) * z), Z, holomorphic=True),
    **both("holomorphic, real input", lambda z: jnp.sum(z * 1j), X, holomorphic=True),
    **both("holomorphic, real result", lambda z: jnp.sum(jnp.abs(z)), Z, holomorphic=True),
    **both("a pair without has_aux", lambda x: (x, 1), 1.0),
    **both("has_aux", lambda x: (x**2, {"x": x, "n": None, "k": jnp.arange(2)}), 3.0, has_aux=True),
    **both("has_aux, no pair", lambda x: x, 1.0, has_aux=True),
    **both("has_aux, three", lambda x: (x, x, x), 1.0, has_aux=True),
    **both("has_aux, list", lambda x: [x, x], 1.0, has_aux=True),
    **both("has_aux, None", lambda x: None, 1.0, has_aux=True),
    **both("has_aux, a vector of two", lambda x: x[:2], X, has_aux=True),
    **both("has_aux, text", lambda x: (x**2, "text"), 3.0, has_aux=True),
    **both("has_aux, Python numbers", lambda x: (x**2, (1, 2.0)), 3.0, has_aux=True),
    **both("key in", lambda key: jax.random.normal(key), jax.random.key(0)),
    **both("key out", lambda x: jax.random.key(0), 1.0),
    "hessian, complex": lambda d: d.hessian(lambda z: jnp.sum(z**3), holomorphic=True)(Z),
    "hessian, complex without holomorphic": lambda d: d.hessian(lambda z: jnp.sum(z**3))(Z),
    "hessian, has_aux": lambda d: d.hessian(lambda x: (loss(x), {"x": x}), has_aux=True)(X),
    "hessian, vector": lambda d: d.hessian(lambda x: x**3)(X),
    "hessian, integers": lambda d: d.hessian(lambda x: x**3)(2),
    "grad, has_aux": lambda d: d.grad(lambda x: (loss(x), {"x": x}), has_aux=True)(X),
    "vjp, has_aux": lambda d: d.vjp(lambda x: (loss(x), {"x": x}), X, has_aux=True)[::2],
    "vjp, has_aux, no pair": lambda d: d.vjp(lambda x: x, X, has_aux=True),
    "vjp, text": lambda d: d.vjp(lambda x: "text", X),
    "vjp, None": lambda d: (lambda y, back: (y, back(None)))(*d.vjp(lambda x: None, X)),
    "vjp, integer result": lambda d: (lambda y, back: (y, back(np.zeros((), FLOAT0))))(*d.vjp(lambda x: 3, X)),
}

# ---------------------------------------------------------------- arguments, their pytrees and types

ARGUMENTS = {
    **both("integer", lambda x: x * 2.0, 3),
    **both("integer, allow_int", lambda x: x * 2.0, 3, allow_int=True),
    **both("integers, allow_int", lambda x: jnp.sum(x * 2.0), np.arange(3), allow_int=True),
    **both("boolean", lambda x: x * 2.0, True),
    "boolean, allow_int": lambda d: d.value_and_grad(lambda x: x * 2.0, allow_int=True)(True),
    "key, allow_int": lambda d: d.grad(jax.random.normal, allow_int=True)(jax.random.key(0)),
    "None": lambda d: d.value_and_grad(lambda x: 1.0)(None),
    "empty tree": lambda d: d.value_and_grad(lambda x: 1.0)(()),
    **both("mixed tree, allow_int", lambda t: t["x"] * t["n"], {"x": 2.0, "n": 3}, allow_int=True),
    **both("mixed tree", lambda t: t["x"] * t["n"], {"x": 2.0, "n": 3}),
    **both("None leaves", lambda t: t[0] ** 2, (2.0, None, {"a": None})),
    **both("empty dict and list", lambda t: t[0] ** 2, (2.0, {}, [])),
    **both("text", lambda x: x, "a"),
    **both("text in a tree", lambda t: t[0], (1.0, "a")),
    **both("object", lambda x: x, object()),
    **both("list of numbers", lambda t: t[0] * t[1], [2.0, 3.0]),
    **both("list taken as an array", lambda t: jnp.sum(t), [2.0, 3.0]),
    **both("NumPy objects", lambda x: x, np.asarray([None])),
    **both("NumPy text", lambda x: x, np.asarray(["a"])),
    **both("NumPy scalar", lambda x: x**2, np.float32(3.0)),
    **both("NumPy double", lambda x: x**2, np.float64(3.0)),
    **both("NumPy doubles", lambda x: jnp.sum(x**2), X.astype(np.float64)),
    **both("Python float", lambda x: x**2, 3.0),
    **both("Python complex", lambda x: jnp.real(x**2), 3.0 + 1j),
    **both("unused", lambda x: 1.0, X),
    **both("no elements", lambda x: jnp.sum(x), np.zeros((0, 3), np.float32)),
    **both("ShapeDtypeStruct", lambda x: jnp.sum(x), jax.ShapeDtypeStruct((3,), np.float32)),
    **both("named tuple", lambda t: t.a * t.b, Pair(2.0, 3.0)),
    "vjp, text": lambda d: d.vjp(lambda x: x, "a"),
    "vjp, integers": lambda d: d.vjp(lambda x: x * 2.0, 3)[1](1.0),
    "vjp, mixed": lambda d: d.vjp(lambda x, n, b: (x * n, b), 2.0, 3, True)[1]((1.0, np.zeros((), FLOAT0))),
}
