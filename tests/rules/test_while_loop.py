"""Reverse mode through `while_loop`: exact wherever it stands."""

import gc
import weakref
from functools import partial
from types import SimpleNamespace

import jax
import jax.experimental
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._jax_internals.equal_jaxprs import first_equal


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# ---------------------------------------------------------------- the same program, unrolled


def unrolled_while(cond, body, carry):
    while cond(carry):
        carry = body(carry)
    return carry


def unrolled_scan(step, carry, xs):
    ys = []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def unrolled_fori(start, stop, body, carry):
    for i in range(int(start), int(stop)):
        carry = body(i, carry)
    return carry


LAX = SimpleNamespace(
    while_loop=lax.while_loop,
    scan=lax.scan,
    cond=lax.cond,
    fori_loop=lax.fori_loop,
    vmap=jax.vmap,
    jit=jax.jit,
    checkpoint=jax.checkpoint,
)
PYTHON = SimpleNamespace(
    while_loop=unrolled_while,
    scan=unrolled_scan,
    fori_loop=unrolled_fori,
    cond=lambda pred, yes, no, *x: yes(*x) if pred else no(*x),
    vmap=lambda f: lambda xs: jnp.stack([f(x) for x in xs]),
    jit=lambda f: f,
    checkpoint=lambda f: f,
)


@jax.custom_jvp
def softplus(x):
    return jnp.log1p(jnp.exp(x))


softplus.defjvp(lambda primals, tangents: (softplus(*primals), tangents[0] * jax.nn.sigmoid(*primals)))


@jax.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.clip(g * jnp.cos(x), -0.3, 0.3),))


def newton(do, x):
    """Cube roots. The condition reads the carry and constants; the number of iterations depends on x."""
    step = lambda y: y - (y**3 - jnp.abs(x)) / (3 * y**2)
    return jnp.sum(do.while_loop(lambda y: jnp.sum(jnp.abs(y**3 - jnp.abs(x))) > 1e-3, step, jnp.ones_like(x)))


def everything_in_the_carry(do, x):
    """Integers, booleans, a key, a pytree, what never changes, what is replaced, what comes to depend on x late."""

    def body(c):
        key, draw = jax.random.split(c["key"])
        one, two = c["late"]
        return {
            "n": c["n"] + 1,
            "flag": jnp.logical_not(c["flag"]),
            "key": key,
            "fixed": c["fixed"],
            "late": (one * 1.1 + two, two + c["fixed"]),
            "replaced": jnp.float64(2.0),
            "y": jnp.where(c["flag"], c["y"] * x[0], jnp.sin(c["y"])) * jax.random.uniform(draw),
        }

    start = {
        "n": 0,
        "flag": True,
        "key": jax.random.key(0, impl="unsafe_rbg"),
        "fixed": x,
        "late": (jnp.ones(3), jnp.zeros(3)),
        "replaced": x[1],
        "y": x,
    }
    out = do.while_loop(lambda c: c["n"] < 5, body, start)
    return jnp.sum(out["late"][0] * out["y"]) * out["replaced"] + jnp.sum(out["fixed"] ** 2)


def nested(do, x):
    def outer(c):
        i, y = c
        inner = do.while_loop(lambda d: d[0] < i, lambda d: (d[0] + 1, jnp.sin(d[1]) + 0.3 * y * x[0]), (0, y))
        return i + 1, inner[1] * x + 0.1

    return jnp.sum(do.while_loop(lambda c: c[0] < 4, outer, (0, x))[1])


def while_in_scan_in_while(do, x):
    def inner(c, e):
        d = do.while_loop(lambda d: jnp.sum(d) < 6, lambda d: d * 1.5 + jnp.abs(e), jnp.abs(c))
        return d / 6, jnp.sum(d)

    def outer(c):
        y, parts = do.scan(inner, c[1], x)
        return c[0] + 1, y * jnp.sum(parts)

    return jnp.sum(do.while_loop(lambda c: c[0] < 2, outer, (0, x))[1])


