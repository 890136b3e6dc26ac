"""Budgets of programs whose memory is held by branches and by steps of scans: these have plans of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._rules.budget.costs import peak_bytes
from diffprog._rules.budget.segments import segmented

rng = np.random.default_rng(0)
LAYERS = [rng.normal(size=(8, 8)) / np.sqrt(8) for _ in range(8)]
X = np.abs(rng.normal(size=(256, 8)))
BYTES = X.size * 8  # of a value between two layers


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tanhs(layers, x):
    for w in layers:
        x = jnp.tanh(x @ w)
    return x


def sines(layers, x):
    for w in layers:
        x = x + jnp.sin(x @ w)
    return x


def of_two(layers, x):
    return lax.cond(x[0, 0] > 0, lambda x: tanhs(layers, x), lambda x: sines(layers, x), x)


def of_three(layers, x):
    """The second holds less than the others, and a constant; the first operation runs before them."""
    held = np.arange(8.0)
    branches = [lambda x: tanhs(layers, x), lambda x: sines(layers[:2], x) * held, lambda x: sines(layers, x)]
    return lax.switch(jnp.int32(jnp.sign(x[0, 0])) + 1, branches, jnp.cos(x))


def nested(layers, x):
    inner = lambda x: lax.cond(x[0, 1] > 0, lambda x: tanhs(layers * 2, x), lambda x: x, x)
    return lax.cond(x[0, 0] > 0, lambda x: inner(jnp.sin(x)), lambda x: x, x)


def in_steps(layers, x):
    step = lambda x, t: (lax.cond(t > 1, lambda x: of_two(layers[2:], x), lambda x: x, x), jnp.sum(x))
    x, sums = lax.scan(step, x, jnp.arange(4))
    return x * sums[1]


def around_steps(layers, x):
    stacked = jnp.stack(layers * 3)
    scanned = lambda x: lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stacked)[0]
    return lax.cond(x[0, 0] > 0, scanned, lambda x: sines(layers[:2], x), x)


def deep_steps(layers, x):
    return lax.scan(lambda x, t: (sines(layers, x) / 2, None), x, None, length=4)[0]


def few_deep_steps(layers, x):
    return lax.scan(lambda x, t: (sines(layers, x) / 2, None), x, None, length=2)[0]


def loss(program):
    return lambda layers, x: jnp.sum(program(layers, x) ** 2)


def compiled(gradient, *args):
    return jax.jit(gradient).lower(*args).compile()


def bytes_held(program) -> int:
    return program.memory_analysis().temp_size_in_bytes


def error(ours, theirs):
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return np.linalg.norm(flat(ours) - flat(theirs)) / np.linalg.norm(flat(theirs))


# Of what the plain gradient holds.
BUDGETS = {of_two: 0.5, of_three: 0.6, nested: 0.55, in_steps: 0.3, around_steps: 0.4}
BUDGETS |= {deep_steps: 0.3, few_deep_steps: 0.5}


@pytest.mark.parametrize("program", BUDGETS)
def test_every_branch_is_within_the_budget_and_its_gradient_is_that_of_jax(program):
    plain = compiled(dp.grad(loss(program), (0, 1)), LAYERS, X)
    ours = compiled(dp.grad(loss(program), (0, 1), memory=BUDGETS[program]), LAYERS, X)
    assert bytes_held(ours) <= BUDGETS[program] * bytes_held(plain)
    theirs = jax.jit(jax.grad(loss(program), (0, 1)))
    for x in (X, -X, np.where(np.arange(256)[:, None] == 0, 0, X)):
        assert error(ours(LAYERS, x), theirs(LAYERS, x)) < 1e-14
    runs = lambda program: sum(program.as_text().count(f" {name}(") for name in ("tanh", "sine"))
    assert runs(ours) > 1.3 * runs(plain)  # some layers are computed again


def test_a_branch_that_holds_little_runs_once():
    little = lambda layers, x: sines(layers[:2], x)
    program = lambda layers, x: lax.cond(x[0, 0] > 0, tanhs, little, layers * 2, x)
    text = compiled(dp.grad(loss(program), (0, 1), memory=0.5), LAYERS, X).as_text()
    assert text.count(" tanh(") > 2.5 * len(LAYERS)
    assert text.count(" sine(") == 2


def test_the_error_tells_the_least_where_branches_leave_no_choice():
    with pytest.raises(ValueError, match="the least that was reached is") as caught:
        dp.grad(loss(of_two), memory=BYTES)(LAYERS, X)
    least = float(str(caught.value).split("the least that was reached is ")[1].split(" kB")[0]) * 2**10
    assert BYTES < least < 0.3 * bytes_held(compiled(dp.grad(loss(of_two)), LAYERS, X))


def test_transformations_go_through_branches():
    layers, xs, vectors = LAYERS[:5], np.stack([X, -X]), rng.normal(size=X.shape)
    part = dp.checkpoint(loss(of_two), memory=0.8)
    over = lambda f: lambda xs: jnp.sum(jax.vmap(f, (None, 0))(layers, xs) ** 2)

    def all_of(gradient, grad, f):
        along = lambda x: jax.jvp(lambda x: gradient(layers, x), [x], [vectors])[1]
        twice = grad(lambda x: sum(jnp.sum(g**2) for g in gradient(layers, x)))
        batched = jax.vmap(gradient, (None, 0))(layers, xs)  # both branches run
        return batched, grad(over(f))(xs), along(xs[0]), along(xs[1]), twice(xs[0])

    ours = jax.jit(lambda: all_of(dp.grad(loss(of_two), memory=0.8), dp.grad, part))()
    theirs = jax.jit(lambda: all_of(jax.grad(loss(of_two)), jax.grad, loss(of_two)))()
    assert max(map(error, ours, theirs)) < 1e-14


def test_shallow_branches_and_small_steps_have_no_plans():
    """Their planning would take longer than it saves."""

    def program(layers, x):
        for w in layers[:2]:
            x = lax.cond(x[0, 0] > 0, jnp.sin, lambda x, w=w: jnp.tanh(x @ w), x)
        return lax.scan(lambda x, t: (jnp.tanh(x * t) @ layers[0], None), x, jnp.arange(100.0))[0]

    jaxpr = jax.make_jaxpr(program)(LAYERS, X)
    segments = segmented(jaxpr, (True,) * len(jaxpr.in_avals)).segments
    assert sorted({len(segment.options) for segment in segments}) == [1, 4]


def test_values_in_calls_are_counted_once():
    """What a call returns is what is returned in it; an operand that dies in it is free after its last use there."""
    chain = lambda x: jnp.cumsum(jnp.cumsum(jnp.cumsum(x)))
    inner = jax.jit(chain)
    for program in (chain, inner, lambda x: lax.cond(True, chain, chain, x), jax.checkpoint(inner)):
        jaxpr = jax.make_jaxpr(lambda x, program=program: jnp.cumsum(program(jnp.cumsum(x))))(X[:, 0])
        assert peak_bytes(jaxpr) == 2 * X[:, 0].nbytes
