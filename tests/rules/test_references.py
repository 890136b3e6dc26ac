"""Mutable arrays inside differentiated functions, against the same functions without them, and against JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.core import accum_grad_in_ref
from jax._src.state.discharge import run_state

import diffprog as dp

X = np.asarray([0.3, -1.2, 2.0])
SHAPE = jax.ShapeDtypeStruct((3,), np.float64)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_same(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), ours, theirs)


def set_to(ref, index, value):
    ref[index] = value


def reads_and_writes(x):
    ref = jax.new_ref(jnp.zeros(3))
    ref[0] = jnp.sin(x[0])
    ref[1] = ref[0] * x[1]
    ref[...] += x * x
    ref[2] = ref[1] ** 2
    return jnp.sum(ref[...] ** 2 * x)


def plain_reads_and_writes(x):
    first = jnp.sin(x[0]) + x[0] ** 2
    second = jnp.sin(x[0]) * x[1] + x[1] ** 2
    return jnp.sum(jnp.stack([first, second, second**2]) ** 2 * x)


def starts_differentiated(x):
    ref = jax.new_ref(x * 2)
    ref[1:] = ref[1:] * x[:2]
    old = jax.ref.swap(ref, 0, x[2])
    jax.ref.addupdate(ref, slice(0, 2), jnp.sin(x[:2]))
    ref[jnp.asarray([2, 1])] = ref[jnp.asarray([1, 2])]
    return jnp.sum(jax.ref.freeze(ref) * old)


def plain_starts_differentiated(x):
    a, b, c = x[2] + jnp.sin(x[0]), 2 * x[1] * x[0] + jnp.sin(x[1]), 2 * x[2] * x[1]
    return (a + b + c) * 2 * x[0]


def passed_to_jit(x):
    ref = jax.new_ref(jnp.zeros(3))

    @jax.jit
    def step(ref, x):
        ref[0] = jnp.sin(x[1])
        ref[1] += ref[0] * x[0]
        return ref[0] * x

    y = step(ref, x)
    return jnp.sum(ref[...] * step(ref, y))


def plain_passed_to_jit(x):
    first = jnp.sin(x[1])
    y = first * x
    second = jnp.sin(y[1])
    return jnp.sum(jnp.stack([first, first * x[0], 0.0]) * second * y)


def inside_jit(x):
    @jax.jit
    def fun(x):
        ref = jax.new_ref(x)
        ref[0] = jnp.sin(ref[1])
        return ref[...] * x

    return jnp.sum(fun(x) ** 2)


def plain_inside_jit(x):
    return jnp.sum((x.at[0].set(jnp.sin(x[1])) * x) ** 2)


def in_scan(x):
    rows, state = jax.new_ref(jnp.zeros((4, 3))), jax.new_ref(x)

    def body(c, i):
        rows[i] = jnp.sin(c) * state[...]
        state[...] = state[...] * 0.5 + c
        return jnp.tanh(c * x + rows[i]), state[0]

    c, ys = lax.scan(body, x, jnp.arange(4))
    return jnp.sum(rows[...]) + jnp.sum(c) + jnp.sum(ys * state[1])


def plain_in_scan(x):
    c, state, rows, ys = x, x, [], []
    for _ in range(4):
        rows.append(jnp.sin(c) * state)
        state = state * 0.5 + c
        c = jnp.tanh(c * x + rows[-1])
        ys.append(state[0])
    return jnp.sum(jnp.stack(rows)) + jnp.sum(c) + jnp.sum(jnp.stack(ys) * state[1])


def in_loop_and_branches(x):
    ref = jax.new_ref(x)
    lax.fori_loop(0, 3, lambda i, _: set_to(ref, i, ref[i] * x[i]), None)
    lax.cond(x[0] > 0, lambda: set_to(ref, 0, jnp.sin(ref[1]) * x[2]), lambda: set_to(ref, 1, 7.0))
    lax.cond(x[0] < 0, lambda: set_to(ref, 0, 7.0), lambda: set_to(ref, 1, jnp.cos(ref[0])))
    return jnp.sum(ref[...] ** 2)


def plain_in_loop_and_branches(x):
    first = jnp.sin(x[1] ** 2) * x[2]
    return first**2 + jnp.cos(first) ** 2 + x[2] ** 4


def in_vmap_and_checkpoint(x):
    def fun(a):
        ref = jax.new_ref(a)
        ref[...] = jnp.sin(ref[...]) * x[0]
        return ref[...]

    outside = jax.new_ref(x)
    wrapped = jax.checkpoint(lambda x: set_to(outside, 1, jnp.sin(x[0])) or jnp.sum(outside[...] * x))  # JAX fails
    return jnp.sum(jax.vmap(fun)(x)) * wrapped(x * x)


def plain_in_vmap_and_checkpoint(x):
    return jnp.sum(jnp.sin(x) * x[0]) * jnp.sum(x.at[1].set(jnp.sin(x[0] ** 2)) * x * x)


def empty_and_freed(x):
    ref = jax.ref.empty_ref(SHAPE)
    ref[...] = jnp.sin(x)
    found = ref[...]
    jax.ref.free_ref(ref)
    return jnp.sum(found)


def counters_and_complex(x):
    count, values = jax.new_ref(0), jax.new_ref(x + 1j * x * x)
    for i in range(3):
        count[...] += i
    values[0] = values[1] * 1j
    return jnp.sum(jnp.abs(values[...]) ** 2) * count[...]


def plain_counters_and_complex(x):
    square = x**2 + x**4
    return 3 * (2 * square[1] + square[2])


def run_with_state(x):
    def body(refs):
        ref, total = refs
        for i in range(3):
            total[...] += jnp.sin(ref[i])
            ref[i] = total[...] * x[0]

    return jnp.sum(run_state(body)((x, jnp.zeros(()))[0:2])[0] ** 2)


def plain_run_with_state(x):
    return jnp.sum((jnp.cumsum(jnp.sin(x)) * x[0]) ** 2)


PAIRS = [
    (reads_and_writes, plain_reads_and_writes),
    (starts_differentiated, plain_starts_differentiated),
    (passed_to_jit, plain_passed_to_jit),
    (inside_jit, plain_inside_jit),
    (in_scan, plain_in_scan),
    (in_loop_and_branches, plain_in_loop_and_branches),
    (in_vmap_and_checkpoint, plain_in_vmap_and_checkpoint),
    (empty_and_freed, lambda x: jnp.sum(jnp.sin(x))),
    (counters_and_complex, plain_counters_and_complex),
    (run_with_state, plain_run_with_state),
]


@pytest.mark.parametrize("fun, plain", PAIRS, ids=lambda f: f.__name__)
def test_against_the_same_without_references(fun, plain):
    both = lambda value_and_grad, f: jax.jit(value_and_grad(lambda x: jnp.sum(jnp.sin(value_and_grad(f)(x)[1]))))(X)
    assert_same(both(dp.value_and_grad, fun), both(jax.value_and_grad, plain))


@pytest.mark.parametrize("fun, plain", [PAIRS[0], PAIRS[2], PAIRS[5]], ids=lambda f: f.__name__)
def test_eagerly(fun, plain):
    assert_same(dp.value_and_grad(fun)(X), jax.value_and_grad(plain)(X))


def test_against_jax_and_under_its_transformations():
    expected = jax.jit(jax.grad(in_scan))(X)
    assert_same(jax.jit(jax.vmap(dp.grad(in_scan)))(np.stack([X, X]))[1], expected)
    along = lambda f: jax.jit(lambda x: jax.jvp(dp.grad(f), (x,), (x,))[1])(X)
    assert_same(along(in_scan), along(plain_in_scan))
    assert_same(jax.jit(jax.grad(lambda x: jnp.sum(dp.grad(in_scan)(x) * x)))(X) - expected, along(in_scan))


def test_the_mark_for_gradients_in_references():  # JAX differentiates it where it has put it itself, nowhere else
    assert_same(dp.grad(lambda x: jnp.sum(accum_grad_in_ref(x * x) * x))(X), 3 * X**2)


def test_no_reference_is_left_in_what_is_recorded():
    program = str(jax.make_jaxpr(dp.grad(in_scan))(X))
    assert "Ref{" not in program and "dynamic_update_slice" in program


# ---------------------------------------------------------------- references from outside


def test_reading_and_writing_constants_outside():
    ref = jax.new_ref(jnp.asarray([5.0, 6.0, 7.0]))

    def fun(x):
        found = jnp.sum(jnp.sin(x) * ref[...])
        ref[0] = 1.5
        jax.jit(lambda: set_to(ref, 1, 2.5))()
        body = lambda c, i: (c * ref[i], set_to(ref, i, ref[i] + 1.0))
        c, _ = lax.scan(body, x, jnp.arange(3))
        ref[2] = lax.stop_gradient(x[0])
        return found + jnp.sum(c)

    assert_same(dp.grad(fun)(X), np.cos(X) * np.asarray([5.0, 6.0, 7.0]) + 1.5 * 2.5 * 7.0)
    assert_same(ref[...], [2.5, 3.5, 0.3])
    ref[...] = jnp.asarray([5.0, 6.0, 7.0])
    assert_same(jax.jit(dp.grad(fun))(X), np.cos(X) * np.asarray([5.0, 6.0, 7.0]) + 1.5 * 2.5 * 7.0)
    assert_same(ref[...], [2.5, 3.5, 0.3])


@jax.custom_vjp
def stash(ref, x):
    return x


def _stash_backward(ref, g):
    jax.ref.addupdate(ref, ..., g)
    return None, g


stash.defvjp(lambda ref, x: (x, ref), _stash_backward)

STASHING = {
    "eager": lambda ref, x: jnp.sum(jnp.sin(stash(ref, x * x))),
    "in jit": lambda ref, x: jnp.sum(jax.jit(lambda ref, x: jnp.sin(stash(ref, x * x)))(ref, x)),
    "in scan": lambda ref, x: jnp.sum(lax.scan(lambda c, _: (jnp.sin(stash(ref, c) * x), None), x, None, length=3)[0]),
    "in a checkpoint": lambda ref, x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(stash(ref, x * x)))(x)),
}


@pytest.mark.parametrize("where", STASHING)
def test_a_backward_rule_may_write_to_a_reference(where):
    def run(grad, wrap):
        ref = jax.new_ref(jnp.zeros(3))
        return wrap(grad(STASHING[where], 1))(ref, X), ref[...]

    for wrap in (lambda f: f, jax.jit):
        assert_same(run(dp.grad, wrap), run(jax.grad, wrap))


outside = jax.new_ref(np.zeros(3, np.float32))


def write_eagerly(x):
    outside[0] = x[0] * 2  # the line
    return jnp.sum(x)


@jax.jit
def write_in_jit(x):
    outside[0] = x[0] * 2  # the line
    return jnp.sum(x)


def write_in_scan(x):
    def body(c, i):
        jax.ref.addupdate(outside, i, c[0])  # the line
        return c * 2, None

    return jnp.sum(lax.scan(body, x, jnp.arange(3))[0])


@pytest.mark.parametrize("fun", [write_eagerly, write_in_jit, write_in_scan], ids=lambda f: f.__name__)
def test_writing_a_differentiated_value_outside_names_the_line(fun):
    lines = open(__file__).read().split("\n")
    start = next(i for i, line in enumerate(lines) if f"def {fun.__name__}(" in line)
    number = next(i for i, line in enumerate(lines[start:], start + 1) if "# the line" in line)
    message = rf"from outside at .*references\.py:{number}:"
    with jax.enable_x64(False), pytest.raises(NotImplementedError, match=message):
        dp.grad(fun)(X.astype(np.float32))


def test_references_that_cannot_be_differentiated():
    with pytest.raises(TypeError, match="Ref"):
        dp.grad(lambda ref: jnp.sum(ref[...]))(jax.new_ref(X))
    with pytest.raises(NotImplementedError, match="made for itself is returned"):
        dp.vjp(jax.new_ref, X)
    message = "stash' writes to a mutable array that the differentiated function made"
    with pytest.raises(NotImplementedError, match=message):
        dp.grad(lambda x: jnp.sum(stash(jax.new_ref(x), x)))(X)
    message = (
        "within a 'scan', a mutable array that the differentiated function made is passed to a function with a custom"
    )

    def scanned(x):
        ref = jax.new_ref(x)
        return jnp.sum(lax.scan(lambda c, _: (c, read(ref)), None, None, length=2)[1])

    with pytest.raises(NotImplementedError, match=message):
        dp.grad(scanned)(X)


@jax.custom_vjp
def read(ref):
    return ref[...]


read.defvjp(lambda ref: (read(ref), None), lambda _, g: (10 * g,))


@jax.custom_vjp
def scaled(ref, x):
    return ref[...] * x


def _scaled_backward(saved, g):
    ref, x = saved
    return jnp.sum(g * x) * jnp.ones_like(x), 7 * g * ref[...]


scaled.defvjp(lambda ref, x: (scaled(ref, x), (ref, x)), _scaled_backward)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_custom_rule_reads_an_own_reference(wrap):
    """Its rule's cotangent is that of the content; what is read of it afterwards has its own."""
    read_it, scale_it = wrap(read), wrap(scaled)
    once = lambda x: jnp.sum(read_it(jax.new_ref(x * x)))
    assert_same(dp.grad(once)(X), 20 * X)
    assert_same(jax.jit(dp.grad(once))(X), 20 * X)
    assert_same(dp.grad(lambda x: jnp.sum(dp.grad(once)(x)))(X), 20 * np.ones_like(X))

    def twice(x):
        ref = jax.new_ref(x * x)
        y = jnp.sum(scale_it(ref, x))
        ref[...] *= 2
        return y + jnp.sum(ref[...])

    # sum(g x) for the content, of slope 2 x, and 7 times the last content, 2 x^2, for x, as with JAX; then 2 x^2.
    assert_same(dp.grad(twice)(X), np.sum(X) * 2 * X + 14 * X**2 + 4 * X)