def branches(do, x):
    even, odd = lambda y: jnp.sin(y) * x, lambda y: y * y[0]
    body = lambda c: (c[0] + 1, do.cond(c[0] % 2 == 0, even, odd, c[1]))
    loop = lambda x: do.while_loop(lambda c: c[0] < 5, body, (0, x))[1]
    return jnp.sum(do.cond(x[0] > 0, loop, lambda x: x * x, x))


def mapped(do, x):
    loop = lambda a: do.while_loop(lambda c: c < 3, lambda c: c * 1.5 + jnp.abs(a) * x[0] ** 2, jnp.abs(a))
    return jnp.sum(do.vmap(loop)(x) ** 2)


def mapped_with_one_count(do, x):
    return jnp.sum(do.vmap(lambda a: do.fori_loop(0, jnp.int32(4), lambda i, c: jnp.sin(c) * a + x[1], x[0]))(x) ** 2)


def custom_rules(do, x):
    return jnp.sum(
        do.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, softplus(square(jnp.sin(c[1] * x)))), (0, x))[1]
    )


def complex_numbers(do, x):
    z = x + 1j * jnp.cos(x)
    return jnp.abs(
        jnp.sum(do.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] ** 2 * (0.5 + 0.1j) + z), (0, z))[1])
    )


PROGRAMS = {
    "newton": newton,
    "everything in the carry": everything_in_the_carry,
    "nested": nested,
    "while in scan in while": while_in_scan_in_while,
    "branches": branches,
    "mapped": mapped,
    "mapped with one count": mapped_with_one_count,
    "custom rules": custom_rules,
    "complex numbers": complex_numbers,
    "no iteration": lambda do, x: jnp.sum(
        do.while_loop(lambda c: c[0] < 0, lambda c: (c[0], jnp.log(c[1] * 0)), (0, x))[1] ** 2
    ),
    "fori_loop in jit and checkpoint": lambda do, x: (
        do.jit(do.checkpoint(lambda x: jnp.sum(do.fori_loop(0, jnp.int32(7), lambda i, c: jnp.sin(c) * x + i, x))))(x)
        ** 2
    ),
}

X = np.array([0.6, -1.2, 2.0])


def assert_close(ours, expected, tolerance=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-3, np.max(np.abs(b), initial=0)))


def all_orders(grad, fun):
    """Value, gradient, and a second derivative, reverse over reverse and forward over reverse."""

    def run(x):
        second = grad(lambda x: jnp.sum(jnp.sin(grad(fun)(x))))
        return fun(x), grad(fun)(x), second(x), jax.jvp(grad(fun), (x,), (jnp.cos(x),))[1]

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_unrolled_program(name):
    ours, expected = (all_orders(g, partial(PROGRAMS[name], do)) for g, do in ((dp.grad, LAX), (jax.grad, PYTHON)))
    with dp.while_loop_memory(checkpoints=3):
        first = dp.value_and_grad(partial(PROGRAMS[name], LAX))(X)
        found = jax.jit(ours)(X)
    expected = expected(X)
    assert_close(first, expected[:2])
    assert_close(found, expected, 1e-11)  # the second derivative of the sine of a gradient of 100 loses a digit


def test_long_loops_equal_a_scan():
    """Recomputed states are the same states: the gradient is that of a scan, whatever is stored."""
    w = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3)) / 2)
    step = lambda w, x: jnp.sin(w @ x) + 0.1 * x

    go_on, body = lambda c: c[0] < c[3], lambda c: (c[0] + 1, step(c[2], c[1]), c[2], c[3])

    def by_while(w, x, n):
        return jnp.sum(lax.while_loop(go_on, body, (0, x, w, n))[1] ** 2)

    def by_scan(w, x, n):
        return jnp.sum(lax.scan(lambda c, _: (step(w, c), None), x, None, length=n)[0] ** 2)

    for checkpoints in (2, 5):
        with dp.while_loop_memory(checkpoints=checkpoints):
            compiled = jax.jit(dp.value_and_grad(by_while, (0, 1)))
            for n in (1, 5, 17, 100):
                expected = jax.value_and_grad(by_scan, (0, 1))(w, X, n)
                assert_close(compiled(w, X, n), expected)
    with dp.while_loop_memory(checkpoints=5):  # 5 iterations are taped, the rest goes on with checkpoints
        for _ in range(2):  # these op by op the first time, compiled when the same loop comes again
            assert_close(dp.value_and_grad(by_while, (0, 1))(w, X, 100), expected)


