"""One table of uses and misuses, each run with JAX and with diffprog: equal results, or the same class of error.

A case is a function of the library (`jax` or `diffprog`). Equal means: the same pytree, and for each leaf the same
kind of array, shape, dtype, weak type and value.
"""

import contextlib
import copy
import functools
import inspect
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp

X = np.asarray([0.3, -1.2, 2.0], np.float32)
W = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
Z = np.asarray([1 + 2j, -0.5 + 1j], np.complex64)
FLOAT0 = jax.dtypes.float0


def loss(x, w=W):
    return jnp.sum(jnp.tanh(jnp.dot(w, x)) ** 2)


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
    "keyword arguments of jacrev and hessian": lambda d: (d.jacrev(loss)(X, w=2 * W), d.hessian(loss)(X, w=2 * W)),
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
        1, -1, True, (0, 2), [0, 2], (-1, 0), (1, 1), (0, -3), (1,), np.int64(1), (np.int32(0), 1),
        np.asarray([0, 1]), range(2), 3, -4, (0, 3), (0, -4), (), "a", None, 1.0, (0.0, 1),
    )
    if not (isinstance(argnums, np.integer) and name in ("jacrev", "hessian"))  # see test_numpy_argnums
}  # fmt: skip

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

# ---------------------------------------------------------------- dtypes and weak types

NUMBERS = {
    "float": 2.0,
    "int": 3,
    "float16": np.float16(2.0),
    "bfloat16": jnp.bfloat16(2.0),
    "float32": np.float32(2.0),
    "float64": np.float64(2.0),
    "weak": lambda: jnp.asarray(2.0),
    "vector16": np.asarray([1.0, 2.0], np.float16),
    "vector32": np.asarray([1.0, 2.0], np.float32),
}
MIXTURES = {
    "product": lambda x, y: jnp.sum(x * y),
    "quotient": lambda x, y: jnp.sum(x / y),
    "power": lambda x, y: jnp.sum(x**y),
    "Python number in between": lambda x, y: jnp.sum(3 * x - y / 2),
    "arctan2": lambda x, y: jnp.sum(jnp.arctan2(x, y)),
    "where": lambda x, y: jnp.sum(jnp.where(x > 1, x, y)),
    "converted": lambda x, y: jnp.sum(jnp.float32(x) * jnp.asarray(y, jnp.bfloat16)).astype(jnp.float32),
}
CONFIGURATIONS = {
    "default": contextlib.nullcontext,
    "x64": lambda: jax.enable_x64(True),
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "rank": lambda: jax.numpy_rank_promotion("raise"),
}


def mixture(fun, x, y):
    def case(d):
        values = [v() if callable(v) and not hasattr(v, "dtype") else v for v in (NUMBERS[x], NUMBERS[y])]
        return d.vjp(fun, *values)[0], d.value_and_grad(fun, (0, 1), allow_int=True)(*values)

    return case


def configured(case, configuration):
    def inside(d):
        with CONFIGURATIONS[configuration]():
            return case(d)

    return inside


PAIRS = [(x, y) for i, x in enumerate(NUMBERS) for y in list(NUMBERS)[i:]]
DTYPES = {
    f"{name} of {x} and {y}, {configuration}": configured(mixture(fun, x, y), configuration)
    for j, (name, fun) in enumerate(MIXTURES.items())
    for k, configuration in enumerate(CONFIGURATIONS)
    for i, (x, y) in enumerate(PAIRS)
    if (i + j + 2 * k) % 9 == 0 or (name == "product" and (i + k) % 2 == 0)  # a fair sample
}

# ---------------------------------------------------------------- pullbacks


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

# ---------------------------------------------------------------- debugging switches and names


def nans(fun, x, how=lambda f: f):
    def case(d):
        with jax.debug_nans(True):
            return how(d.value_and_grad(fun))(x)

    return case


def undebugged(name):
    def case(d):
        with jax.disable_jit():
            return d.value_and_grad(PROGRAMS[name])(X)

    return case


