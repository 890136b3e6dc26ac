"""Primitives and types of the user's own, and custom rules in both of JAX's implementations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import hijax

import diffprog as dp
from tests.rules.test_checkpoint import FUNCTIONS as CHECKPOINTED
from tests.rules.test_checkpoint import POLICIES, W, kept, size
from tests.rules.test_checkpoint import X as X5
from tests.tracer.test_composition import FUNCTIONS, weight

HiPrim = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
instantiate = hijax.instantiate_zeros
only_since_0_12 = pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="what hijax has since JAX 0.12")
X = np.asarray([0.3, -1.2, 2.0])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_same(ours, theirs, tolerance=1e-12):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), ours, theirs)


# ---------------------------------------------------------------- primitives with rules of their own


class Scaled(HiPrim):
    """(x, y) -> {"product": factor * x * y, "sine": sin(x)}"""

    def __init__(self, aval, factor):
        self.in_avals, self.out_aval = (aval, aval), {"product": aval, "sine": aval}
        self.params = {"factor": factor}
        super().__init__()

    def expand(self, x, y):
        return {"product": self.factor * x * y, "sine": jnp.sin(x)}

    def vjp_fwd(self, wanted, x, y):
        return self(x, y), (x, y)

    def vjp_bwd_retval(self, residuals, g):
        x, y = residuals
        product, sine = instantiate(g["product"]), instantiate(g["sine"])
        return self.factor * y * product + jnp.cos(x) * sine, self.factor * x * product

    def batch_dim_rule(self, axis_data, dims):  # until JAX 0.11
        return {"product": 0, "sine": 0}

    def batch(self, axis_data, args, dims):
        return Scaled(jax.typeof(args[0]), self.factor)(*args), {"product": 0, "sine": 0}


class Accumulating(Scaled):
    """The same with a backward rule that adds to what it is given."""

    vjp_bwd_retval = HiPrim.vjp_bwd_retval

    def vjp_bwd(self, residuals, g, x_sum, y_sum):
        x, y = residuals
        x_sum.accum(self.factor * y * instantiate(g["product"]))
        x_sum.accum(jnp.cos(x) * instantiate(g["sine"]))
        y_sum.accum(self.factor * x * instantiate(g["product"]))


def apply(kind, x, y):
    found = kind(jax.typeof(x), 3.0)(x, y)
    return jnp.sum(found["product"] ** 2 * found["sine"])


plain = lambda x, y: jnp.sum((3 * x * y) ** 2 * jnp.sin(x))

USES = {
    "both": lambda f: lambda x: f(x, 2 * x),
    "one of them": lambda f: lambda x: f(x, jnp.ones(3)),
    "in jit": lambda f: jax.jit(lambda x: f(x, 2 * x)),
    "in vmap": lambda f: lambda x: jnp.sum(jax.vmap(f)(jnp.stack([x, 2 * x]), jnp.stack([jnp.sin(x), x]))),
    "in scan": lambda f: lambda x: lax.scan(lambda c, t: (c + f(x * t, x), None), 0.0, jnp.arange(3.0))[0],
    "in a checkpoint": lambda f: jax.checkpoint(lambda x: f(x, jnp.sin(x)), policy=POLICIES["written by the user"]),
}


@pytest.mark.parametrize("kind", [Scaled, Accumulating])
@pytest.mark.parametrize("use", USES)
def test_rules_of_the_primitive(kind, use):
    ours, theirs = USES[use](partial(apply, kind)), USES[use](plain)
    assert_same(jax.jit(dp.grad(ours))(X), jax.jit(jax.grad(theirs))(X))


def test_rules_of_the_primitive_eagerly_and_twice():
    fun = USES["both"](partial(apply, Scaled))
    assert_same(dp.grad(fun)(X), jax.grad(USES["both"](plain))(X))
    twice = lambda grad, f: jax.jit(grad(lambda x: jnp.sum(jnp.sin(grad(f)(x)))))(X)
    assert_same(twice(dp.grad, fun), twice(jax.grad, USES["both"](plain)))


class Half(HiPrim):
    """One result of two has a gradient."""

    def __init__(self, aval):
        self.in_avals, self.out_aval, self.params = (aval,), (aval, aval), {}
        super().__init__()

    def expand(self, x):
        return jnp.sin(x), jnp.cos(x)

    def vjp_fwd(self, wanted, x):
        return self(x), x, (True, False)

    def vjp_bwd_retval(self, x, g):
        return (instantiate(g[0]) * jnp.cos(x),)


def test_a_rule_may_say_which_results_have_a_gradient():
    fun = lambda x: jnp.sum(jnp.add(*Half(jax.typeof(x))(x)))
    assert_same(dp.grad(fun)(X), jnp.cos(X))  # JAX 0.10 fails


def test_without_a_rule_the_error_is_that_of_the_primitive():
    class Bare(Half):
        vjp_fwd = HiPrim.vjp_fwd

    with pytest.raises(NotImplementedError, match="vjp_fwd"):
        dp.grad(lambda x: jnp.sum(Bare(jax.typeof(x))(x)[0]))(X)


def make_product(rules):
    """x * sin(y), linear in x, whose reverse mode is the transpose of its forward mode."""

    class Product(HiPrim):
        def __init__(self, x, y):
            self.in_avals, self.out_aval, self.params = (x, y), x, {}
            super().__init__()

        def expand(self, x, y):
            return x * jnp.sin(y)

        def jvp(self, primals, tangents):
            (x, y), (dx, dy) = primals, tangents
            zero = lambda t: isinstance(t, hijax.Zero)
            terms = [] if zero(dx) else [jax.jit(self)(dx, y)]  # linear in x: the primitive itself, by its transpose
            terms += [] if zero(dy) else [x * jnp.cos(y) * dy]
            return self(x, y), sum(terms)

        def transpose(self, g, x_sum, y):
            assert not isinstance(y, hijax.GradAccum)
            x_sum.accum(g * jnp.sin(y))

        def lin(self, wanted, x, y):
            return self(x, y), (x, y)

        def linearized(self, residuals, dx, dy):
            x, y = residuals
            return instantiate(dx) * jnp.sin(y) + x * jnp.cos(y) * instantiate(dy)

    if rules == "jvp":
        Product.vjp_fwd, Product.vjp_bwd_retval = hijax.vjp_from_jvp
    else:
        Product.vjp_fwd, Product.vjp_bwd_retval = hijax.vjp_from_lin
    if rules == "linearized jvp":
        Product.lin, Product.linearized = hijax.linearize_from_jvp
    return Product


@only_since_0_12
@pytest.mark.parametrize("rules", ["jvp", "linearized", "linearized jvp"])
@pytest.mark.parametrize("use", ["both", "one of them"])
def test_reverse_mode_from_forward_mode(rules, use):
    kind = make_product(rules)
    ours = USES[use](lambda x, y: jnp.sum(kind(jax.typeof(x), jax.typeof(y))(x, y) ** 2))
    theirs = USES[use](lambda x, y: jnp.sum((x * jnp.sin(y)) ** 2))
    both = lambda grad, f: jax.jit(lambda x: (grad(f)(x), grad(lambda x: jnp.sum(jnp.sin(grad(f)(x))))(x)))(X)
    assert_same(both(dp.grad, ours), both(jax.grad, theirs))


def test_scaling_by_powers_of_two():  # hijax primitives since JAX 0.12
    fun = lambda x: jnp.sum(jnp.ldexp(x, jnp.asarray([1, -2, 3])) ** 2 + jnp.frexp(x)[0] ** 3)
    assert_same(dp.grad(fun)(X), jax.grad(fun)(X))


@pytest.mark.parametrize("has_aux", [False, True])
def test_roots(has_aux):
    """x(p) with x^3 + x = p: dx/dp = 1 / (3 x^2 + 1)."""

    def newton(f, x):
        for _ in range(30):
            x = x - f(x) / jax.jvp(f, (x,), (jnp.ones_like(x),))[1]
        return (x, 2 * x) if has_aux else x

    def root(p):
        f = lambda x: x**3 + x - p
        found = lax.custom_root(f, jnp.ones_like(p), newton, lambda g, y: y / g(jnp.ones_like(y)), has_aux)
        return found[0] if has_aux else found

    p = jnp.asarray([1.0, 3.0])
    x = root(p)
    assert_same(dp.grad(lambda p: jnp.sum(root(p)))(p), 1 / (3 * x**2 + 1))
    second = dp.grad(lambda p: jnp.sum(dp.grad(lambda p: jnp.sum(root(p)))(p)))
    assert_same(jax.jit(second)(p), -6 * x / (3 * x**2 + 1) ** 3)
    assert_same(jax.vmap(dp.grad(root))(p), 1 / (3 * x**2 + 1))


# ---------------------------------------------------------------- types of the user's own


class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second


class PairType(hijax.HiType):
    def __init__(self, part):
        self.part = part

    def __hash__(self):
        return hash(self.part)

    def __eq__(self, other):
        return isinstance(other, PairType) and self.part == other.part

    def lo_ty(self):
        return [self.part, self.part]

    def lower_val(self, pair):
        return [pair.first, pair.second]

    def raise_val(self, first, second):
        return Pair(first, second)

    def to_tangent_aval(self):
        return PairType(self.part.to_tangent_aval())

    def vspace_zero(self):
        return make_pair(*[jnp.zeros(self.part.shape, self.part.dtype)] * 2)

    def vspace_add(self, x, y):
        return make_pair(*map(jnp.add, take_pair(x), take_pair(y)))

    def str_short(self, short_dtypes=False, **_):
        return f"Pair[{self.part.str_short()}]"


hijax.register_hitype(Pair, lambda pair: PairType(jax.typeof(pair.first)))


class Make(HiPrim):
    def __init__(self, part):
        self.in_avals, self.out_aval, self.params = (part, part), PairType(part), {}
        super().__init__()

    def expand(self, first, second):
        return Pair(first, second)

    def vjp_fwd(self, wanted, first, second):
        return self(first, second), None

    def vjp_bwd_retval(self, _, g):
        return take_pair(g)


class Take(HiPrim):
    def __init__(self, pair):
        self.in_avals, self.out_aval, self.params = (pair,), (pair.part, pair.part), {}
        super().__init__()

    def expand(self, pair):
        return pair.first, pair.second

    def vjp_fwd(self, wanted, pair):
        return self(pair), None

    def vjp_bwd_retval(self, _, g):
        return (make_pair(*map(instantiate, g)),)


make_pair = lambda first, second: Make(jax.typeof(first))(first, second)
take_pair = lambda pair: Take(jax.typeof(pair))(pair)


def test_values_of_a_type_of_the_users_own():
    def inside(x):
        pair = make_pair(x, jnp.sin(x))
        first, _ = take_pair(pair)
        again, second = take_pair(pair)
        return jnp.sum(first * second + again * second**2)

    expected = jax.grad(lambda x: jnp.sum(x * jnp.sin(x) + x * jnp.sin(x) ** 2))(X)
    for fun in (inside, jax.jit(inside)):
        assert_same(dp.grad(fun)(X), expected)

    found = dp.grad(lambda pair: jnp.sum(jnp.multiply(*take_pair(pair)) ** 2))(Pair(X, 3 * X))
    assert_same((found.first, found.second), (18 * X**3, 6 * X**3))
    result, pullback = dp.vjp(make_pair, X, 2 * X)
    assert_same(pullback(result), (X, 2 * X))


# ---------------------------------------------------------------- both of JAX's implementations


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


@partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def called(fun, x, power):
    return fun(x) ** power


called.defvjp(
    lambda fun, x, power: (fun(x) ** power, x), lambda fun, power, x, g: (g * 11 * fun(x) ** (power - 1),)
)


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
    "checkpoint of a custom rule": lambda x: jnp.sum(jax.checkpoint(lambda x: optional(jnp.sin(x), 2, {"a": x, "b": x}),
                                                                    policy=POLICIES["written by the user"])(x)),
}  # fmt: skip


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
    "remat optimized": (lambda x: jnp.sum(jax.checkpoint(make_optimized(1))(x * x) ** 2),
                        lambda x: jnp.sum(jnp.sin(x * x) ** 2)),
}  # fmt: skip


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