def test_a_function_of_jax_with_a_loop_inside():
    fun, x = lambda x: jnp.sum(jax.scipy.special.expn(3, x)), jnp.array([0.3, 1.7])
    expected = jax.jit(jax.jacfwd(fun))(x)
    assert_close(jax.jit(dp.grad(fun))(x), expected)
    assert_close(jax.jit(jax.vmap(dp.grad(fun)))(x[None]), expected[None])


# ---------------------------------------------------------------- vmap


def shrink(w, x):
    """Each example has its own number of iterations; one that is done may not go on: the root of a negative number."""
    return lax.while_loop(lambda c: c > 1, lambda c: w * jnp.sqrt(c - 1), x)


def unrolled_shrink(w, x):
    return unrolled_while(lambda c: c > 1, lambda c: w * jnp.sqrt(c - 1), x)


W, XS = 1.3, np.array([9.0, 1.0, 5.0, 2.5, 1.0])  # 1 is where the root has no derivative


@pytest.mark.parametrize("checkpoints", [1, 64])
def test_examples_that_are_done_do_not_matter(checkpoints):
    each = [jax.grad(unrolled_shrink, (0, 1))(W, x) for x in XS]
    of_w, of_x = jnp.stack([g[0] for g in each]), jnp.stack([g[1] for g in each])
    total = lambda w, xs: jnp.sum(jax.vmap(shrink, (None, 0))(w, xs))
    with dp.while_loop_memory(checkpoints=checkpoints):
        assert_close(dp.grad(total, (0, 1))(W, XS), (jnp.sum(of_w), of_x))
        assert_close(jax.jit(jax.vmap(dp.grad(shrink, (0, 1)), (None, 0)))(W, XS), (of_w, of_x))


def test_second_order_of_many_examples():
    def penalty(grad, fun, over):
        return lambda w, xs: jnp.sum(jnp.sin(over(grad(fun), xs, w)))

    each = lambda g, xs, w: jnp.stack([g(w, x) for x in xs])
    mapped = lambda g, xs, w: jax.vmap(g, (None, 0))(w, xs)
    summed = lambda w, xs: jnp.sum(mapped(shrink, xs, w))
    summed_unrolled = lambda w, xs: jnp.sum(each(unrolled_shrink, xs, w))
    expected = jax.grad(penalty(jax.grad, unrolled_shrink, each), (0, 1))(W, XS)
    assert_close(jax.jit(dp.grad(penalty(dp.grad, shrink, mapped), (0, 1)))(W, XS), expected, 1e-11)
    expected = jax.grad(lambda w, xs: jnp.sin(jax.grad(summed_unrolled)(w, xs)), (0, 1))(W, XS)
    assert_close(jax.jit(dp.grad(lambda w, xs: jnp.sin(dp.grad(summed)(w, xs)), (0, 1)))(W, XS), expected, 1e-11)


def repeated(x, n):
    return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, jnp.sin(c[1]) * x), (0, x))[1]


def unrolled_repeated(x, n):
    return unrolled_fori(0, n, lambda _, c: jnp.sin(c) * x, x)


