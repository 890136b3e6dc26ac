"""`shard_map` and `pmap`: gradients through them, of them and in them, against JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.sharding import PartitionSpec as P

import diffprog as dp
from tests.devices.eight import assert_close, derivatives, mesh, values, wobble
from tests.tracer.test_composition import clipped, softplus

MESH = mesh(i=2, j=2)
X, W = values(4, 4), values(4, seed=1)


BLOCKS = (P("i", "j"), P("j"))
COPIED = (P("i", "j"), P())  # `w[:2]`, the same on every device: its cotangents are summed


def over(fun, in_specs, out_specs=BLOCKS[0], **how):
    return jax.shard_map(fun, mesh=MESH, in_specs=in_specs, out_specs=out_specs, **how)


def collective(x, w):
    gathered = lax.all_gather(x, "i", tiled=True) * w
    return lax.psum_scatter(gathered, "i", tiled=True) * lax.pmean(jnp.sum(gathered), "j") * lax.axis_index("i")


def closed_over(x, w, **how):
    """The function inside uses a value of the program around it, one element of it, and a constant."""
    y, constant = jnp.sin(x), np.arange(4.0).reshape(2, 2)
    return over(lambda x: jnp.sin(x * w[:2]) * w[3] * y[0, 0] + constant @ x, P("i", "j"), **how)(x)


def partly_manual(x, w, **how):
    """One axis is mapped, the other left to the compiler."""
    fun = over(lambda x, w: jnp.sin(x) * w * jnp.sum(w), (P("i"), P()), P("i"), axis_names={"i"}, **how)
    return fun(jax.lax.with_sharding_constraint(x, jax.NamedSharding(MESH, P("i", "j"))), w)


def in_scan(x, w, **how):
    step = over(lambda c, a: jnp.sin(c) * a * lax.pmean(c, "i"), (P("i", "j"), P()), **how)
    return lax.scan(lambda c, a: (step(c, a), None), x, w)[0]


def scan_inside(x, w):
    def step(c, a):
        return jnp.sin(c) * a[0] * jnp.sum(w) + lax.pmean(c, "i"), c * w[0]

    return lax.scan(step, x[0], x)[1]


def cond_inside(x, w):
    first = lax.axis_index("i") == 0
    # Without this the cotangent of `w` would be summed over devices in a branch that only some of them take: JAX hangs.
    w = lax.pcast(w, "i", to="varying")
    return lax.cond(first, lambda x, w: jnp.sin(jnp.exp(x)) * w, lambda x, w: jnp.tanh(x), x, w)


def randomly_masked(x, w):
    key = jax.random.fold_in(jax.random.key(0), lax.axis_index("i"))
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x * x, x * w)


def several(x, w):
    """Results of which one has no gradient, one is an integer and one is the same everywhere."""
    return x * w, jnp.ones(2), jnp.arange(2), lax.psum(jnp.sum(x) * w, ("i", "j"))


def first_and_last(fun):
    def chosen(*args):
        results = fun(*args)
        return results[0], results[-1]

    return chosen


SPECS = (P("i", "j"), P(), P(), P())

FUNCTIONS = {
    "elementwise": lambda **how: over(lambda x, w: jnp.sin(x) * w * jnp.sum(w), BLOCKS, **how),
    "scalar residuals": lambda **how: over(lambda x, w: x * jnp.exp(jnp.sum(x * w)), BLOCKS, **how),
    "a copied argument": lambda **how: lambda x, w: over(lambda x, w: jnp.sin(x) * w, COPIED, **how)(x, w[:2]),
    "a copied result": lambda **how: (
        lambda x, w: over(lambda x, w: lax.psum(jnp.sum(jnp.sin(x) * w), ("i", "j")) ** 2, COPIED, P(), **how)(x, w[:2])
    ),
    "collectives": lambda **how: over(collective, BLOCKS, **how),
    "closed over": lambda **how: lambda x, w: closed_over(x, w, **how),
    "partly manual": lambda **how: lambda x, w: partly_manual(x, w, **how),
    "several results": lambda **how: lambda x, w: first_and_last(over(several, COPIED, SPECS, **how))(x, w[:2]),
    "jit inside": lambda **how: over(jax.jit(collective), BLOCKS, **how),
    "in scan": lambda **how: lambda x, w: in_scan(x, w, **how),
    "scan inside": lambda **how: lambda x, w: over(scan_inside, COPIED, **how)(x, w[:2]),
    "cond inside": lambda **how: over(cond_inside, BLOCKS, **how),
    "in checkpoint": lambda **how: jax.checkpoint(over(collective, BLOCKS, **how)),
    "checkpoint inside": lambda **how: over(jax.checkpoint(collective), BLOCKS, **how),
    "custom rules inside": lambda **how: (
        lambda x, w: over(lambda x, w: softplus(x) * clipped(x, x[0, 0], 1) * jax.nn.relu(x - w), COPIED, **how)(
            x, w[:2]
        )
    ),
    "random numbers": lambda **how: over(randomly_masked, BLOCKS, **how),
    "vmap around": lambda **how: lambda x, w: jax.vmap(over(collective, BLOCKS, **how), (None, 0))(x, jnp.diag(w)),
    "vmap along an axis": lambda **how: (
        lambda x, w: jax.vmap(
            over(lambda x, w: jnp.sin(x) * w * lax.psum(jnp.sum(x), "j"), (P("j"), P()), P("j"), **how),
            (0, None),
            spmd_axis_name="i",
        )(x.reshape(2, 2, 4), w)
    ),
    "vmap inside": lambda **how: over(jax.vmap(lambda x, w: jnp.sin(x) * w * jnp.sum(x), (0, None)), BLOCKS, **how),
}


TWICE = {"collectives", "closed over", "partly manual"}
WITHOUT_TYPES = {
    "a copied argument",
    "a copied result",
    "collectives",
    "closed over",
    "partly manual",
    "several results",
    "in scan",
    "vmap around",
    "vmap along an axis",
}


def everything(grad, names, order, **how):
    def all_of_them(*args):
        losses = {name: lambda *args, make=FUNCTIONS[name]: wobble(make(**how)(*args)) for name in names}
        return {name: derivatives(grad, loss, args, order) for name, loss in losses.items()}

    return jax.jit(all_of_them)(X, W)


def test_with_types():
    assert_close(everything(dp.grad, FUNCTIONS, 1), everything(jax.grad, FUNCTIONS, 1))
    assert_close(everything(dp.grad, TWICE, 2), everything(jax.grad, TWICE, 2))


def test_without_types():
    ours, theirs = (everything(grad, WITHOUT_TYPES, 1, check_vma=False) for grad in (dp.grad, jax.grad))
    assert_close(ours, theirs)


def test_gradients_inside():
    """Also with respect to what is the same on every device: with types its cotangents are summed, without not."""

    def gradients(grad, **how):
        loss = lambda x, w: jnp.sum(jnp.sin(x) * w) ** 2
        inside = lambda x, w: (grad(loss)(x, w), grad(loss, 1)(x, w) + 0 * x)
        return lambda x, w: over(inside, COPIED, (P("i", "j"),) * 2, **how)(x, w[:2])

    def both(grad):
        programs = [gradients(grad), gradients(grad, check_vma=False)]
        losses = [lambda *args, f=f: wobble(f(*args)) for f in programs]
        return jax.jit(lambda *args: [derivatives(grad, loss, args, 1) for loss in losses])

    assert_close(both(dp.grad)(X, W), both(jax.grad)(X, W))


def nested(x, w, check_vma):
    def outer(x, w):
        inner = lambda x, w: jnp.sin(x) * w * lax.psum(jnp.sum(x * w), "j")
        mapped = jax.shard_map(
            inner, in_specs=(P(None, "j"), P("j")), out_specs=P(None, "j"), axis_names={"j"}, check_vma=check_vma
        )
        return mapped(jnp.cos(x), w) * lax.psum(jnp.sum(x), "i")

    return over(outer, (P("i"), P()), P("i"), axis_names={"i"}, check_vma=check_vma)(x, w)


def test_nested():
    """With types, where JAX's own gradient does not compile, it equals that without them."""
    loss = lambda check_vma: lambda *args: wobble(nested(*args, check_vma))
    compiled = lambda grad, check_vma: jax.jit(lambda *args: derivatives(grad, loss(check_vma), args))(X, W)
    expected = compiled(jax.grad, False)
    assert_close(compiled(dp.grad, False), expected)
    assert_close(compiled(dp.grad, True), expected)


