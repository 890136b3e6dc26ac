"""Programs that are kept by what a function computes, and run with what it reads now."""

import gc
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import grad
from diffprog._transforms.closures import lift
from tests.compilations import counted

X = jnp.linspace(-1, 1, 8).reshape(2, 4)


@jax.custom_vjp
def doubled(x):
    return x * 2


doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (g * 2,))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def scaled(factor, x):
    return factor * x


scaled.defvjp(lambda factor, x: (factor * x, None), lambda factor, _, g: (factor * g,))


@jax.custom_jvp
def cubed(x):
    return x**3


@cubed.defjvp
def _cubed_jvp(primals, tangents):
    return cubed(*primals), 3 * primals[0] ** 2 * tangents[0]


def solved(matvec, x):
    """Solve for x, by the inverse of the matrix that a function is."""
    matrix = lambda matvec: jax.vmap(matvec)(jnp.eye(x.shape[-1]))
    by_inverse = lambda matvec, b: jnp.linalg.inv(matrix(matvec).T) @ b
    return jax.lax.custom_linear_solve(matvec, x, by_inverse, transpose_solve=by_inverse)


def fixed_point(step, x):
    """Find where y = step(y) + x."""
    iterate = lambda f, y: jax.lax.fori_loop(0, 60, lambda _, y: y - f(y), y)
    newton = lambda g, b: jnp.linalg.solve(jax.vmap(g)(jnp.eye(len(b))).T, b)
    return jax.lax.custom_root(lambda y: y - step(y) - x, x, iterate, newton)


def some_rows(function):
    return lambda x: jnp.stack([function(row) for row in x])


# By name: (weights, a number) -> a function that reads the weights, and has the number among its operations.
FUNCTIONS = {
    "closure": lambda w, c: lambda x: jnp.tanh(x @ w) * c,
    "nested jit": lambda w, c: lambda x: jax.jit(jax.jit(lambda x: x @ w))(x) * c,
    "jit": lambda w, c: jax.jit(lambda x: x @ w * c),
    "rules": lambda w, c: lambda x: jax.nn.relu(scaled(c, doubled(cubed(x @ w)))),
    "softmax": lambda w, c: lambda x: jax.nn.softmax(x @ w * c),
    "checkpoint": lambda w, c: jax.checkpoint(lambda x: jnp.sin(x @ w) * c),
    "scan": lambda w, c: lambda x: jax.lax.scan(lambda y, _: (jnp.sin(y @ w) * c, None), x @ w, None, length=3)[0],
    "cond": lambda w, c: lambda x: jax.lax.cond(x.sum() > c, lambda x: x @ w, lambda x: -(x @ w), x),
    "jit in scan": lambda w, c: (
        lambda x: jax.lax.scan(
            lambda y, row: (jnp.sin(jax.jit(lambda y: y @ w)(y)) * row, y.sum()), x @ w, jnp.full(3, c)
        )[0]
    ),
    "jit in while": lambda w, c: (
        lambda x: jax.lax.while_loop(
            lambda carry: jax.jit(lambda i: i < c + 0 * w[0, 0])(carry[0]),
            lambda carry: (carry[0] + 1, jax.jit(lambda y: jnp.sin(y @ w))(carry[1])),
            (0, x),
        )[1]
    ),
    "jit in fori": lambda w, c: lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jax.jit(lambda y: y @ w * c)(y), x),
    "jit in cond": lambda w, c: lambda x: jax.lax.cond(x.sum() > c, jax.jit(lambda x: x @ w), lambda x: -(x @ w), x),
    "jit in checkpoint": lambda w, c: jax.checkpoint(jax.jit(lambda x: jnp.sin(x @ w) * c)),
    "jit in scan in cond": lambda w, c: (
        lambda x: jax.lax.switch(1, [lambda x: x, lambda x: jax.lax.map(jax.jit(lambda row: row @ w * c), x)], x)
    ),
    "solve": lambda w, c: some_rows(partial(solved, lambda v: w @ v + c * v)),
    "jit in solve": lambda w, c: some_rows(partial(solved, jax.jit(lambda v: w @ v + c * v))),
    "jit in mapped solve": lambda w, c: jax.vmap(partial(solved, jax.jit(lambda v: w @ v + c * v))),
    "jit in cg": lambda w, c: some_rows(
        lambda row: jax.scipy.sparse.linalg.cg(jax.jit(lambda v: w @ (w.T @ v) + c * v), row)[0]
    ),
    "root": lambda w, c: some_rows(partial(fixed_point, lambda y: jnp.sin(w @ y) / (8 * c))),
    "jit in root": lambda w, c: some_rows(partial(fixed_point, jax.jit(lambda y: jnp.sin(w @ y) / (8 * c)))),
    "callback": lambda w, c: lambda x: x @ w * jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), "f"), np.float32(c)),
    "numpy": lambda w, c: lambda x: x @ np.asarray(w) * c,
    "partial": lambda w, c: partial(lambda w, x: x @ w * c, w),
}