def test_pullbacks_leave_jit_and_vmap():
    counts, xs = np.array([0, 5, 2]), np.stack([X, X + 1, X * 2])
    each = lambda x, n: jax.vjp(lambda x: unrolled_repeated(x, n), x)[1](X)[0]
    expected = jnp.stack(list(map(each, xs, counts)))
    make = lambda x, n: dp.vjp(lambda x: repeated(x, n), x)[1]
    with dp.while_loop_memory(checkpoints=2):
        pullback = jax.jit(make)(X, 5)
        assert_close(pullback(X)[0], each(X, 5))
        pullbacks = jax.vmap(make)(xs, counts)  # each with a schedule of its own
        assert_close(jax.vmap(lambda pullback: pullback(X)[0])(pullbacks), expected)
        assert_close(jax.jit(dp.jacrev(repeated))(X, 5), jax.jacfwd(unrolled_repeated)(X, 5))
        assert_close(
            jax.jit(dp.hessian(lambda x: jnp.sum(repeated(x, 5))))(X),
            jax.hessian(lambda x: jnp.sum(unrolled_repeated(x, 5)))(X),
            1e-11,
        )


def test_vmap_of_vmap():
    counts = np.array([[0, 1, 3], [2, 0, 0]])
    xs = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 3))
    each = lambda x, n: jax.grad(lambda x: jnp.sum(unrolled_repeated(x, n)))(x)
    expected = jnp.stack([jnp.stack([each(xs[i, j], counts[i, j]) for j in range(3)]) for i in range(2)])
    fun = lambda x, n: jnp.sum(repeated(x, n))
    summed = lambda xs, counts: jnp.sum(jax.vmap(fun)(xs, counts))
    with dp.while_loop_memory(checkpoints=2):
        assert_close(jax.vmap(jax.vmap(dp.grad(fun)))(xs, counts), expected)
        assert_close(jax.vmap(dp.grad(summed), (1, 1), 1)(xs, counts), expected)
        assert_close(dp.grad(lambda xs: jnp.sum(jax.vmap(summed)(xs, counts)))(xs), expected)
    nobody = jax.vmap(dp.grad(fun))(jnp.zeros((0, 3)), np.zeros(0, int))
    assert nobody.shape == (0, 3)


# ---------------------------------------------------------------- backward functions that are not linear


def test_a_clipped_gradient():
    """What the user's backward function does to a cotangent is done at every order."""

    def fun(do, x):
        return jnp.sum(do.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, clipped(c[1] * x) + x), (0, x))[1])

    def second(grad, fun):
        return grad(lambda x: jnp.sum(jnp.sin(grad(fun)(x))))

    expected = jax.grad(partial(fun, PYTHON))(X), second(jax.grad, partial(fun, PYTHON))(X)
    ours = partial(fun, LAX)
    with dp.while_loop_memory(checkpoints=2):
        assert_close(jax.jit(lambda x: (dp.grad(ours)(x), second(dp.grad, ours)(x)))(X), expected)
    assert_close(second(dp.grad, ours)(X), expected[1])


# ---------------------------------------------------------------- the setting, side effects, strict modes


def test_the_setting_is_seen_by_jit():
    fun = jax.jit(dp.grad(lambda x, n: jnp.sum(repeated(x, n))))
    stored = lambda: [n for n in (3, 8, 65) if f"f64[{n},3]" in str(jax.make_jaxpr(fun)(X, 5))]
    assert stored() == [65]
    with dp.while_loop_memory(checkpoints=2):
        assert stored() == [3]
        with dp.while_loop_memory(checkpoints=7):
            assert stored() == [8]
        assert stored() == [3]
    assert stored() == [65]
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="whole number from 1 on"):
            dp.while_loop_memory(checkpoints=wrong)


def test_side_effects_happen_once_or_are_refused():
    ran = []

    def fun(x):
        def body(c):
            jax.experimental.io_callback(ran.append, None, c[0])
            return c[0] + 1, jnp.sin(c[1]) * x

        return lax.while_loop(lambda c: c[0] < 3, body, (0, x))[1]

    with dp.while_loop_memory(checkpoints=1):
        assert_close(dp.grad(fun)(0.7), jax.grad(lambda x: unrolled_repeated(x, 3))(0.7))
    assert [int(i) for i in ran] == [0, 1, 2]
    value, pullback = jax.jit(lambda x: dp.vjp(fun, x)[0])(0.7), lambda: jax.jit(dp.grad(fun))(0.7)
    assert_close(value, unrolled_repeated(jnp.float64(0.7), 3))
    with pytest.raises(NotImplementedError, match=r"side effects .*test_while_loop\.py:\d+"):
        pullback()


