"""Primitives and types of the user's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src import hijax as internal
from jax._src.interpreters import ad
from jax.experimental import hijax

import diffprog as dp
from tests.rules.test_checkpoint import POLICIES

HiPrim = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
GradAccum = getattr(hijax, "GradAccum", None) or ad.GradAccum
Box = getattr(internal, "Box", None)
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
            assert not isinstance(y, GradAccum)
            x_sum.accum(g * jnp.sin(y))

        def lin(self, wanted, x, y):
            return self(x, y), (x, y)

        def linearized(self, residuals, dx, dy):
            x, y = residuals
            return instantiate(dx) * jnp.sin(y) + x * jnp.cos(y) * instantiate(dy)

    if rules == "jvp alone":
        return Product
    if rules == "jvp":
        Product.vjp_fwd, Product.vjp_bwd_retval = hijax.vjp_from_jvp
    else:
        Product.vjp_fwd, Product.vjp_bwd_retval = hijax.vjp_from_lin
    if rules == "linearized jvp":
        Product.lin, Product.linearized = hijax.linearize_from_jvp
    return Product


@pytest.mark.parametrize(
    "rules",
    ["jvp alone", *(pytest.param(rules, marks=only_since_0_12) for rules in ("jvp", "linearized", "linearized jvp"))],
)
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


class PlainPair(Pair):
    """A pair of a type that has neither a zero nor a sum."""


class PlainType(PairType):
    vspace_zero, vspace_add = hijax.HiType.vspace_zero, hijax.HiType.vspace_add

    def raise_val(self, first, second):
        return PlainPair(first, second)

    def to_tangent_aval(self):
        return PlainType(self.part.to_tangent_aval())


hijax.register_hitype(PlainPair, lambda pair: PlainType(jax.typeof(pair.first)))


class MakePlain(HiPrim):
    """Linear, with a JVP and a transpose and no rule for reverse mode, as is its inverse."""

    def __init__(self, part):
        self.in_avals, self.out_aval, self.params = (part, part), PlainType(part), {}
        super().__init__()

    def expand(self, first, second):
        return PlainPair(first, second)

    def jvp(self, primals, tangents):
        return self(*primals), self(*map(instantiate, tangents))

    def transpose(self, g, *sums):
        for total, part in zip(sums, take_plain(g), strict=True):
            if isinstance(total, GradAccum):
                total.accum(part)


class TakePlain(HiPrim):
    def __init__(self, pair):
        self.in_avals, self.out_aval, self.params = (pair,), (pair.part, pair.part), {}
        super().__init__()

    def expand(self, pair):
        return pair.first, pair.second

    def jvp(self, primals, tangents):
        return self(*primals), self(*tangents)

    def transpose(self, g, total):
        total.accum(make_plain(*map(instantiate, g)))


make_plain = lambda first, second: MakePlain(jax.typeof(first))(first, second)
take_plain = lambda pair: TakePlain(jax.typeof(pair))(pair)


def test_values_of_a_type_without_a_zero():
    inside = lambda x: jnp.sum(jnp.multiply(*take_plain(make_plain(x, jnp.sin(x)))))
    for fun in (inside, jax.jit(inside), jax.checkpoint(inside)):
        assert_same(jax.jit(dp.grad(fun))(X), jax.grad(lambda x: jnp.sum(x * jnp.sin(x)))(X))
    found = dp.grad(lambda pair: jnp.sum(take_plain(pair)[1] ** 2))(PlainPair(X, 3 * X))
    assert_same((found.first, found.second), (0 * X, 6 * X))


@pytest.mark.skipif(Box is None, reason="this JAX has no boxes")
@pytest.mark.parametrize("how", [lambda f: f, jax.jit])
def test_boxes_that_a_rule_or_a_function_writes_to(how):
    """A box is set by the backward rule, or in the forward pass to what has no gradient."""
    box = Box(0.0)

    @jax.custom_vjp
    def noted(box, x):
        return x

    def backward(box, g):
        box.set(g)
        return None, g

    noted.defvjp(lambda box, x: (x, box), backward)
    assert dp.grad(how(lambda x: 2 * noted(box, 2 * x)))(1.0) == 4.0
    assert box.get() == 2.0

    @how
    def counting(x):
        box.set(box.get() + lax.stop_gradient(3.0 * x))
        return x**2

    assert dp.grad(counting)(1.5) == 3.0
    assert box.get() == 6.5