def weights(seed):
    return jax.random.normal(jax.random.key(seed), (4, 4))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_new_weights_compile_nothing_and_other_operations_do(name):
    run = jax.jit(lambda function, x: function(x))
    for position, (seed, number, compiles) in enumerate([(0, 2.0, 1), (1, 2.0, 0), (2, 2.0, 0), (0, 3.0, 1)]):
        function = FUNCTIONS[name](weights(seed), number)
        lifted, expected = lift(function, X), function(X)
        assert lifted.can_be_kept
        with counted() as count:
            found = run(lifted, X)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert count == [compiles], position


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"callback", "jit in while"}))
def test_gradients_at_other_shapes_are_those_of_the_function(name):
    slopes = jax.jit(lambda function, x: grad(lambda x: jax.vmap(lambda row: function(row[None]))(x).sum())(x))
    for seed in (0, 1):
        function = FUNCTIONS[name](weights(seed), 2.0)
        expected = jax.grad(lambda x, f=function: jax.vmap(lambda row: f(row[None]))(x).sum())(X)
        np.testing.assert_allclose(slopes(lift(function, X), X), expected, rtol=1e-5, atol=1e-6)


def test_what_is_replaced_in_a_dict_is_read_anew():
    state, run = {"w": weights(0)}, jax.jit(lambda function, x: function(x))
    model = lambda x: x @ state["w"]
    for seed in (0, 1):
        state["w"] = weights(seed)
        np.testing.assert_allclose(run(lift(model, X), X), X @ weights(seed), rtol=1e-6)


def test_a_function_that_reads_other_arrays_at_other_shapes_is_never_stale():
    state, run = {"scale": 1.0}, jax.jit(lambda function, x: function(x))
    model = lambda x: x * (np.arange(len(x), dtype=np.float32) * state["scale"] + len(x))[:, None]
    for scale in (1.0, 5.0, 7.0):
        state["scale"] = scale
        np.testing.assert_allclose(run(lift(model, X), jnp.ones((3, 4))), model(jnp.ones((3, 4))))
    assert not lift(model, X).can_be_kept


def test_nothing_of_a_function_that_is_dropped_stays():
    run = jax.jit(lambda function, x: function(x))
    held = lambda: (gc.collect(), sum(x.nbytes for x in jax.live_arrays()))[1]

    def turn(seed):
        large = jax.random.normal(jax.random.key(seed), (4, 100_000))
        run(lift(jax.jit(lambda x: x @ large), X), X).block_until_ready()

    turn(0)
    before = held()
    for seed in range(1, 4):
        turn(seed)
    assert held() - before < 100_000


def test_what_a_backward_rule_reads_is_never_stale():
    state = {}

    @jax.custom_vjp
    def scaled_backward(x):
        return x

    scaled_backward.defvjp(lambda x: (x, None), lambda _, g: (g * state["scale"],))
    slope = jax.jit(lambda function, x: grad(lambda x: function(x).sum())(x))
    for scale in (2.0, 3.0, 5.0):
        state["scale"] = jnp.float32(scale)
        np.testing.assert_allclose(slope(lift(lambda x: scaled_backward(x), X), X), jnp.full_like(X, scale))