PROGRAMS = {
    "jit": lambda x: jnp.sum(jax.jit(jnp.sin)(x)),
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda x: jnp.sum(x**2), lambda x: jnp.sum(x), x),
    "scan": lambda x: jax.lax.scan(lambda c, x: (c * x, c + x), 1.0, x)[0],
    "fori_loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * jnp.sum(x), 1.0),
    "checkpoint": lambda x: jax.checkpoint(loss)(x),
    "relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "Python control flow": lambda x: x[0] ** 2 if x[0] > 0 else x[1],
    "vmap": lambda x: jnp.sum(jax.vmap(lambda x: jax.jit(jnp.exp)(x))(x)),
}

SWITCHES = {
    "debug_nans, fine": nans(loss, X),
    "debug_nans, forward": nans(lambda x: jnp.log(x), -1.0),
    "debug_nans, backward": nans(lambda x: jnp.sqrt(x) * 0.0, 0.0),
    "debug_nans, backward of arcsin": nans(lambda x: jnp.arcsin(x) * 0.0, 1.0),
    "debug_nans, jitted inside": nans(jax.jit(lambda x: jnp.sqrt(x) * 0.0), 0.0),
    "debug_nans, jitted outside": nans(lambda x: jnp.sqrt(x) * 0.0, 0.0, jax.jit),
    "debug_nans, jitted, fine": nans(jax.jit(loss), X, jax.jit),
    "debug_nans, in a loop": nans(lambda x: jax.lax.scan(lambda c, _: (jnp.sqrt(c) * 0.0, None), x, length=2)[0], 0.0),
    **{f"disable_jit, {name}": undebugged(name) for name in PROGRAMS},
    "concrete in Python control flow": lambda d: d.grad(PROGRAMS["Python control flow"])(X),
    "abstract in Python control flow": lambda d: jax.jit(d.grad(PROGRAMS["Python control flow"]))(X),
    "float() of a traced value": lambda d: d.grad(lambda x: x * float(x))(3.0),
    "int() of a traced value": lambda d: d.grad(lambda x: x * int(x))(3.0),
    "NumPy of a traced value": lambda d: d.grad(lambda x: x * np.sin(x))(3.0),
    "np.asarray of a traced value": lambda d: d.grad(lambda x: jnp.sum(np.asarray(x)))(X),
    "item of a traced value": lambda d: d.grad(lambda x: x * x.item())(jnp.float32(3.0)),
    "tolist of a traced value": lambda d: d.grad(lambda x: x[0] * x.tolist()[1])(X),
    "setting an element": lambda d: d.grad(lambda x: x.__setitem__(0, 1.0))(jnp.asarray(X)),
    "updated element": lambda d: d.grad(lambda x: jnp.sum(jnp.asarray(x).at[0].set(x[1]) ** 2))(X),
    "as an index": lambda d: d.grad(lambda x: [1.0, 2.0][x])(1.0),
    "as a dictionary key": lambda d: d.grad(lambda x: {x: 1.0}[x])(1.0),
    "iterated": lambda d: d.grad(lambda x: sum(v**2 for v in x))(X),
    "len, ndim, shape, dtype, size": lambda d: d.grad(lambda x: x[0] * len(x) * x.ndim * x.size * x.shape[0])(X),
    "axis name": lambda d: jax.vmap(d.grad(lambda x: jnp.sum(x * jax.lax.psum(x, "rows"))), axis_name="rows")(W),
    "axis name, inside": lambda d: d.grad(
        lambda w: jnp.sum(jax.vmap(lambda x: x**2 / jax.lax.pmean(x, "r"), axis_name="r")(w))
    )(W),
    "unbound axis name": lambda d: d.grad(lambda x: jax.lax.psum(x, "rows"))(1.0),
    "axis index": lambda d: jax.vmap(d.grad(lambda x: x**2 * jax.lax.axis_index("rows")), axis_name="rows")(X),
}

# ---------------------------------------------------------------- checkpoint and the custom rules


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

# ---------------------------------------------------------------- the comparison


def outcome(case, library):
    try:
        return case(library), None
    except Exception as error:
        return None, error


