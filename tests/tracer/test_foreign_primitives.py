"""Primitives that others define, differentiated by the JVP and the transpose that they register with JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.interpreters import ad
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

import diffprog as dp
from diffprog._tracer.rules import linear_by_rule, rules
from tests.rules.test_no_fallback import without_jax_reverse_mode  # noqa: F401

X = jnp.array([0.5, -1.0, 2.0], jnp.float32)


def define(name, formula, multiple_results=False):
    """Make an elementwise primitive: type, lowering and batching of `formula`."""
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results
    primitive.def_impl(formula)
    avals = lambda *xs, **params: jax.tree.map(jax.typeof, jax.eval_shape(lambda *xs: formula(*xs, **params), *xs))
    primitive.def_abstract_eval(avals)
    mlir.register_lowering(primitive, mlir.lower_fun(formula, multiple_results=multiple_results))

    def batched(args, axes, **params):  # a scalar that is not batched stays one
        size = next(x.shape[a] for x, a in zip(args, axes, strict=True) if a is not None)
        along = lambda x: jnp.broadcast_to(x, (size, *x.shape)) if jnp.ndim(x) else x
        moved = [along(x) if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(args, axes, strict=True)]
        return primitive.bind(*moved, **params), [0, 0] if multiple_results else 0

    batching.primitive_batchers[primitive] = batched
    return primitive


# x^3, whose JVP is `scaled`: a t, linear in t
scaled = define("test_scaled", lambda a, t: a * t)
cubed = define("test_cubed", lambda x: x * x * x)


def _scaled_jvp(primals, tangents):
    (a, t), (da, dt) = primals, tangents
    terms = [scaled.bind(x, dot) for x, dot in ((t, da), (a, dt)) if type(dot) is not ad.Zero]
    return scaled.bind(a, t), sum(terms[1:], terms[0])


def _scaled_transpose(g, a, t):
    assert ad.is_undefined_primal(t)
    assert not ad.is_undefined_primal(a)
    return None, scaled.bind(a, g)


ad.primitive_jvps[scaled] = _scaled_jvp
ad.primitive_transposes[scaled] = _scaled_transpose
ad.primitive_jvps[cubed] = lambda p, t: (cubed.bind(*p), scaled.bind(3 * p[0] * p[0], t[0]))

# y_i = x_i + 2 x_(i+1) on a ring: linear, with a transpose alone as its derivative
ring = define("test_ring", lambda x: x + 2 * jnp.roll(x, -1, -1))
ring_back = define("test_ring_back", lambda g: g + 2 * jnp.roll(g, 1, -1))
ad.deflinear2(ring, lambda g, x: [ring_back.bind(g)])
ad.deflinear2(ring_back, lambda g, x: [ring.bind(g)])

# (s x, c x): two results, a parameter, an integer argument without a tangent, zero tangents passed on as such
pair = define("test_pair", lambda x, n, *, factor: [factor * x * n, x * x], multiple_results=True)
halves = define("test_halves", lambda t, n, *, factor: [factor * t * n, t], multiple_results=True)


def _pair_jvp(primals, tangents, *, factor):
    (x, n), (t, _) = primals, tangents
    first, second = halves.bind(t, n, factor=factor)
    return pair.bind(x, n, factor=factor), [first, 2 * x * second]


def _halves_transpose(cotangents, t, n, *, factor):
    parts = [jnp.zeros(t.aval.shape, t.aval.dtype) if type(g) is ad.Zero else g for g in cotangents]
    return [parts[0] * factor * n + parts[1], None]


ad.primitive_jvps[pair] = _pair_jvp
ad.primitive_transposes[halves] = _halves_transpose

LOSSES = {
    "nonlinear": (lambda x: jnp.sum(cubed.bind(x)), lambda x: jnp.sum(x**3)),
    "linear": (
        lambda x: jnp.sum(ring.bind(jnp.sin(x)) ** 2),
        lambda x: jnp.sum((jnp.sin(x) + 2 * jnp.sin(jnp.roll(x, -1))) ** 2),
    ),
    "bilinear": (lambda x: jnp.sum(scaled.bind(jnp.cos(x), x) * x), lambda x: jnp.sum(jnp.cos(x) * x * x)),
    "two results": (
        lambda x: jnp.sum(jnp.sin(pair.bind(x, 3, factor=2.0)[0]) * pair.bind(x, 3, factor=2.0)[1]),
        lambda x: jnp.sum(jnp.sin(6 * x) * x * x),
    ),
    "one result unused": (lambda x: jnp.sum(pair.bind(x, 3, factor=2.0)[0] ** 2), lambda x: jnp.sum(36 * x**2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_registered_derivatives_under_every_transformation(name):
    loss, same = LOSSES[name]
    gradient, hessian = jax.grad(same)(X), jax.hessian(same)(X)
    two = jnp.stack([X, 2 * X])
    scanned = lambda x: jnp.sum(lax.scan(lambda s, _: (s, loss(s)), x, None, length=2)[1]) / 2

    def close(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)

    close(dp.grad(loss)(X), gradient)
    close(jax.jit(dp.grad(loss))(X), gradient)
    close(dp.grad(jax.jit(loss))(X), gradient)
    close(dp.grad(jax.checkpoint(loss))(X), gradient)
    close(dp.grad(lambda x: lax.cond(x[0] > 0, loss, jnp.sum, x))(X), gradient)
    close(dp.grad(scanned)(X), gradient)
    close(jax.vmap(dp.grad(loss))(two), jax.vmap(jax.grad(same))(two))
    close(dp.grad(lambda xs: jnp.sum(jax.vmap(loss)(xs)))(two), jax.vmap(jax.grad(same))(two))
    close(dp.hessian(loss)(X), hessian)
    close(dp.jacrev(dp.grad(loss))(X), hessian)
    close(jax.jacrev(dp.grad(loss))(X), hessian)


@pytest.mark.parametrize("name", LOSSES)
def test_registered_derivatives_are_seen(name):
    loss, same = LOSSES[name]
    gradient = jax.grad(same)(X)
    recording = dp.record(loss)(X).backward()
    np.testing.assert_allclose(recording.inputs[0].gradients[0], gradient, rtol=2e-5, atol=1e-5)
    assert "test_" in recording.explain() and "test_" in recording.svg()
    node = next(node for node in recording.nodes if node.primitive.startswith("test_"))
    assert "test_foreign_primitives.py" in str(node.source)
    assert "nothing wrong" in str(dp.diagnose(loss)(X))
    np.testing.assert_allclose(dp.backward_source(loss)(X).function()(X)[0], gradient, rtol=2e-5, atol=1e-5)


def test_nothing_of_jax_reverse_mode_is_asked(without_jax_reverse_mode):  # noqa: F811
    for loss, _ in LOSSES.values():
        jax.eval_shape(jax.jit(dp.grad(loss)), X)


def test_a_rule_of_ones_own_goes_first():
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(rules, "test_cubed", raising=False)
        dp.defvjp(cubed, lambda y, x: lambda g: 100 * g)
        np.testing.assert_allclose(dp.grad(lambda x: jnp.sum(cubed.bind(x)))(X), [100, 100, 100])
        rules.pop("test_cubed")
        linear_by_rule.discard("test_cubed")


def test_a_fancy_transpose_adds_to_an_accumulator():
    doubled = define("test_doubled", lambda x: 2 * x)
    ad.primitive_jvps[doubled] = lambda p, t: (doubled.bind(*p), doubled.bind(*t))
    ad.fancy_transposes[doubled] = lambda g, x: x.accum(2 * g)
    np.testing.assert_allclose(dp.grad(lambda x: jnp.sum(doubled.bind(x) ** 2))(X), 8 * X)


def test_a_linearization_stands_in_for_a_jvp():
    sine = define("test_sine", jnp.sin)

    def linearize(is_vjp, nonzero, x):
        linearized = lambda slope, *rest: slope * rest[-1]  # since JAX 0.12 the tangents come third
        between = (None,) if jax.__version_info__ >= (0, 12) else ()
        return sine.bind(x), nonzero[0], jnp.cos(x), *between, linearized

    ad.primitive_linearizations[sine] = linearize
    loss = lambda x: jnp.sum(sine.bind(x) ** 2)
    np.testing.assert_allclose(dp.grad(loss)(X), np.sin(2 * X), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(dp.grad(jax.jit(loss)))(X), np.sin(2 * X), rtol=1e-5)


def test_what_has_no_derivative_says_so():
    opaque = define("test_opaque", lambda x: x * x)
    with pytest.raises(NotImplementedError, match=r"no derivative rule for the primitive 'test_opaque'.*test_foreign"):
        dp.grad(lambda x: opaque.bind(x))(1.0)
    unlucky = define("test_unlucky", lambda x: x * x)
    ad.primitive_jvps[unlucky] = lambda p, t: (unlucky.bind(*p), opaque.bind(*t))
    with pytest.raises(NotImplementedError, match=r"'test_unlucky' applies 'test_opaque', which is not linear"):
        dp.grad(lambda x: unlucky.bind(x))(1.0)
    endless = define("test_endless", lambda x: x * x)
    ad.primitive_jvps[endless] = lambda p, t: (endless.bind(*p), endless.bind(*t))
    with pytest.raises(NotImplementedError, match=r"'test_endless' applies 'test_endless', which is not linear"):
        dp.grad(jax.jit(lambda x: endless.bind(x)))(1.0)


# ---------------------------------------------------------------- custom_jvp: rules as linear maps


A = jnp.array([[0.0, 1.0, 0.3], [2.0, 3.0, -1.0], [0.5, 0.0, 1.0]], jnp.float32)


@jax.custom_jvp
def times_a(x):
    return A @ x


times_a.defjvp(lambda primals, tangents: (times_a(*primals), times_a(*tangents)))


def test_a_rule_may_call_its_own_function_on_tangents():
    loss = lambda x: jnp.sum(times_a(x) ** 2)
    gradient, hessian = 2 * A.T @ A @ X, 2 * A.T @ A
    programs = {
        "eager": dp.grad(loss),
        "compiled": jax.jit(dp.grad(loss)),
        "of a compiled function": dp.grad(jax.jit(loss)),
        "in a loop": dp.grad(lambda x: lax.scan(lambda s, _: (s, loss(s)), x, None, length=1)[1][0]),
        "vmap": lambda x: jax.vmap(dp.grad(loss))(x[None])[0],
        "of vmap": lambda x: dp.grad(lambda xs: jnp.sum(jax.vmap(loss)(xs)))(x[None])[0],
    }
    for name, program in programs.items():
        np.testing.assert_allclose(program(X), gradient, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(dp.hessian(loss)(X), hessian, rtol=1e-5)
    np.testing.assert_allclose(dp.jacrev(dp.grad(loss))(X), hessian, rtol=1e-5)


INDIRECTLY = {
    "compiled": lambda f, t: jax.jit(f)(t),
    "in a loop": lambda f, t: lax.map(f, t[None])[0],
    "in a compiled loop": lambda f, t: jax.jit(lambda t: lax.scan(lambda s, _: (f(s), None), t, None, length=1)[0])(t),
    "in a while loop": lambda f, t: lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, f(s[1])), (0, t))[1],
    "in a branch": lambda f, t: lax.cond(A[1, 1] > 0, f, lambda t: t, t),
    "in a checkpoint": lambda f, t: jax.checkpoint(f)(t),
    "in vmap": lambda f, t: jax.vmap(f)(t[None])[0],
}


@pytest.mark.parametrize("how", INDIRECTLY)
def test_a_rule_may_call_its_own_function_within_others(how):
    function = jax.custom_jvp(lambda x: A @ x)
    function.defjvp(lambda primals, tangents: (function(*primals), INDIRECTLY[how](function, *tangents)))
    loss = lambda x: jnp.sum(function(x) ** 2)
    for gradient in (dp.grad(loss), jax.jit(dp.grad(loss))):
        np.testing.assert_allclose(gradient(X), 2 * A.T @ A @ X, rtol=1e-5)


def test_a_rule_that_calls_its_function_at_the_point_keeps_the_derivative_of_that():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * cube(*primals) / primals[0] * tangents[0]))
    for second in (dp.grad(dp.grad(cube)), jax.jacfwd(dp.grad(jax.jit(cube)))):
        np.testing.assert_allclose(second(jnp.float32(2.0)), 12.0, rtol=1e-6)


SLIPS = {
    "integer_pow": lambda t: t**2,
    "abs": lambda t: t + jnp.abs(t),
    "sin": jnp.sin,
    "mul": lambda t: t * t,
    "div": lambda t: 1 / t,
    "floor": lambda t: t + jnp.floor(t),
    "gt": lambda t: jnp.where(t > 0, t, 2 * t),
    "exp": jax.jit(lambda t: jnp.sum(jnp.exp(jnp.stack([t] * 9)) * jnp.arange(9.0)) + jnp.sum(jnp.ones(8))),
    "tanh": lambda t: lax.scan(lambda s, _: (jnp.tanh(s), None), t, None, length=2)[0],
    "cos": lambda t: lax.cond(True, jnp.cos, lambda t: t, t),
    "lt": lambda t: lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] + 1, s[1] * 2 + 1), (0, t))[1],
    "dot_general": lambda t: jnp.stack([t, t]) @ jnp.stack([t, 2 * t]),
}


@pytest.mark.parametrize("operation", SLIPS)
def test_a_rule_that_is_not_linear_is_refused_by_name(operation):
    function = jax.custom_jvp(lambda x: x * 1.0)
    function.defjvp(lambda primals, tangents: (primals[0], SLIPS[operation](tangents[0])))
    message = rf"custom_jvp function '<lambda>' applies '{operation}', which is not linear"
    for program in (dp.grad(function), jax.jit(dp.grad(function)), dp.grad(jax.jit(function))):
        with pytest.raises(NotImplementedError, match=message):
            program(1.0)


LINEAR = {
    "a loop of fixed length": (lambda x, t: lax.fori_loop(0, 3, lambda i, s: s * x, t), lambda x: x**3),
    "a loop that the point ends": (
        lambda x, t: lax.while_loop(lambda s: s[0] < 10 * x, lambda s: (s[0] + x, 2 * s[1]), (0.0, t))[1],
        lambda x: 2.0**10,
    ),
    "a branch that the point takes": (lambda x, t: lax.cond(x > 0, lambda t: 2 * t, jnp.negative, t), lambda x: 2.0),
    "a solve": (lambda x, t: jnp.linalg.solve(jnp.eye(2, dtype=x.dtype) * x, jnp.stack([t, t]))[0], lambda x: 1 / x),
    "a compiled function": (
        lambda x, t: jax.jit(lambda t: (t * x / 2 + jnp.roll(t, 1)) - 3 * t)(t[None])[0],
        lambda x: x / 2 - 2,
    ),
    "a checkpoint": (lambda x, t: jax.checkpoint(lambda t: t * jnp.sin(x))(t), jnp.sin),
    "a transform": (lambda x, t: jnp.real(jnp.fft.fft(jnp.stack([t, x * t])))[1], lambda x: 1 - x),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_rule_may_apply_linear_programs_to_tangents(name):
    tangent, slope = LINEAR[name]
    function = jax.custom_jvp(lambda x: x * 1.0)
    function.defjvp(lambda primals, tangents: (primals[0], tangent(primals[0], tangents[0])))
    x = jnp.float32(1.3)
    for gradient in (dp.grad(function), jax.jit(dp.grad(function)), dp.grad(jax.jit(function))):
        np.testing.assert_allclose(gradient(x), slope(x), rtol=1e-5)