def test_a_reference_of_the_bodys_own():
    def fun(x):
        def body(c):
            ref = jax.new_ref(jnp.zeros_like(x))
            ref[...] = c[1] * x
            return c[0] + 1, jnp.sin(ref[...])

        return lax.while_loop(lambda c: c[0] < 3, body, (0, x))[1]

    expected = jax.grad(lambda x: unrolled_fori(0, 3, lambda _, c: jnp.sin(c * x), x))(0.7)
    assert_close((dp.grad(fun)(0.7), jax.jit(dp.grad(fun))(0.7)), (expected, expected))


def test_strict_modes():
    fun = lambda x, n: jnp.sum(repeated(x, n))
    mapped = jax.jit(jax.vmap(dp.grad(fun)))
    operands = np.stack([X, X + 1, X * 2]), np.array([0, 5, 2])
    expected = mapped(*operands)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert_close(mapped(*operands), expected)
    with jax.checking_leaks(), jax.debug_nans(True), jax.enable_checks(True):
        assert_close(mapped(*operands), expected)


def converged_root(a):
    """Newton's iteration carries the norm of its last step: zero at the end, where a norm has no slope."""

    def step(state):
        root, _ = state
        new = 0.5 * (root + a / root)
        return new, jnp.linalg.norm(new - root)

    return lax.while_loop(lambda state: state[1] > 0, step, (jnp.ones_like(a), jnp.inf))[0]


@pytest.mark.parametrize("checkpoints", [3, 64])
@pytest.mark.parametrize("how", [lambda f: f, jax.jit, lambda f: lambda a: jax.vmap(f)(a[None])[0]])
def test_what_is_carried_but_not_used(how, checkpoints):
    a = jnp.array([4.0, 9.0])
    with dp.while_loop_memory(checkpoints=checkpoints):
        first = how(dp.grad(lambda a: jnp.sum(converged_root(a))))(a)
        second = how(dp.grad(lambda a: jnp.sum(dp.grad(lambda a: jnp.sum(converged_root(a)))(a))))(a)
    np.testing.assert_allclose(first, 0.5 * a**-0.5, rtol=1e-12)
    np.testing.assert_allclose(second, -0.25 * a**-1.5, rtol=1e-12)


def test_equal_loops_are_staged_once_and_others_apart():
    """A Python loop stages its `while_loop` anew each time, from one line: equal programs, and some that are not."""

    def fun(x, factors):
        for factor in factors:
            x = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) * factor), (0, x))[1]
        return x

    def by_python(x, factors):
        for factor in factors:
            for _ in range(3):
                x = jnp.sin(x) * factor
        return x

    def loops(factors):
        equations = jax.make_jaxpr(dp.grad(lambda x: fun(x, factors)))(0.3).eqns
        return [e.params["operation"].loop for e in equations if e.primitive.name == "checkpointed_while"]

    array = np.array([0.5, 2.0])
    for factors, distinct in (
        ((1.5, 1.5, 1.5), 1),
        ((1.5, 2.5, 1.5), 2),
        ((0.0, -0.0), 2),
        ((array[0], array[1]), 2),
    ):
        assert len({id(loop.body) for loop in loops(factors)}) == distinct, factors
        for order in (dp.grad, lambda f: dp.grad(dp.grad(f))):
            found = jax.jit(order(lambda x: fun(x, factors)))(0.3)
            wanted = order(lambda x: by_python(x, factors))(0.3)
            np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_is_found_by_its_contents_does_not_outlive_its_users():
    def stage(scale):
        return jax.make_jaxpr(lambda x: jnp.sin(x) * scale)(0.3)

    first, second, other = map(stage, (2.0, 2.0, 3.0))
    assert first_equal(first) is first
    assert first_equal(second) is first
    assert first_equal(other) is other
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert first_equal(second) is second