def test_eagerly():
    """As Python runs it: a branch on a value that all devices share, and the gradient of a gradient."""

    def fun(x, w):
        def inside(x, w):
            total = lax.psum(jnp.sum(x), ("i", "j"))
            return jnp.sin(x) * w if total > 0 else x

        return jnp.sum(over(inside, COPIED)(x, w[:2]) ** 2)

    assert_close(dp.grad(fun, (0, 1))(X, W), jax.grad(fun, (0, 1))(X, W))
    twice = lambda grad, sin: grad(lambda x: jnp.sum(grad(lambda x: jnp.sum(sin(x) * x))(x) ** 2))(W)
    assert_close(twice(dp.grad, over(jnp.sin, P("i"), P("i"))), twice(jax.grad, jnp.sin))


@pytest.mark.parametrize("check_vma", [True, False])
def test_results_that_nobody_used(check_vma):
    """A norm beside the loss has an infinite slope at zero: not used, it is no part of the gradient."""

    def loss_and_more(x, w):
        norm = jnp.sqrt(lax.psum(jnp.sum(w**2), ("i", "j")))
        return lax.psum(jnp.sum(x * w), ("i", "j")), norm, x * w

    mapped = over(loss_and_more, COPIED, (P(), P(), BLOCKS[0]), check_vma=check_vma)
    one = lambda *args: mapped(*args)[0]
    two = lambda *args: mapped(*args)[0] + wobble(mapped(*args)[2])
    compiled = lambda grad: jax.jit(lambda *args: [grad(loss, (0, 1))(*args) for loss in (one, two)])
    args = X, jnp.zeros(2)
    assert_close(compiled(dp.grad)(*args), compiled(jax.grad)(*args))


