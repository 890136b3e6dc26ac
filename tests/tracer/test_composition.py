"""Our gradient over and under JAX's transformations, control flow and custom rules."""

import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from tests.transforms.test_reverse import assert_same

X = jnp.asarray([0.3, -1.2, 2.0], jnp.float32)


def scan_with_everything(x):
    """Wanted and unwanted constants, carries that become live later, a constant carry, stacked results, integers."""

    def body(carry, step):
        live, later, counter, replaced = carry
        live = jnp.sin(live * x[0]) + step["x"] * 0.1
        carry = (live, later + live * x[1], counter + 1, jnp.float32(2.0))
        return carry, (live * replaced, counter, later * step["k"])

    start = (x, jnp.zeros_like(x), 0, x[2])
    steps = {"x": jnp.outer(jnp.arange(1, 5, dtype=x.dtype), x), "k": jnp.arange(4, dtype=x.dtype)}
    (live, later, _, replaced), (ys, _, zs) = lax.scan(body, start, steps)
    return jnp.sum(live * later) + jnp.sum(ys**2) + jnp.sum(zs) + replaced * x[0]


@jax.custom_jvp
def softplus(x):
    return jnp.log1p(jnp.exp(x))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return softplus(x), t * jax.nn.sigmoid(x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def power(n, x, y):
    return x**n * y


@power.defjvp
def _power_jvp(n, primals, tangents):
    (x, y), (tx, ty) = primals, tangents
    return power(n, x, y), n * x ** (n - 1) * y * tx + 2 * x**n * ty


@partial(jax.custom_jvp)
def symbolic(x, y):
    return x * y


@partial(symbolic.defjvp, symbolic_zeros=True)
def _symbolic_jvp(primals, tangents):
    (x, y), (tx, ty) = primals, tangents
    zero = jax.custom_derivatives.SymbolicZero
    out = x * y
    terms = ([] if type(tx) is zero else [3 * tx * y]) + ([] if type(ty) is zero else [5 * x * ty])
    return out, sum(terms) if terms else zero(jax.typeof(out))


@jax.custom_vjp
def clipped(x, scale, n):
    return x * scale + n


clipped.defvjp(
    lambda x, scale, n: (x * scale + n, (x, scale)),
    lambda residuals, g: (jnp.clip(g * residuals[1], -1, 1), jnp.sum(g * residuals[0]), None),
)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def scaled(x, k):
    return {"a": x * k, "b": jnp.sum(x)}


scaled.defvjp(
    lambda x, k: ({"a": x * k, "b": jnp.sum(x)}, x.shape), lambda k, shape, g: (g["a"] * 10 + jnp.full(shape, g["b"]),)
)

weight = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3)), jnp.float32)

CONSTANT = np.arange(9, dtype=np.float32).reshape(3, 3) / 10

