"""Custom rules and checkpoints in both of JAX's implementations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import diffprog as dp
from tests.rules.test_checkpoint import FUNCTIONS as CHECKPOINTED
from tests.rules.test_checkpoint import POLICIES, W, kept, size
from tests.rules.test_checkpoint import X as X5
from tests.rules.test_hijax import X, assert_same, only_since_0_12
from tests.tracer.test_composition import FUNCTIONS, weight


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


FLAGS = [f"jax_{name}" for name in ("custom_jvp3", "custom_vjp3", "remat3") if hasattr(jax.config, f"jax_{name}")]


@pytest.fixture(params=["classic", "hijax"])
def implementation(request):
    """Custom rules and checkpoints as they are now, and as JAX means to have them."""
    before = {flag: getattr(jax.config, flag) for flag in FLAGS}
    for flag in FLAGS:
        jax.config.update(flag, request.param == "hijax")
    yield request.param
    for flag, value in before.items():
        jax.config.update(flag, value)


@jax.custom_vjp
def optional(x, n, tree):
    """None for an integer and for an unused part; the gradient of `tree` comes from the rule."""
    return x * n + tree["a"]


optional.defvjp(
    lambda x, n, tree: (optional(x, n, tree), (x, n)),
    lambda residuals, g: (5 * g * residuals[1], None, {"a": jnp.sin(g), "b": None}),
)


@jax.custom_vjp
def float0_for_integers(x, n):
    return x * n


float0_for_integers.defvjp(
    lambda x, n: (x * n, (x, n)), lambda residuals, g: (g * 3, np.zeros(residuals[1].shape, jax.dtypes.float0))
)


@jax.custom_vjp
def told_about_zeros(x, y):
    return x * y, x + y


def _told_forward(x, y):
    assert x.perturbed and not y.perturbed
    return (x.value * y.value, x.value + y.value), y.value


def _told_backward(y, g):
    zeros = [type(g) is jax.custom_derivatives.SymbolicZero for g in g]
    assert zeros == [False, True]
    return 7 * g[0] * y, None


told_about_zeros.defvjp(_told_forward, _told_backward, symbolic_zeros=True)


def make_optimized(factor):
    fun = jax.custom_vjp(lambda x: jnp.sin(x))
    fun.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cosine, g: (factor * g * cosine,), optimize_remat=True)
    return fun


optimized = make_optimized(2)


@pytest.mark.parametrize("in_loop", [False, True])
def test_an_optimized_rule_is_undone_where_nothing_is_kept(implementation, in_loop):
    """The forward pass of a checkpoint runs the function and not its rule, which here gives another value."""
    fun = jax.custom_vjp(lambda x: jnp.tan(x))
    fun.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),), optimize_remat=True)

    def once_or_twice(x):
        return jax.lax.scan(lambda x, _: (fun(x), None), x, length=2)[0] if in_loop else fun(x)

    value, gradient = dp.value_and_grad(jax.checkpoint(once_or_twice))(1.0)
    np.testing.assert_allclose(value, np.tan(np.tan(1.0)) if in_loop else np.tan(1.0), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.cos(1.0) * (np.cos(np.tan(1.0)) if in_loop else 1.0), rtol=1e-12)


@partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def called(fun, x, power):
    return fun(x) ** power


called.defvjp(lambda fun, x, power: (fun(x) ** power, x), lambda fun, power, x, g: (g * 11 * fun(x) ** (power - 1),))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def called_forward(fun, x):
    return fun(x)


called_forward.defjvp(lambda fun, primals, tangents: (fun(*primals), 13 * tangents[0] * fun(jnp.cos(primals[0]))))


CASES = {name: fun for name, fun in FUNCTIONS.items() if "custom" in name or "checkpoint" in name or name == "relu"} | {
    "None from a backward rule": lambda x: jnp.sum(optional(x, 3, {"a": x * x, "b": x}) ** 2),
    "float0 from a backward rule": lambda x: jnp.sum(float0_for_integers(x * x, jnp.arange(3))),
    "symbolic zeros": lambda x: jnp.sum(told_about_zeros(x, jnp.ones(3))[0] ** 2),
    "remat optimized": lambda x: jnp.sum(jax.checkpoint(optimized)(x * x) ** 2),
    "remat optimized in scan": lambda x: jnp.sum(lax.scan(lambda c, y: (optimized(c * y), c), x[0], x)[1]),
    "functions as arguments": lambda x: jnp.sum(called(jnp.sin, x, 3) + called_forward(jnp.tanh, x)),
    "checkpoint of a custom rule": lambda x: jnp.sum(
        jax.checkpoint(lambda x: optional(jnp.sin(x), 2, {"a": x, "b": x}), policy=POLICIES["written by the user"])(x)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_both_implementations(name, implementation):
    if name in FUNCTIONS and implementation == "classic":
        pytest.skip("in test_composition.py")
    expected = jax.jit(jax.grad(CASES[name]))(X)
    assert_same(jax.jit(dp.grad(CASES[name]))(X), expected)
    if name not in FUNCTIONS:
        assert_same(dp.grad(CASES[name])(X), expected)


TWICE = {name: (CASES[name], CASES[name]) for name in ("custom_jvp in scan", "custom_vjp in jit")} | {
    "checkpoint with a policy": (CASES["checkpoint with a policy"], lambda x: jnp.sum(jnp.sin(weight @ x) * x)),
    "remat optimized": (
        lambda x: jnp.sum(jax.checkpoint(make_optimized(1))(x * x) ** 2),
        lambda x: jnp.sum(jnp.sin(x * x) ** 2),
    ),
}


@pytest.mark.parametrize("name", TWICE)
def test_both_implementations_at_second_order_and_under_vmap(name, implementation):
    along = lambda grad, fun: grad(lambda x: jnp.sum(jnp.sin(grad(fun)(x))))
    mapped = lambda grad, fun: jax.jit(jax.vmap(along(grad, fun)))(np.stack([X, X + 0.1]))
    fun, plain = TWICE[name]
    assert_same(mapped(dp.grad, fun), mapped(jax.grad, plain))


def test_a_closed_over_tracer(implementation):
    def fun(x):
        custom = jax.custom_jvp(lambda y: y * x)
        custom.defjvp(lambda primals, tangents: (custom(*primals), 17 * tangents[0]))
        return jnp.sum(jax.checkpoint(lambda z: custom(z) * x)(jnp.sin(x)))

    try:
        expected = jax.grad(fun)(X)
    except Exception as error:
        with pytest.raises(type(error)):
            dp.grad(fun)(X)
    else:
        assert_same(dp.grad(fun)(X), expected)


@only_since_0_12
def test_rules_with_logs_with_accumulators_and_for_checkpoints(implementation):
    def apply(define):
        fun = jax.custom_vjp(jnp.sin)
        define(fun)
        return lambda x: jnp.sum(jax.checkpoint(fun)(x * x) + jax.jit(fun)(x))

    forward = lambda x: (jnp.sin(x), jnp.cos(x))
    ways = [
        lambda f: f.defvjp_with_logs(forward, lambda cosine, g: ((3 * g * cosine,), {"said": g})),
        lambda f: f.defvjp_with_accums(forward, lambda cosine, g, total: total.accum(3 * g * cosine)),
    ]
    if implementation == "hijax":
        again = lambda kept, x: (jnp.sin(x), kept)
        ways.append(lambda f: f.defremat(forward, again, lambda cosine, g: (3 * g * cosine,)))
    for way in ways:
        assert_same(dp.grad(apply(way))(X), 6 * X * np.cos(X**2) + 3 * np.cos(X))


def test_forward_mode_of_a_custom_vjp_is_an_error_as_in_jax(implementation):
    with pytest.raises(TypeError, match="forward-mode"):
        dp.grad(lambda x: jnp.sum(jax.jvp(optimized, (x,), (x,))[1]))(X)


def make_wrong(backward):
    fun = jax.custom_vjp(lambda x, y: x * y)
    fun.defvjp(lambda x, y: (x * y, (x, y)), backward)
    return lambda x: jnp.sum(fun(x, x))


WRONG = {
    "too few": lambda residuals, g: (g,),
    "no tuple": lambda residuals, g: g,
    "another shape": lambda residuals, g: (jnp.sum(g), g),
    "another structure": lambda residuals, g: ({"a": g}, g),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_rule_is_an_error_as_in_jax(name, implementation):
    fun = make_wrong(WRONG[name])
    with pytest.raises((TypeError, ValueError)) as theirs:
        jax.grad(fun)(X)
    with pytest.raises(theirs.type) as ours:
        dp.grad(fun)(X)
    assert str(ours.value)[:40] == str(theirs.value)[:40]


@pytest.mark.parametrize("policy", ["nothing", "dots", "only h", "k or dots", "everything"])
def test_checkpoints_of_both_implementations_keep_the_same(policy, monkeypatch):
    if "jax_remat3" not in FLAGS:
        pytest.skip("this JAX has one implementation")
    sizes = lambda: [size(kept(jax.checkpoint(f, policy=POLICIES[policy]), X5, W)) for f in CHECKPOINTED]
    expected = sizes()
    jax.config.update("jax_remat3", True)
    try:
        assert sizes() == expected
        assert checkpoint_name(X, "h") is not None
    finally:
        jax.config.update("jax_remat3", False)
