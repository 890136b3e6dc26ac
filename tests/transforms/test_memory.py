"""Gradients within a memory budget: the same numbers, within the budget by the compiler's own figure."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(*shape):
    return rng.normal(size=shape) / np.sqrt(shape[-1])


def chain(layers, x):
    for w in layers:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def jitted_blocks(layers, x):
    """Nested `jit`, a custom rule, a skip connection from the first value to the last."""
    block = jax.jit(lambda x, w: x + jax.nn.gelu(jax.nn.relu(x @ w) @ w.T))
    first = x
    for w in layers:
        x = block(x, w)
    return jnp.sum(jax.nn.logsumexp(x, -1)) + jnp.sum(first * x)


def attention(layers, x):
    for w in layers:
        scores = jnp.where(jnp.tri(x.shape[0], dtype=bool), x @ w @ x.T, -1e9)
        x = x + jax.nn.softmax(scores, -1) @ x
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return jnp.sum(jnp.sin(x))


def convolutions(layers, x):
    images, kernels = x.reshape(2, 8, 16, 2), [w[:3, :3].reshape(3, 3, 1, 1) * jnp.eye(2) for w in layers]
    for kernel in kernels:
        images = images + jax.nn.silu(
            lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
    return jnp.sum(images**2)


def recurrence(layers, x):
    stacked = jnp.stack(layers)
    step = lambda h, t: (jnp.tanh(h @ stacked[0] + jnp.cos(t)), jnp.sum(h))
    h, sums = lax.scan(step, jnp.zeros_like(x), jnp.arange(60.0))
    return jnp.sum(h**2) + jnp.sum(sums[::7])


def mixed(layers, x):
    """A scan from the last step to the first, a branch, a loop of known length, integers."""
    index = jnp.arange(x.shape[0])[::-1]
    for w in layers[:4]:
        x = lax.cond(x[0, 0] > 9, lambda x: x, lambda x, w=w: jnp.tanh(x @ w), x[index])
    x, _ = lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, jnp.stack(layers), reverse=True)
    return jnp.sum(lax.fori_loop(0, 12, lambda i, x: jnp.cos(x * (i + 1.0)), x))


def own_checkpoint(layers, x):
    for w in layers:
        x = jax.checkpoint(lambda x, w: jnp.tanh(jnp.sin(x @ w)))(x, w)
    return jnp.sum(x**2)


PROGRAMS = [chain, jitted_blocks, attention, convolutions, recurrence, mixed, own_checkpoint]
LAYERS, X = [normal(8, 8) for _ in range(10)], normal(64, 8)


def norm_of_difference(ours, theirs):
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return np.linalg.norm(flat(ours) - flat(theirs)) / np.linalg.norm(flat(theirs))


def bytes_held(gradient, *args) -> int:
    return jax.jit(gradient).lower(*args).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_are_those_of_jax_within_the_budget(program):
    plain = bytes_held(dp.grad(program, (0, 1)), LAYERS[:6], X)
    budget = int(0.6 * plain)
    gradient = dp.value_and_grad(program, (0, 1), memory=budget)
    try:
        ours = gradient(LAYERS[:6], X)
    except ValueError as error:  # it must say why
        assert program in (own_checkpoint, convolutions, mixed) and "the least that was reached" in str(error)
        gradient = dp.value_and_grad(program, (0, 1), memory=0.95)
        ours = gradient(LAYERS[:6], X)
    else:
        assert bytes_held(gradient, LAYERS[:6], X) <= budget
    assert norm_of_difference(ours, jax.value_and_grad(program, (0, 1))(LAYERS[:6], X)) < 1e-13


def test_a_chain_at_a_third_computes_values_again():
    layers, x = [normal(16, 16) for _ in range(16)], normal(1024, 16)
    plain = bytes_held(dp.grad(chain), layers, x)
    compiled = jax.jit(dp.grad(chain, memory=0.35)).lower(layers, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.35 * plain
    assert 16 < compiled.as_text().count(" tanh(") <= 64  # calls in calls: some layers run for the fourth time
    assert norm_of_difference(compiled(layers, x), jax.grad(chain)(layers, x)) < 1e-14


@pytest.mark.parametrize("length", [400, 211])  # a prime: a rest of steps runs after the stretches
@pytest.mark.parametrize("reverse", [False, True])
def test_scans_keep_carries_of_stretches_alone(length, reverse):
    def program(w, x):
        step = lambda h, t: (jnp.tanh(h @ w + t), h[0])
        last, firsts = lax.scan(step, x, jnp.cos(jnp.arange(float(length))), reverse=reverse)
        return jnp.sum(last**2) + jnp.sum(firsts * jnp.arange(length)[:, None])

    w, x = normal(16, 16), normal(64, 16)
    plain = bytes_held(dp.grad(program, (0, 1)), w, x)
    gradient = dp.grad(program, (0, 1), memory=0.2)
    assert bytes_held(gradient, w, x) <= 0.2 * plain
    assert norm_of_difference(gradient(w, x), jax.grad(program, (0, 1))(w, x)) < 1e-13


def test_loops_of_unknown_length_store_fewer_states():
    def program(w, x, n):
        return jnp.sum(lax.fori_loop(0, n, lambda i, x: jnp.tanh(x @ w), x) ** 2)

    w, x = normal(16, 16), normal(256, 16)
    plain = bytes_held(dp.grad(program, (0, 1)), w, x, 40)
    gradient = dp.grad(program, (0, 1), memory=0.2)
    assert bytes_held(gradient, w, x, 40) <= 0.2 * plain
    expected = jax.grad(lambda w, x: program(w, x, 40), (0, 1))(w, x)
    assert norm_of_difference(gradient(w, x, 40), expected) < 1e-13


def test_transformations_go_through():
    gradient, theirs = dp.grad(chain, memory=0.5), jax.grad(chain)
    xs = jnp.stack([X, 2 * X])
    batched = lambda gradient: jax.vmap(gradient, (None, 0))(LAYERS, xs)
    assert norm_of_difference(batched(gradient), batched(theirs)) < 1e-13
    along = lambda gradient: jax.jvp(lambda x: gradient(LAYERS, x), [X], [X])[1]
    assert norm_of_difference(along(gradient), along(theirs)) < 1e-12
    twice = lambda gradient, grad: grad(lambda x: sum(jnp.sum(g**2) for g in gradient(LAYERS, x)))(X)
    expected = twice(theirs, jax.grad)
    assert norm_of_difference(twice(gradient, dp.grad), expected) < 1e-12
    assert norm_of_difference(twice(gradient, jax.grad), expected) < 1e-12
    _, pullback = jax.jit(lambda layers: dp.vjp(chain, layers, X, memory=0.5))(LAYERS)
    assert norm_of_difference(pullback(1.0)[0], theirs(LAYERS, X)) < 1e-13


def test_a_part_of_a_program_has_a_budget_of_its_own():
    part = dp.checkpoint(lambda layers, x, scale: chain(layers, x) * scale, memory=0.5)
    loss = lambda layers, x: jnp.sin(part(layers, x, scale=2.0))
    expected = jax.grad(lambda layers, x: jnp.sin(2 * chain(layers, x)))(LAYERS, X)
    for grad in (dp.grad, jax.grad):
        assert norm_of_difference(jax.jit(grad(loss))(LAYERS, X), expected) < 1e-13
    np.testing.assert_allclose(part(LAYERS, X, 1.0), chain(LAYERS, X))


def test_auxiliary_data_integers_and_closures():
    counts, held = jnp.arange(64), {"scale": jnp.array(1.0)}

    def loss(layers, x, counts):
        return chain(layers, x * held["scale"]), {"counts": counts + 1}

    gradient = dp.value_and_grad(loss, (0, 2), has_aux=True, allow_int=True, memory=0.5)
    for scale in (1.0, 3.0):  # a closure that changes is no constant
        held["scale"] = jnp.array(scale)
        (value, aux), (of_layers, of_counts) = gradient(LAYERS, X, counts)
        np.testing.assert_allclose(value, chain(LAYERS, scale * X))
        np.testing.assert_array_equal(aux["counts"], counts + 1)
        assert norm_of_difference(of_layers, jax.grad(chain)(LAYERS, scale * X)) < 1e-13
        assert of_counts.dtype == jax.dtypes.float0


@pytest.mark.filterwarnings("error")
def test_a_program_with_nothing_to_give_up_is_refused():
    with pytest.raises(ValueError, match="no plan holds the gradient within it"):
        dp.grad(chain, memory=1000)([normal(64, 64), normal(64, 64)], normal(64, 64))


def test_a_budget_that_no_plan_meets_is_refused_with_the_least():
    with pytest.raises(
        ValueError, match=r"memory= is 1 kB, and no plan .* the least that was reached is .* kB"
    ) as caught:
        dp.grad(chain, memory="1kB")(LAYERS, X)
    assert "without recomputation it holds" in str(caught.value)
    line = inspect.getsourcelines(chain)[1] + 2  # of the product in each layer
    assert f"test_memory.py:{line} (chain)" in str(caught.value)


def test_side_effects_are_refused():
    def loss(x):
        jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), x.dtype), jnp.sum(x))
        return jnp.sum(jax.experimental.io_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x))

    def with_mutable_array(x):
        reference = jax.new_ref(x)
        reference[...] = jnp.tanh(reference[...])
        return jnp.sum(jax.freeze(reference) ** 2)

    for refused in (loss, with_mutable_array):
        with pytest.raises(ValueError, match="side effects"):
            dp.grad(refused, memory=0.5)(X)


@pytest.mark.parametrize("memory", ["much", "12 apples", 0, -5, 1.5, 0.0, True, [1]])
def test_what_is_no_budget_is_refused(memory):
    with pytest.raises(ValueError, match="memory must be a text like"):
        dp.grad(chain, memory=memory)
    with pytest.raises(ValueError, match="memory must be a text like"):
        dp.checkpoint(chain, memory=memory)


@pytest.mark.parametrize("memory", ["1.5 GB", "512MB", "200MiB", 10**9, np.int64(10**9), 1.0])
def test_a_large_budget_changes_nothing(memory):
    ours = jax.jit(dp.grad(dp.checkpoint(chain, memory=memory))).lower(LAYERS, X).compile()
    plain = jax.jit(dp.grad(chain)).lower(LAYERS, X).compile()
    assert ours.memory_analysis().temp_size_in_bytes == plain.memory_analysis().temp_size_in_bytes
