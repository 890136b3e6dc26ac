"""What a checkpoint keeps, and that it computes the rest again."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.ad_checkpoint import saved_residuals
from jax.ad_checkpoint import checkpoint_name as name
from jax.extend.core import jaxprs_in_params

import diffprog as dp

policies = jax.checkpoint_policies
rng = np.random.default_rng(0)
X, W = rng.uniform(0.3, 1.0, 5), rng.uniform(-0.5, 0.5, (5, 5))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def named(x, w):
    h = name(jnp.tanh(w @ x), "h")
    k = name(jnp.sin(h) * x, "k")
    return jnp.sum(jnp.exp(w.T @ k) * h)


def batched(x, w):
    a = jnp.einsum("bij,bjk->bik", jnp.stack([w, w + 1]), jnp.stack([w * x, w]))
    return jnp.sum(jnp.sin(w @ a[0] @ jnp.cos(a[1])))


def with_jit(x, w):
    f = jax.jit(lambda x: name(jnp.sin(w @ jnp.sin(x)), "h"))
    return jnp.sum(f(f(jnp.cos(x))))


def with_scan(x, w):
    def body(c, t):
        c = jnp.sin(name(w @ c, "h")) * t
        return c, jnp.cos(c)

    c, ys = lax.scan(body, x, jnp.arange(1.0, 5.0))
    return jnp.sum(c) + jnp.sum(ys)


def with_cond(x, w):
    one = lambda x: jnp.sin(name(w @ jnp.sin(x), "h"))
    return jnp.sum(lax.cond(x[0] > 0, one, lambda x: jnp.cos(jnp.exp(w.T @ x)), jnp.tanh(x)))


def with_custom_rules(x, w):
    return jnp.sum(jax.nn.softmax(w @ jax.nn.relu(w @ x)) * jax.nn.gelu(w @ x))


def nested(x, w):
    f = jax.checkpoint(lambda x: jnp.sin(name(w @ jnp.sin(x), "h")), policy=policies.dots_saveable)
    return jnp.sum(f(jnp.cos(f(x))))


def mixed(x, w):
    return named(x, w) + with_scan(jax.nn.relu(x), w)


FUNCTIONS = [named, batched, with_jit, with_scan, with_cond, with_custom_rules, nested]
HOST = {"offload_src": "device", "offload_dst": "pinned_host"}
POLICIES = {
    "none": None,
    "everything": policies.everything_saveable,
    "nothing": policies.nothing_saveable,
    "dots": policies.dots_saveable,
    "dots without batch": policies.dots_with_no_batch_dims_saveable,
    "anything but h": policies.save_anything_except_these_names("h"),
    "any name but h": policies.save_any_names_but_these("h"),
    "only h": policies.save_only_these_names("h"),
    "k or dots": policies.save_from_both_policies(policies.save_only_these_names("k"), policies.dots_saveable),
    "written by the user": lambda primitive, *avals, **params: primitive.name in ("sin", "tanh"),
    "offload h, save k": policies.save_and_offload_only_these_names(
        names_which_can_be_saved=["k"], names_which_can_be_offloaded=["h"], **HOST
    ),
    "offload dots": policies.offload_dot_with_no_batch_dims(**HOST),
}


def kept(fun, *args):
    """The types of the residuals that the pullback of `fun` keeps."""
    return jax.tree.leaves(jax.eval_shape(lambda *args: dp.vjp(fun, *args)[1], *args))


def shapes(fun, *args):
    return sorted(x.shape for x in kept(fun, *args))


def size(avals):
    return sum(np.prod(x.shape, dtype=int) * x.dtype.itemsize for x in avals)


@pytest.mark.parametrize("policy", POLICIES)
def test_keeps_no_more_than_jax(policy):
    for fun in FUNCTIONS:
        wrapped = jax.checkpoint(fun, policy=POLICIES[policy])
        theirs = [aval for aval, _ in saved_residuals(wrapped, X, W)]
        assert size(kept(wrapped, X, W)) <= size(theirs), fun.__name__


ARGUMENTS = [X.shape, W.shape]
H = D = X.shape  # the named value, and any product


@pytest.mark.parametrize(
    "fun, policy, values",
    [
        (named, "none", []),
        (named, "nothing", []),
        (named, "dots", [D, D]),
        (named, "any name but h", [X.shape]),
        (named, "only h", [H]),
        (named, "k or dots", [D, D, X.shape]),
        (named, "written by the user", [H, H]),
        (batched, "dots", [(2, 5, 5), (5, 5), (5, 5)]),  # the last product of a sum is not needed
        (batched, "dots without batch", [(5, 5), (5, 5)]),
        (with_jit, "only h", [H]),
        (with_scan, "only h", [(4, *H)]),
        (with_scan, "dots", [(4, *D)]),
        (with_cond, "only h", [H]),
    ],
)
def test_keeps_what_the_policy_names(fun, policy, values):
    wrapped = jax.checkpoint(fun, policy=POLICIES[policy])
    assert shapes(wrapped, X, W) == sorted(ARGUMENTS + values)


def test_keeping_everything_is_no_checkpoint():
    wrapped = jax.checkpoint(mixed, policy=policies.everything_saveable)
    assert size(kept(wrapped, X, W)) == size(kept(mixed, X, W))


def gradient(grad, fun):
    return jax.jit(grad(fun, (0, 1)))(X, W)


def second_order(grad, fun):
    along = lambda x, w: jnp.sum(grad(fun, (0, 1))(x, w)[1] * W.T)
    return jax.jit(grad(along, (0, 1)))(X, W)


def assert_same(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), ours, theirs)


@pytest.fixture(scope="module")
def expected():
    with jax.enable_x64(True):
        return gradient(jax.grad, mixed), second_order(jax.grad, mixed)


@pytest.mark.parametrize("policy", ["none", "everything", "dots", "k or dots", "written by the user", "offload dots"])
def test_gradient(policy, expected):
    assert_same(gradient(dp.grad, jax.checkpoint(mixed, policy=POLICIES[policy])), expected[0])


def test_gradient_of_nested_checkpoints():
    for policy in ("nothing", "only h"):
        wrapped = jax.checkpoint(nested, policy=POLICIES[policy])
        assert_same(gradient(dp.grad, wrapped), gradient(jax.grad, nested))


@pytest.mark.parametrize("policy", ["k or dots", "offload h, save k"])  # JAX refuses the last one
def test_second_order(policy, expected):
    assert_same(second_order(dp.grad, jax.checkpoint(mixed, policy=POLICIES[policy])), expected[1])


def test_eagerly_and_with_a_pullback_that_leaves_jit(expected):
    wrapped = jax.checkpoint(mixed, policy=POLICIES["k or dots"])
    for vjp in (dp.vjp, jax.jit(dp.vjp, static_argnums=0)):
        _, pullback = vjp(wrapped, jnp.asarray(X), jnp.asarray(W))
        assert_same(pullback(jnp.ones(())), expected[0])


def equations(jaxpr, primitive):
    """How many equations of this primitive a jaxpr has, also inside others."""
    inner = sum(equations(sub, primitive) for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params))
    return inner + sum(eqn.primitive.name == primitive for eqn in jaxpr.eqns)


def sines_and_products(policy):
    def fun(x, w):
        return jnp.sum(w @ jnp.sin(w @ jnp.sin(w @ jnp.sin(x))))

    _, pullback = dp.vjp(jax.checkpoint(fun, policy=policy), X, W)
    jaxpr = jax.make_jaxpr(pullback)(1.0).jaxpr
    return equations(jaxpr, "sin"), equations(jaxpr, "dot_general")


def test_computes_again_what_is_not_kept():
    # The backward pass has six products of its own. It needs the three sines, and for their derivative two products.
    assert sines_and_products(policies.nothing_saveable) == (3, 6 + 2)
    assert sines_and_products(policies.dots_saveable) == (3, 6)
    assert sines_and_products(policies.everything_saveable) == (0, 6)
    assert sines_and_products(lambda primitive, *_, **__: primitive.name == "sin") == (0, 6 + 2)


def test_in_a_scan_the_residuals_are_stacked_by_policy():
    def fun(policy):
        body = jax.checkpoint(lambda c, t: (jnp.sin(name(W @ jnp.sin(c), "h")) * t, None), policy=policy)
        return lambda x: jnp.sum(lax.scan(body, x, jnp.arange(1.0, 5.0))[0])

    stacked = lambda policy: [s for s in shapes(fun(policy), X) if s == (4, 5)]
    assert len(stacked(policies.nothing_saveable)) == 1  # the carry alone
    assert len(stacked(policies.save_only_these_names("h"))) == 2
    assert len(stacked(policies.dots_saveable)) == 2
    expected = jax.grad(fun(None))(X)
    for policy in (policies.save_only_these_names("h"), policies.dots_saveable):
        assert_same(dp.grad(fun(policy))(X), expected)


def test_under_vmap_and_of_vmap():
    wrapped = jax.checkpoint(named, policy=policies.dots_saveable)
    rows = np.stack([X, 2 * X, X - 1])
    expected = jax.vmap(jax.grad(named), (0, None))(rows, W)
    assert_same(jax.vmap(dp.grad(wrapped), (0, None))(rows, W), expected)
    total = lambda rows: jnp.sum(jax.vmap(wrapped, (0, None))(rows, W))
    assert_same(dp.grad(total)(rows), expected)
    assert size(kept(total, rows)) == 3 * rows.nbytes + W.nbytes  # the rows, both products, and W


def test_static_arguments():
    @partial(jax.checkpoint, static_argnums=(1,), policy=policies.dots_saveable)
    def fun(x, power, w):
        return jnp.sum(jnp.sin(w @ x) ** power) if power > 1 else jnp.sum(w @ x)

    for power in (1, 3):
        ours, theirs = (grad(fun, (0, 2))(X, power, W) for grad in (dp.grad, jax.grad))
        assert_same(ours, theirs)


@pytest.mark.parametrize("prevent_cse, barriers", [(True, 1), (False, 0), ((False, True), 1)])
def test_barriers_keep_the_compiler_from_merging_both_runs(prevent_cse, barriers):
    wrapped = jax.checkpoint(named, prevent_cse=prevent_cse, policy=policies.save_only_these_names("h"))
    lowered = jax.jit(dp.grad(wrapped, (0, 1))).lower(X, W).as_text()
    assert lowered.count("optimization_barrier") == barriers
    assert_same(gradient(dp.grad, wrapped), gradient(jax.grad, named))


def test_offloaded_residuals_are_on_the_host():
    wrapped = jax.checkpoint(named, policy=POLICIES["offload h, save k"])
    pullback = jax.jit(lambda x, w: dp.vjp(wrapped, x, w)[1])(X, W)
    kinds = [x.sharding.memory_kind for x in jax.tree.leaves(pullback)]
    theirs = jax.tree.leaves(jax.jit(lambda x, w: jax.vjp(wrapped, x, w)[1])(X, W))
    assert sorted(kinds) == sorted(x.sharding.memory_kind for x in theirs)


def test_a_gradient_is_checkpointed_too():
    """A checkpoint around a gradient, and a checkpoint differentiated twice, keep arguments and cotangents alone."""
    assert shapes(jax.checkpoint(dp.grad(named)), X, W) == sorted(ARGUMENTS)
    assert shapes(dp.grad(jax.checkpoint(named)), X, W) == [(), *sorted(ARGUMENTS)]


def test_what_is_kept_is_what_the_forward_pass_goes_on_with():
    """Compilers compute 16-bit numbers in more digits: both passes have to round the value that is kept."""

    @jax.custom_vjp
    def in_float32(x):
        return jnp.float32(1.0) * x.astype(jnp.float32)

    in_float32.defvjp(lambda x: (in_float32(x), x), lambda x, _: (in_float32(x).astype(x.dtype),))
    squared = jax.custom_vjp(lambda x: jnp.dot(x, x))
    squared.defvjp(lambda x: (jnp.dot(x, x), None), lambda _, g: (g,))

    @jax.jit
    @partial(jax.checkpoint, policy=lambda *_, **__: True)
    def fun(x):
        return in_float32(squared(x))

    x = (1 + jnp.finfo(jnp.bfloat16).eps) * jnp.eye(2, dtype=jnp.bfloat16)
    y, pullback = dp.vjp(fun, x)
    np.testing.assert_array_equal(pullback(jnp.ones_like(y))[0].astype(jnp.float32), y)


# ---------------------------------------------------------------- memory


def _bytes_held(loss, weights, x) -> int:
    compiled = jax.jit(dp.grad(loss)).lower(weights, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is the CPU backend that drops barriers")
def test_recomputation_saves_memory_on_a_cpu():
    """A chain of 64 layers, 8 a checkpoint, keeps 8 + 8 values in the place of 64."""
    weights, x = [jnp.eye(16)] * 64, jnp.ones((2048, 16))

    def layers(x, weights):
        for w in weights:
            x = jnp.tanh(x @ w)
        return x

    def by_eights(wrap, weights, x):
        for i in range(0, 64, 8):
            x = wrap(layers)(x, weights[i : i + 8])
        return jnp.sum(x)

    plain, checkpointed = (partial(by_eights, wrap) for wrap in (lambda f: f, jax.checkpoint))
    assert _bytes_held(checkpointed, weights, x) <= 0.35 * _bytes_held(plain, weights, x)
    for ours, theirs in zip(dp.grad(checkpointed)(weights, x), jax.grad(plain)(weights, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_call_apart_is_transformed_as_the_program_in_it():
    """Its JVP, its transpose, its batch and its own backward pass, by JAX's transformations and by ours."""
    f = jax.checkpoint(lambda x, w: jnp.sin(jnp.cos(x) * x @ w))
    loss = lambda x, w: jnp.sum(f(f(x, w), w) ** 2)
    gradients = lambda grad, x: jnp.concatenate([jnp.ravel(g) for g in grad(loss, (0, 1))(x, W)])
    expected = jax.jacrev(partial(gradients, jax.grad))(X)
    for jacobian in (jax.jacfwd, jax.jacrev, dp.jacrev):
        np.testing.assert_allclose(jacobian(partial(gradients, dp.grad))(X), expected, rtol=1e-10, atol=1e-12)
    per_row = lambda grad: jax.vmap(grad(loss, (0, 1)), (0, None))(jnp.stack([X, 2 * X]), W)
    for ours, theirs in zip(per_row(dp.grad), per_row(jax.grad), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