@pytest.mark.parametrize("check_vma", [True, False])
def test_what_is_kept(check_vma):
    """Arguments and results are not returned a second time; what differs per device is stacked over all of them."""

    def fun(x, w):
        y = jnp.exp(x * w)  # of the product both arguments are kept, of `exp` its result
        return y, jnp.exp(jnp.sum(y))[None]  # a scalar, different on every device

    everywhere = P(("i", "j"))
    mapped = over(fun, BLOCKS[:1] * 2, (BLOCKS[0], everywhere), check_vma=check_vma)
    value_and_pullback = lambda *args: dp.vjp(mapped, *args)
    args = X / 9, values(4, 4, seed=2) / 9
    jaxpr = jax.make_jaxpr(lambda *args: jax.tree.leaves(value_and_pullback(*args)[1]))(*args)
    (forward,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "shard_map"]
    assert [var.aval.shape for var in forward.outvars] == [(4, 4), (4,), (4,)]
    assert forward.params["out_specs"][-1] == everywhere
    value, pullback = jax.jit(value_and_pullback)(*args)
    assert_close(pullback(value), jax.jit(lambda *args: jax.vjp(mapped, *args)[1](value))(*args))


def test_an_error_inside_reaches_the_user():
    opaque = Primitive("opaque")
    opaque.def_abstract_eval(lambda x: x)
    with pytest.raises(NotImplementedError, match="'opaque'"):
        dp.grad(lambda x: over(opaque.bind, P("i"), P("i"))(x).sum())(jnp.arange(8.0))


PMAPS = {
    "per row": (lambda x: jnp.sin(x) * jnp.sum(x), {}),
    "over devices": (lambda x: lax.psum(jnp.sin(x), "i") * x, {"axis_name": "i"}),
    "another axis": (lambda x, w: lax.pmean(x * w, "i") * x, {"axis_name": "i", "in_axes": (1, None), "out_axes": 1}),
}


@pytest.mark.parametrize("name", PMAPS)
def test_pmap(name):
    fun, how = PMAPS[name]
    args = (values(3, 4), values(3)) if "in_axes" in how else (values(4, 3),)
    order = 2 if name == "over devices" else 1
    through = lambda grad: derivatives(grad, lambda *args: wobble(jax.pmap(fun, **how)(*args)), args, order)
    assert_close(through(dp.grad), through(jax.grad))
    inside = lambda grad: jax.pmap(grad(lambda *args: wobble(fun(*args))), **how)(*args)
    assert_close(inside(dp.grad), inside(jax.grad))


@pytest.mark.parametrize("how", [lambda f: f, jax.jit, jax.checkpoint])
def test_debug_nans_finds_the_operation_on_the_devices(how):
    """The slope of the square root is infinite where `x` is 0, and zero times that is no number."""
    fun = over(how(lambda x: jnp.sqrt(x**2)), (P("i"),), P("i"))
    _, pullback = dp.vjp(fun, jnp.zeros(4))
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"\(nan\) encountered"):
        pullback(jnp.ones(4))


@pytest.mark.parametrize("check_vma", [False, True])
def test_gradient_inside_of_what_is_closed_over_and_unused(check_vma):
    """It is zero, and has its place on the devices inside."""

    def gradients(d):
        @jax.jit
        def run(w, x):
            inside = lambda x: d.value_and_grad(lambda w, x: jnp.sum(x) + jnp.sum(w["used"]), argnums=0)(w, x)[1]
            out_specs = {"used": P(), "unused": P()}
            return jax.shard_map(inside, mesh=MESH, in_specs=P("i"), out_specs=out_specs, check_vma=check_vma)(x)

        where = jax.sharding.NamedSharding(MESH, P())
        return run({"used": jax.device_put(W, where), "unused": jax.device_put(W, where)}, X)

    assert_close(gradients(dp), gradients(jax))
