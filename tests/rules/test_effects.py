"""Callbacks run in order and once; what has no derivative says so; checks are found in gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src import hijax
from jax.experimental import checkify, io_callback
from jax.experimental.buffer_callback import buffer_callback

import diffprog as dp

X = np.asarray([0.3, -1.2, 2.0], np.float32)
LIKE = jax.ShapeDtypeStruct(X.shape, X.dtype)


def assert_same(ours, theirs):
    # float32; both round to within a few units
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), ours, theirs)


# ---------------------------------------------------------------- order


def callbacks(say, x):
    jax.debug.callback(say, "first", x[0], ordered=True)
    y = jnp.sin(x)
    jax.debug.callback(say, "second", y[0], ordered=True)
    jax.debug.callback(say, "constant", 1.0, ordered=True)
    return jnp.sum(y)


def callbacks_in_jit(say, x):
    @jax.jit
    def fun(x):
        jax.debug.callback(say, "jit", x[0], ordered=True)
        return jnp.sin(x)

    return jnp.sum(fun(fun(x)))


def callbacks_in_loops(say, x):
    def body(c, i):
        jax.debug.callback(say, "scan", c[0], ordered=True)
        return jnp.sin(c), None

    def again(i, c):
        jax.debug.callback(say, "loop", c[0], ordered=True)
        return jnp.sin(c)

    return jnp.sum(lax.fori_loop(0, 2, again, lax.scan(body, x, jnp.arange(3))[0]))


def callbacks_in_a_checkpoint(say, x):
    @jax.checkpoint
    def fun(x):
        jax.debug.callback(say, "checkpoint", x[0])
        return jnp.sin(jnp.sin(x))

    return jnp.sum(fun(x))


def callbacks_in_a_branch_and_vmap(say, x):
    def branch(x):
        jax.debug.callback(say, "branch", x[0])
        return jnp.sin(x)

    mapped = jax.vmap(lambda a: (jax.debug.callback(say, "vmap", a), jnp.sin(a))[1])
    return jnp.sum(lax.cond(x[0] > 0, branch, jnp.cos, x)) + jnp.sum(mapped(x))


def values_from_outside(say, x):
    def double(value):
        say("io", value)
        return np.float32(2.0)

    ask = lambda v: io_callback(double, jax.ShapeDtypeStruct((), np.float32), v, ordered=True)
    scale = ask(lax.stop_gradient(x[0])) * ask(5.0)
    return jnp.sum(lax.scan(lambda c, i: (c * ask(i), None), x * scale, jnp.arange(3))[0])


def callbacks_in_backward_rules(say, x):
    """Of the second rule the callback is all that there is to run."""

    @jax.custom_vjp
    def watched(x):
        return x

    @jax.custom_vjp
    def blocked(x):
        return x

    def watch(tag, sent):
        def backward(_, g):
            jax.debug.callback(say, tag, g[0], ordered=True)
            return (g if sent else None,)

        return backward

    watched.defvjp(lambda x: (x, None), watch("backward", True))
    blocked.defvjp(lambda x: (x, None), watch("blocked", False))
    return jnp.sum(jax.jit(watched)(x) * 2.0 + jax.jit(blocked)(x * 3.0))


EFFECTS = [
    callbacks,
    callbacks_in_backward_rules,
    callbacks_in_jit,
    callbacks_in_loops,
    callbacks_in_a_checkpoint,
    callbacks_in_a_branch_and_vmap,
    values_from_outside,
]


def heard(fun, transform):
    """The gradient, and what was called in which order."""
    log = []
    gradient = transform(partial(fun, lambda tag, value: log.append((tag, float(value)))))(X)
    jax.effects_barrier()
    return gradient, log


@pytest.mark.parametrize("fun", EFFECTS, ids=lambda f: f.__name__)
def test_callbacks_run_once_and_in_order(fun):
    for how in (lambda grad: grad, lambda grad: lambda fun: jax.jit(grad(fun))):
        ours, our_log = heard(fun, how(dp.grad))
        theirs, their_log = heard(fun, how(jax.grad))
        assert_same(ours, theirs)
        order = (lambda log: log) if fun is not callbacks_in_a_branch_and_vmap else sorted  # these are not ordered
        assert [tag for tag, _ in order(our_log)] == [tag for tag, _ in order(their_log)]
        assert_same([v for _, v in order(our_log)], [v for _, v in order(their_log)])


def test_printing(capfd):
    def fun(x):
        jax.debug.print("x is {}", x[0])
        return jnp.sum(x * x)

    assert_same(dp.grad(fun)(X), 2 * X)
    assert_same(jax.jit(dp.grad(fun))(X), 2 * X)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("x is 0.3") == 2


# ---------------------------------------------------------------- no derivative


def foreign(x):
    return jax.pure_callback(np.sin, LIKE, x)


CALLS = {
    "pure_callback": foreign,
    "io_callback": lambda x: io_callback(np.sin, LIKE, x),
    "buffer_callback": lambda x: buffer_callback(lambda ctx, out, x: None, LIKE)(x),
    "ffi_call": lambda x: jax.ffi.ffi_call("diffprog_test", LIKE)(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_without_a_derivative_the_users_line_is_named(name):
    fun = lambda x: jnp.sum(CALLS[name](x * x))
    for wrapped in (fun, jax.jit(fun), lambda x: lax.scan(lambda c, _: (c + fun(x), None), 0.0, None, length=2)[0]):
        with pytest.raises(NotImplementedError, match=rf"jax\..*{name} runs is unknown, called at .*test_effects\.py"):
            jax.eval_shape(dp.grad(wrapped), LIKE)


def test_values_that_no_gradient_passes():
    """JAX refuses all but the first of these."""
    assert_same(dp.grad(lambda x: jnp.sum(x * foreign(lax.stop_gradient(x))))(X), np.sin(X))

    def ordered(x):
        order = jax.pure_callback(lambda v: np.argsort(v).astype(np.int32), jax.ShapeDtypeStruct((3,), np.int32), x)
        foreign(x)  # not used
        return jnp.sum(x[order] * jnp.arange(3.0))

    assert_same(dp.grad(ordered)(X), [1.0, 0.0, 2.0])


def test_a_custom_rule_around_a_callback():
    fun = jax.custom_vjp(foreign)
    fun.defvjp(lambda x: (foreign(x), x), lambda x, g: (g * jnp.cos(x),))
    for wrapped in (fun, jax.jit(fun), jax.checkpoint(fun)):
        assert_same(dp.grad(lambda x, f=wrapped: jnp.sum(f(x)))(X), np.cos(X))
        assert_same(jax.jit(dp.grad(lambda x, f=wrapped: jnp.sum(f(x))))(X), np.cos(X))


@pytest.mark.skipif(not hasattr(hijax, "Box"), reason="JAX 0.11 removed them")
def test_boxes_and_logs_hold_constants():
    box, log = hijax.Box(jnp.float32(3.0)), hijax.new_log()

    def fun(x):
        found = box.get()
        box.set(5.0)
        log.append("said", 7.0)
        return jnp.sum(x * found * box.get() * hijax.Box(2.0).get())

    assert_same(dp.grad(fun)(X), [30.0, 30.0, 30.0])
    assert box.get() == 5.0 and log._dct == {"said": [7.0]}
    for put in (box.set, partial(log.append, "said")):
        with pytest.raises(NotImplementedError, match=r"into a box or a log at .*test_effects\.py"):
            dp.grad(lambda x, put=put: (put(x), jnp.sum(x))[1])(X)


# ---------------------------------------------------------------- checks


def checked(x):
    checkify.check(x[0] > 0, "negative: {value}", value=x[0])
    return jnp.sum(jnp.sqrt(x))


CHECKED = {"eager": checked, "jit": jax.jit(checked), "checkpoint": jax.checkpoint(checked)}


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("first", [1.0, -1.0])
def test_checks_in_a_gradient(name, first):
    x = np.asarray([first, 2.0], np.float32)
    error, gradient = checkify.checkify(jax.jit(dp.grad(CHECKED[name])))(x)
    their_error, theirs = checkify.checkify(jax.jit(jax.grad(CHECKED[name])))(x)
    assert (error.get() or "") == (their_error.get() or "")
    assert_same(gradient, theirs)


def test_a_check_in_a_scan_is_found():
    """JAX loses it."""
    fun = lambda x: lax.scan(lambda c, a: (c + checked(x * a), None), 0.0, jnp.ones(2))[0]
    error, _ = checkify.checkify(dp.grad(fun))(np.asarray([-1.0, 2.0], np.float32))
    assert "negative: -1.0" in error.get()


def test_automatic_checks_in_a_gradient():
    both = checkify.float_checks | checkify.index_checks
    x = np.asarray([0.0, 2.0], np.float32)
    error, _ = checkify.checkify(dp.grad(lambda x: jnp.sum(jnp.sqrt(x) * x)), errors=both)(x)
    assert "division by zero" in error.get()  # the slope of the square root
    error, _ = checkify.checkify(dp.grad(lambda x, i: x[i] ** 2), errors=both)(x, 5)
    assert "out-of-bounds" in error.get()
    error, _ = checkify.checkify(dp.grad(lambda x, i: x[i] ** 2), errors=both)(x, 1)
    assert error.get() is None


def test_the_gradient_of_a_checked_function():
    def fun(x):
        error, result = checkify.checkify(checked)(x)
        return result, error

    for first in (1.0, -1.0):
        x = np.asarray([first, 2.0], np.float32)
        gradient, error = dp.grad(fun, has_aux=True)(x)
        theirs, their_error = jax.grad(fun, has_aux=True)(x)
        assert_same(gradient, theirs)
        assert error.get() == their_error.get()