def test_closure_convert():
    """What a function closes over becomes an argument, so that a custom rule gives it a gradient."""

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(function, x, *constants):
        return function(x, *constants)

    def backward(function, saved, g):
        x, constants = saved
        return tuple(3 * t for t in jax.vjp(function, x, *constants)[1](g))

    apply.defvjp(lambda f, x, *constants: (f(x, *constants), (x, constants)), backward)

    def loss(c, x):
        converted, constants = jax.closure_convert(lambda x: (x - c) ** 2, x)
        return jnp.sum(apply(converted, x, *constants))

    c, x = X, X[::-1] + 1.0
    for wrap in (lambda f: f, jax.jit):
        for ours, expected in zip(wrap(dp.grad(loss, (0, 1)))(c, x), (-6 * (x - c), 6 * (x - c)), strict=True):
            assert_same(ours, expected)


def test_numpy_arrays_are_arrays_of_jax_within_a_jitted_function():
    """A custom rule in it may keep one, and index it by a traced number in a second derivative."""

    @jax.custom_vjp
    def weighted(x, w):
        return x * jnp.sum(w)

    def backward(saved, g):
        x, w = saved
        total = lax.fori_loop(0, 3, lambda i, s: s + w[i] * g, jnp.zeros_like(g))
        return total, x * g * jnp.ones_like(w)

    weighted.defvjp(lambda x, w: (weighted(x, w), (x, w)), backward)
    loss = jax.jit(lambda x, w: weighted(x, w) ** 2)
    w = np.array([1.0, 2.0, 4.0])
    assert_same(dp.grad(dp.grad(loss))(3.0, w), 98.0)  # (7 x)^2
    assert_same(dp.jacrev(dp.grad(loss))(3.0, w), 98.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_writing_where_no_gradient_is_wanted(wrap):
    """To an array made so, a checkpointed function writes once, in the forward pass."""

    @wrap
    @jax.checkpoint
    def squared(x, ref):
        ref[...] += x * x
        return jnp.sum(jnp.sin(x * x))

    ref = jax.new_ref(jnp.ones(3), kind="no_grad_no_remat")
    assert_same(dp.grad(squared)(X, ref), np.cos(X * X) * 2 * X)
    assert_same(ref[...], 1 + X * X)