def kind(x):
    """What `jax.Array`s of equal values can differ in."""
    if isinstance(x, jax.Array):
        return "array", x.shape, x.dtype, getattr(x, "weak_type", None)
    if isinstance(x, float):
        return "float"  # or a subclass with which JAX tells its dtype
    return type(x).__name__, np.shape(x), getattr(x, "dtype", None)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert kind(a) == kind(b)
        if hasattr(b, "dtype") and jnp.issubdtype(b.dtype, np.inexact):
            close = 100 * float(jnp.finfo(b.dtype).eps)  # sums in another order
            wide = np.complex128 if jnp.issubdtype(b.dtype, np.complexfloating) else np.float64
            a, b = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
            np.testing.assert_allclose(
                a, b, rtol=close, atol=close * np.max(np.abs(b), initial=0, where=np.isfinite(b))
            )
        elif not hasattr(b, "dtype"):
            assert a == b
        elif b.dtype != FLOAT0 and not jnp.issubdtype(b.dtype, jax.dtypes.extended):
            np.testing.assert_array_equal(a, b)


TABLES = {
    "functions": FUNCTIONS,
    "argnums": ARGNUMS,
    "results": RESULTS,
    "arguments": ARGUMENTS,
    "dtypes": DTYPES,
    "pullbacks": PULLBACKS,
    "switches": SWITCHES,
    "custom": CUSTOM,
}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, cases in TABLES.items() for name in cases])
def test_as_jax(table, name):
    theirs, refused = outcome(TABLES[table][name], jax)
    ours, error = outcome(TABLES[table][name], dp)
    if refused is None:
        if error is not None:
            raise error
        assert_equal(ours, theirs)
    else:
        assert error is not None, f"JAX raises {refused!r}; diffprog returned {ours}"
        assert isinstance(error, type(refused)), f"JAX raises {refused!r}; diffprog {error!r}"


# ---------------------------------------------------------------- where we differ, on purpose

LEFT_OUT = {"reduce_axes", "saveable_args", "in_nzs"}  # deprecated; the others speak of JAX's own pullback object


@pytest.mark.parametrize("name", ["vjp", "grad", "value_and_grad", "jacrev", "hessian"])
def test_same_arguments(name):
    ours, theirs = (inspect.signature(getattr(library, name)).parameters for library in (dp, jax))
    described = lambda parameters: [(p.name, p.kind, p.default) for p in parameters.values() if p.name not in LEFT_OUT]
    assert described(ours) == described(theirs)


@pytest.mark.parametrize("name", ["jacrev", "hessian"])
def test_numpy_argnums(name):
    """A NumPy integer is an integer to us; JAX's `jacrev`, unlike its `grad`, takes it for a tuple."""
    fun = lambda x, y: x**2 * y**3
    assert_equal(getattr(dp, name)(fun, np.int64(1))(2.0, 3.0), getattr(jax, name)(fun, 1)(2.0, 3.0))


def test_traced_argnums():
    with pytest.raises(TypeError, match="argnums must be an integer"):
        jax.jit(lambda n: dp.grad(lambda x, y: x * y, n)(1.0, 2.0))(1)


def test_donated_inside():
    """JAX keeps what the inner call donated, and finds it deleted; we withdraw the donation."""
    expected = jax.grad(lambda x: jnp.sum(jnp.sin(2 * x) * 2 * x) + jnp.sum(x))(X)
    assert_equal(donated_inside(dp, extra=jnp.sum), expected)


def test_nothing_to_differentiate():
    assert dp.jacrev(lambda x: 1.0)(()) == ()
    assert dp.jacrev(lambda x: 1.0)(None) is None


def test_integers_and_keys_in_jacrev():
    np.testing.assert_array_equal(dp.jacrev(lambda n: n * X, allow_int=True)(True), np.zeros(3, bool))
    with pytest.raises(TypeError):
        dp.jacrev(jax.random.normal, allow_int=True)(jax.random.key(0))


def test_references_are_refused():
    with pytest.raises(TypeError, match="pass its value"):
        dp.grad(lambda ref: jnp.sum(ref[...]))(jax.new_ref(jnp.asarray(X)))


def test_pullbacks_are_not_pickled():
    """Neither JAX's nor ours."""
    for library in (dp, jax):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pickle.dumps(pullback(library))