FUNCTIONS = {
    "python control flow": lambda x: jnp.sum(jnp.sin(x) if x[0] > 0 else jnp.cos(x)) * (2 if x[1] < 0 else 3),
    "closure": lambda x: jnp.sum(jnp.tanh(weight @ x) ** 2),
    "jit": lambda x: jnp.sum(jax.jit(lambda x, n: jnp.sin(x) * n)(x, 2)),
    "nested jit": lambda x: jax.jit(lambda x: jnp.sum(jax.jit(jnp.tanh)(x) * jax.jit(lambda y: y * x)(x * 2)))(x),
    "jit with closure": lambda x: jnp.sum(jax.jit(lambda y: y * x)(jnp.sin(x))),
    "jit, some outputs": lambda x: jnp.sum(jax.jit(lambda x: (x * 2, jnp.arange(3), jnp.ones(3), x * x))(x)[3]),
    "jit with a NumPy constant": lambda x: jnp.sum(jax.jit(lambda x: x @ CONSTANT)(x) ** 2),
    "scan with a NumPy constant": lambda x: jnp.sum(lax.scan(lambda c, y: (CONSTANT @ c * y, None), x, x)[0]),
    "cond with a NumPy constant": lambda x: jnp.sum(
        lax.cond(x[0] > 0, lambda x: jnp.sin(CONSTANT @ x), lambda x: x @ CONSTANT, x)
    ),
    "checkpoint with a NumPy constant": lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(CONSTANT @ x))(x)),
    "scan": scan_with_everything,
    "scan, reversed and unrolled": lambda x: lax.scan(
        lambda c, y: (c * y + x[0], None), jnp.float32(1.0), jnp.tile(x, 2), reverse=True, unroll=2
    )[0],
    "scan over nothing": lambda x: jnp.sum(lax.scan(lambda c, _: (c * x, None), x, None, length=0)[0] * x),
    "scan, unused results": lambda x: jnp.sum(lax.scan(lambda c, y: (c, (y * 2, jnp.sin(y))), x[0], x)[1][0]),
    "scan of scan": lambda x: lax.scan(
        lambda c, y: (lax.scan(lambda d, z: (d * z + y, None), c, x)[0], None), jnp.float32(0.5), x
    )[0],
    "fori_loop": lambda x: jnp.sum(lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) * x + i, x)),
    "map": lambda x: jnp.sum(lax.map(lambda y: jnp.sin(y) * x[0], x)),
    "associative_scan": lambda x: jnp.sum(lax.associative_scan(jnp.multiply, x) ** 2),
    "cond": lambda x: lax.cond(x[0] > 0, lambda x: jnp.sum(jnp.sin(x) * x), lambda x: jnp.sum(x), x),
    "cond, other branch": lambda x: lax.cond(x[0] < 0, lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.sum(x * x[1]), x),
    "cond, unequal dependence": lambda x: sum(
        map(
            jnp.sum,
            lax.cond(
                x[0] > 0,
                lambda x, y: (x * y, jnp.ones_like(x)),
                lambda x, y: (jnp.ones_like(x), jnp.exp(x) * y),
                x,
                jnp.cos(x),
            ),
        )
    ),
    "switch": lambda x: lax.switch(2, [jnp.sum, jnp.prod, lambda x: jnp.sum(jnp.exp(x)), jnp.max], x),
    "cond in scan": lambda x: lax.scan(
        lambda c, i: (lax.cond(i % 2 == 0, lambda c: c * x[0], lambda c: jnp.sin(c + x[1]), c), c),
        jnp.float32(0.3),
        jnp.arange(5),
    )[0],
    "while without gradient": lambda x: jnp.sum(x) * lax.while_loop(lambda n: n < 7, lambda n: n * 2, 1),
    "checkpoint": lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.tanh(x) * x[0]))(x)),
    "checkpoint with a policy": lambda x: jnp.sum(
        jax.checkpoint(lambda x: jnp.sin(weight @ x) * x, policy=jax.checkpoint_policies.dots_saveable)(x)
    ),
    "checkpoint in scan": lambda x: jnp.sum(lax.scan(jax.checkpoint(lambda c, y: (jnp.sin(c) * y, c * c)), x, x)[1]),
    "relu": lambda x: jnp.sum(jax.nn.relu(x) ** 2 + jax.nn.softplus(x) * jax.nn.silu(x)),
    "custom_jvp": lambda x: jnp.sum(softplus(x) * x),
    "custom_jvp, static argument": lambda x: jnp.sum(power(3, x, x[0])),
    "custom_jvp, one argument": lambda x: jnp.sum(power(2, jnp.ones(3), x)),
    "custom_jvp, symbolic zeros": lambda x: jnp.sum(symbolic(x, 2.0) + symbolic(x, x)),
    "custom_jvp in jit": lambda x: jax.jit(lambda x: jnp.sum(softplus(x) * power(2, x, x[1])))(x),
    "custom_jvp in scan": lambda x: jnp.sum(lax.scan(lambda c, y: (softplus(c * y), c), x[0], x)[1]),
    "custom_vjp": lambda x: jnp.sum(clipped(x * 3, x[0], jnp.int32(2)) ** 2),
    "custom_vjp of a tree": lambda x: jnp.sum(scaled(jnp.sin(x), 2.0)["a"]),
    "custom_vjp in jit": lambda x: jax.jit(lambda x: jnp.sum(clipped(x, x[1], 1)))(x),
    "custom_vjp in scan": lambda x: jnp.sum(lax.scan(lambda c, y: (clipped(c, y, 1), c), x[0], x)[1]),
    "stop_gradient": lambda x: jnp.sum(lax.stop_gradient(jnp.sin(x)) * x + lax.stop_gradient({"a": x})["a"]),
    "straight through": lambda x: jnp.sum((x + lax.stop_gradient(jnp.round(x) - x)) ** 2),
    "vmap inside": lambda x: jnp.sum(jax.vmap(lambda a, b: jnp.sin(a) * b, (0, None))(x, x[0])),
    "jvp inside": lambda x: jnp.sum(jax.jvp(lambda x: jnp.sin(x) * x, (x,), (x * x,))[1]),
    "JAX's grad inside": lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 3))(x) * x),
    "random numbers": lambda x: jnp.sum(x * jax.random.normal(jax.random.key(0), (3,))),
    "debug print": lambda x: (jax.debug.callback(lambda y: None, x), jnp.sum(x * x))[1],
    "interpolation": lambda x: jnp.sum(jnp.interp(x, jnp.arange(-3.0, 3.0), jnp.sin(jnp.arange(-3.0, 3.0)) * x[0])),
    "fan-out": lambda x: sum(jnp.sum(x * k) for k in range(5)) * jnp.prod(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_jax(name):
    fun = FUNCTIONS[name]
    assert_same(dp.value_and_grad(fun)(X), jax.value_and_grad(fun)(X))


UNDER = {
    "jit": lambda grad, fun: jax.jit(grad(fun))(X),
    "vmap": lambda grad, fun: jax.vmap(grad(fun))(jnp.stack([X, X + 0.1])),
    "jvp": lambda grad, fun: jax.jvp(grad(fun), (X,), (X * X,)),
    "JAX's grad": lambda grad, fun: jax.grad(lambda x: jnp.sum(jnp.sin(grad(fun)(x))))(X),
    "itself": lambda grad, fun: grad(lambda x: jnp.sum(jnp.sin(grad(fun)(x))))(X),
    "vmap of jit": lambda grad, fun: jax.vmap(jax.jit(grad(fun)))(jnp.stack([X, X + 0.1])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_under_every_transformation(name):
    fun, ways = FUNCTIONS[name], set(UNDER)
    if name == "python control flow":  # which cannot branch on a value that jit or vmap does not know
        ways = {"jvp", "JAX's grad", "itself"}
    oracle = lambda: {way: UNDER[way](jax.grad, fun) for way in ways & {"jvp", "JAX's grad", "vmap", "jit"}}
    expected = (oracle if name == "python control flow" else jax.jit(oracle))()
    for way in ways:
        same = {"itself": "JAX's grad", "vmap of jit": "vmap"}.get(way, way)
        assert_same(UNDER[way](dp.grad, fun), expected[same], 1e-4)


def test_hessian_of_ours_of_ours():
    fun = FUNCTIONS["scan"]
    ours = dp.jacrev(dp.grad(fun))(X)
    assert_same(ours, jax.hessian(fun)(X), 1e-4)
    assert_same(dp.hessian(fun)(X), jax.hessian(fun)(X), 1e-4)


def test_third_order():
    fun = lambda x: jnp.sin(x) * jnp.exp(x)
    expected = jax.grad(jax.grad(jax.grad(fun)))(0.7)
    assert_same(dp.grad(dp.grad(dp.grad(fun)))(0.7), expected)
    assert_same(dp.grad(jax.grad(dp.grad(fun)))(0.7), expected)
    assert_same(jax.grad(dp.grad(jax.grad(fun)))(0.7), expected)


def test_over_jit_of_vmap():
    fun = jax.jit(jax.vmap(lambda x: jnp.sum(jnp.sin(x) ** 2)))
    rows = jnp.stack([X, 2 * X])
    total = lambda rows: jnp.sum(fun(rows))
    assert_same(dp.grad(total)(rows), jax.grad(total)(rows))


def test_calls_that_jax_does_not_differentiate():
    @jax.custom_batching.custom_vmap
    def vmapped(x):
        return jnp.sin(x) * x

    vmapped.def_vmap(lambda size, batched, x: (jnp.sin(x) * x, batched[0]))
    composite = lax.composite(lambda x: jnp.sin(x) * x, "diffprog.test")
    expected = jax.grad(lambda x: jnp.sum(jnp.sin(x) * x))(X)
    for fun in (vmapped, composite, jax.vmap(vmapped)):
        assert_same(dp.grad(lambda x, fun=fun: jnp.sum(fun(x)))(X), expected)


def test_a_custom_rule_is_believed():
    @jax.custom_jvp
    def wrong(x):
        return x * x

    wrong.defjvp(lambda primals, tangents: (wrong(*primals), 7 * tangents[0]))
    assert dp.grad(wrong)(3.0) == 7


def test_checkpoint_keeps_only_its_arguments():
    fun = jax.checkpoint(lambda x: jnp.sin(jnp.sin(jnp.sin(x))))
    leaves = jax.tree.leaves(dp.vjp(fun, X)[1])
    assert [leaf.shape for leaf in leaves] == [X.shape]
    np.testing.assert_array_equal(leaves[0], X)


def test_cond_keeps_one_slot_for_branches_of_equal_types():
    def fun(x):
        return jnp.sum(lax.cond(x[0] > 0, lambda x: jnp.sin(jnp.exp(x)), lambda x: jnp.cos(jnp.tanh(x)), x))

    jaxpr = jax.make_jaxpr(lambda x: dp.vjp(fun, x)[0])(X)
    (cond,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond"]
    assert len(cond.outvars) <= 3  # the result and at most two residuals, not four


def test_debug_nans_and_tracer_leaks_flags():
    with jax.checking_leaks(), jax.debug_nans(True):
        assert_same(dp.grad(FUNCTIONS["scan"])(X), jax.grad(FUNCTIONS["scan"])(X))


@pytest.mark.parametrize("deep", [False, True])  # a body of many operations is a compiled call of its own
def test_debug_nans_names_the_operation_and_the_line(deep):
    def fun(x):
        for _ in range(8 * deep):
            x = jnp.sin(x)
        return jnp.sum(jnp.sqrt(x**2))  # the derivative at 0 is 0 / 0

    line = fun.__code__.co_firstlineno + 3
    for differentiated in (fun, jax.jit(fun), jax.checkpoint(fun)):
        with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"\(nan\) encountered in mul") as caught:
            dp.grad(differentiated)(jnp.zeros(3))
        frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
        assert (__file__, line) in [(frame.filename, frame.lineno) for frame in frames] or differentiated is not fun


def test_internal_checks_of_jaxprs():
    with jax.enable_checks(True):
        for name in ("scan", "cond, unequal dependence", "checkpoint", "nested jit"):
            assert_same(jax.jit(dp.grad(FUNCTIONS[name]))(X), jax.grad(FUNCTIONS[name])(X))


def test_a_rule_that_calls_its_function_keeps_its_rule_in_a_loop():
    """Twice in reverse through a scan `jax.grad` loses it; forward mode over forward mode does not."""

    @jax.custom_jvp
    def bent(x):
        return 1.0 * x

    @bent.defjvp
    def _bent_jvp(primals, tangents):
        y = bent(*primals)
        return y, jnp.cos(y) * jnp.sum(tangents[0] * jnp.cos(primals[0]))

    loss = lambda x: jnp.sum(X * jnp.sin(lax.scan(lambda c, _: (bent(c), None), x, None, length=2)[0]))
    expected = jax.jacfwd(jax.jacfwd(loss))(X)
    for second in (dp.jacrev(dp.grad(loss)), jax.jit(dp.jacrev(dp.grad(loss))), dp.hessian(loss)):
        np.testing.assert_allclose(second(X), expected, rtol=1e-4)
