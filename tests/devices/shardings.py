"""Arrays spread over devices: gradients lie where JAX's do, and have the types that JAX's have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import multihost_utils
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import diffprog as dp
from tests.devices.eight import assert_close, derivatives, mesh, values, wobble
from tests.rules.rows.core import CORE
from tests.rules.test_rules import make_args

SINCE_0_11 = jax.__version_info__ >= (0, 11)
MESH = mesh(i=4, j=2)


def attempt(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return error


def types_of_gradients(vjp, fun, args, cotangents, order):
    """Types of the gradient and, of order 2, of its own."""

    def gradients(args, cotangents):
        first = lambda *args: vjp(fun, *args)[1](cotangents)
        return [first(*args), vjp(first, *args)[1](args) if order == 2 else ()]

    return jax.eval_shape(gradients, args, cotangents)


# ---------------------------------------------------------------- the table of rules, typed

# Windows along a sharded dimension: ours pads, which JAX refuses there; its own operation for it is let pass.
PADDED = {"gradient of max pooling by JAX", "tangent of max pooling by JAX", "window max, overlapping"}


def test_every_row_where_types_say_where_arrays_lie():
    """With explicit axes the result of each operation has a sharding; the gradient has that of its value, as JAX's."""
    explicit = mesh(AxisType.Explicit, x=2)

    def place(x, turn):
        even = [d for d, size in enumerate(x.shape) if size % 2 == 0]
        chosen = even[turn % len(even)] if even else None
        spec = P(*("x" if d == chosen else None for d in range(x.ndim)))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(explicit.abstract_mesh, spec))

    checked = 0
    with jax.set_mesh(explicit):
        for row in CORE:
            for turn in (0, 1):
                args = tuple(place(x, turn) for x in make_args(row, np.float64))
                result = attempt(jax.eval_shape, row.fun, *args)
                order = row.order if turn == 0 else 1
                expected = attempt(types_of_gradients, jax.vjp, row.fun, args, result, order)
                if isinstance(expected, Exception) or row.name in PADDED:
                    continue  # JAX does not run or not differentiate it so
                ours = types_of_gradients(dp.vjp, row.fun, args, result, order)
                for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
                    assert (a.sharding, a.shape, a.dtype) == (b.sharding, b.shape, b.dtype), row.name
                checked += 1
    assert checked > 300


def test_every_row_where_types_say_what_varies():
    """Inside `shard_map` a gradient varies over the axes that its value varies over, as JAX's does."""
    along, checked = mesh(x=2), 0

    def types(vjp, row, args, varying):
        found = []

        def inside(*args):
            args = tuple(lax.pcast(x, "x", to="varying") if v else x for x, v in zip(args, varying, strict=True))
            found.extend(map(jax.typeof, jax.tree.leaves(vjp(row.fun, *args)[1](row.fun(*args)))))
            return 0.0

        jax.eval_shape(jax.shard_map(inside, mesh=along, in_specs=P(), out_specs=P()), *args)
        return found

    for row in CORE:
        args = make_args(row, np.float64)
        for turn in range(3 if len(args) > 1 else 1):
            varying = [turn == 2 or i % 2 == turn for i in range(len(args))]
            expected = attempt(types, jax.vjp, row, args, varying)
            if not isinstance(expected, Exception):
                assert types(dp.vjp, row, args, varying) == expected, row.name
                checked += 1
    assert checked > 300


# ---------------------------------------------------------------- shardings that the compiler chooses


def on(*spec):
    return NamedSharding(MESH, P(*spec))


def spread(seed, shape, *spec):
    return jax.device_put(values(*shape, seed=seed), on(*spec))


X, W, B = spread(0, (8, 4), "i", "j"), spread(1, (4, 8), "j"), spread(2, (8,))
constrain = lax.with_sharding_constraint


def layer(x, w, b):
    return jnp.tanh(x @ w + b)


AUTO = {
    "eagerly": lambda *args: wobble(layer(*args)),
    "jit": jax.jit(lambda *args: wobble(layer(*args))),
    "constraints": jax.jit(lambda x, w, b: wobble(constrain(layer(constrain(x, on("j", "i")), w, b), on(None, "j")))),
    "a constraint, eagerly": lambda x, w, b: wobble(constrain(layer(x, w, b), on("i"))),
    "shardings of jit": lambda *args: wobble(
        jax.jit(layer, in_shardings=(on("i", "j"), on("j"), on()), out_shardings=on("j"))(*args)
    ),
    "one sharding of jit": lambda *args: wobble(jax.jit(layer, out_shardings=on("i"))(*args)),
    "device_put": lambda x, w, b: wobble(layer(jax.device_put(x, on("j", "i")), w, b)),
    "to one device and back": lambda x, w, b: wobble(
        layer(jax.device_put(jax.device_put(x, jax.devices()[0]), on("i", "j")), w, b)
    ),
    "layout": jax.jit(lambda x, w, b: wobble(with_layout_constraint(layer(x, w, b), Layout((1, 0))))),
}


@pytest.mark.parametrize("name", AUTO)
def test_gradients_lie_where_those_of_jax_lie(name):
    loss, args = AUTO[name], (X, W, B)
    ours, theirs = (grad(loss, (0, 1, 2))(*args) for grad in (dp.grad, jax.grad))
    assert_close(ours, theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)


def test_constraints_at_second_order():
    compiled = lambda grad: jax.jit(lambda *args: derivatives(grad, AUTO["constraints"], args))(X, W, B)
    assert_close(compiled(dp.grad), compiled(jax.grad))


def test_arrays_of_hosts():
    """On one host the two are the identity; each is transposed by the other."""

    def fun(x):
        whole = multihost_utils.host_local_array_to_global_array(jnp.sin(x), MESH, P("i"))
        return wobble(multihost_utils.global_array_to_host_local_array(whole**2, MESH, P("i")))

    x = values(8, 4)
    assert_close(dp.grad(fun)(x), jax.grad(fun)(x))
    backward = str(jax.make_jaxpr(dp.grad(fun))(x)).split("cos", 1)[1]
    first, second = (
        backward.index(f"{name}[") for name in ("host_local_array_to_global_array", "global_array_to_host_local_array")
    )
    assert first < second


@pytest.mark.skipif(not SINCE_0_11, reason="JAX 0.10 has neither")
def test_explicit_layouts_and_memory_spaces():
    """These have no public name yet. Of the memory space JAX's own gradient has the wrong type, and raises."""
    from jax._src import core, pjit
    from jax._src.state.primitives import with_memory_space_constraint

    columns_first = pjit.explicit_layout(lambda x: x * x, in_layouts=Layout((1, 0)))
    fun = lambda x: wobble(columns_first(jnp.sin(x)))
    x = values(4, 2)
    compiled = lambda grad: jax.jit(lambda x: derivatives(grad, fun, (x,)))(x)
    assert_close(compiled(dp.grad), compiled(jax.grad))

    def to_host_and_back(x):
        x = with_memory_space_constraint(jnp.sin(x), core.MemorySpace.Host)
        return wobble(with_memory_space_constraint(x, core.MemorySpace.Device))

    assert_close(jax.jit(dp.grad(to_host_and_back))(x), jax.grad(lambda x: wobble(jnp.sin(x)))(x))


@pytest.mark.skipif(SINCE_0_11, reason="JAX 0.11 removed shard_alike")
def test_shard_alike():
    from jax._src.shard_alike import shard_alike

    fun = jax.jit(lambda x: wobble([jnp.sin(y) for y in shard_alike(x, x * x)]))
    assert_close(dp.grad(fun)(X), jax.grad(fun)(X))
    one_used = jax.jit(lambda x: wobble(shard_alike(jnp.sin(x), x)[0]))
    assert_close(dp.grad(one_used)(X), jax.grad(one_used)(X))


# ---------------------------------------------------------------- axes that types know


def over(fun, in_specs, out_specs=None):
    out_specs = P("i") if out_specs is None else out_specs
    return lambda *args: jax.shard_map(fun, in_specs=in_specs, out_specs=out_specs)(*args)


def as_varying(x, axis="i"):
    return lax.pcast(x, axis, to="varying")


def convolved(x, kernel, **how):
    return lax.conv_general_dilated(x, kernel, (1,) * (x.ndim - 2), "SAME", **how)


EXPLICIT = {
    "product": lambda x, w: jnp.einsum("ij,j->i", x, w, out_sharding=P("i")),
    "reshard": lambda x, w: jax.reshard(jnp.sin(x), P(None, "i")) * w,
    "reshard twice": lambda x, w: jnp.sin(jax.reshard(jax.reshard(x, P()), P("i"))) * w,
    "reshape": lambda x, w: jnp.sin(x.reshape(2, 4, 4, out_sharding=P(None, "i"))) * w,
    "repeat": lambda x, w: jnp.repeat(x, 2, axis=0, out_sharding=P("i")) * w,
    "some axes left to the compiler": lambda x, w: jax.sharding.auto_axes(
        lambda x, w: jnp.sin(x) * x + jnp.cos(x) * x[:1] * w, out_sharding=P("i")
    )(x, w),
    "overlapping slices": lambda x, w: sum(jnp.sin(x[:, i : i + 2]) * w[i] for i in range(3)),
    "a constant": lambda x, w: (x @ np.ones((4, 4))) ** 2 * w,
    "unreduced sum": lambda x, w: (
        jnp.sin(jax.reshard(jnp.einsum("ij,ik->jk", x, x, out_sharding=P(unreduced={"i"})), P())) @ w
    ),
    "tile": lambda x, w: jnp.tile(jnp.sin(x), (1, 2)) * jnp.tile(w, 2),
    "broadcast of a reduced array": lambda x, w: (
        x * lax.broadcast_in_dim(jax.reshard(jnp.sin(w), P(reduced={"i"})), (8, 4), [1], out_sharding=P("i"))
    ),
    "stretch of a reduced array": lambda x, w: (
        x * lax.broadcast_in_dim(jax.reshard(jnp.sin(w[:1]), P(reduced={"i"})), (8, 4), [1], out_sharding=P("i"))
    ),
    "convolution": lambda x, w: convolved(jnp.sin(x)[:, None], w[:3].reshape(1, 1, 3)),
    "convolution by groups": lambda x, w: convolved(
        jnp.sin(x)[:, :, None] * np.ones(3), w.reshape(4, 1, 1) * np.ones(2), feature_group_count=4
    ),
    "depthwise convolution": lambda x, w: convolved(
        jnp.sin(x)[:, :, None, None] * np.ones((3, 3)), w.reshape(4, 1, 1, 1) * np.ones((2, 2)), feature_group_count=4
    ),
    "reduced": over(lambda x, w: jnp.sin(x) * as_varying(lax.pcast(w, "i", to="reduced")), (P("i"), P())),
    "reduced argument": lambda x, w: over(lambda x, w: jnp.sin(x) * as_varying(w), (P("i"), P(reduced={"i"})))(
        x, jax.reshard(w, P(reduced={"i"}))
    ),
    "gathered as reduced": over(
        lambda x, w: as_varying(lax.all_gather(jnp.sin(x), "i", tiled=True, to="reduced"))[:2] * x * w, (P("i"), P())
    ),
    "gathered as invariant": over(
        lambda x, w: lax.all_gather(jnp.sin(x), "i", tiled=True, to="invarying")[:3] * w, (P("i"), P()), P()
    ),
    "gathered along 1 as invariant": over(
        lambda x, w: lax.all_gather(jnp.sin(x), "i", axis=1, to="invarying")[:2] * x[:, None] * w, (P("i"), P())
    ),
    "unreduced": over(lambda x, w: lax.psum(lax.pcast(jnp.sin(x), "i", to="unreduced"), "i") * x * w, (P("i"), P())),
    "unreduced, scattered": over(
        lambda x, w: lax.psum_scatter(lax.pcast(jnp.sin(x.T), "i", to="unreduced"), "i", tiled=True) * w[:2],
        (P("i"), P()),
    ),
}


TWICE = {"product", "some axes left to the compiler", "reduced argument"}


def test_explicit_axes():
    explicit = mesh(AxisType.Explicit, i=4)

    def everything(grad):
        losses = {name: lambda *args, f=f: wobble(f(*args)) for name, f in EXPLICIT.items()}
        found = lambda *args: {name: derivatives(grad, f, args, 1 + (name in TWICE)) for name, f in losses.items()}
        return jax.jit(found)(*args)

    with jax.set_mesh(explicit):
        x = jax.device_put(values(8, 4), NamedSharding(explicit, P("i")))
        args = x, jax.device_put(values(4, seed=1), NamedSharding(explicit, P()))
        ours, theirs = everything(dp.grad), everything(jax.grad)
        assert_close(ours, theirs)
        assert jax.tree.map(jax.typeof, ours) == jax.tree.map(jax.typeof, theirs)
        for name in ("product", "repeat"):
            expected = theirs[name]["first order"]
            eagerly = dp.grad(lambda *args, name=name: wobble(EXPLICIT[name](*args)), (0, 1))(*args)
            assert_close(eagerly, expected)
            assert [x.sharding for x in eagerly] == [x.sharding for x in expected]


# ---------------------------------------------------------------- values of which each device holds all, or a term


def test_the_cotangent_of_a_reduced_value_is_a_sum_of_terms():
    """A gathered array that is `reduced` has an `unreduced` cotangent: one on one device, not one on each."""
    explicit = mesh(AxisType.Explicit, x=2)
    gathered = lambda x: lax.all_gather(x, "x", tiled=True, to="reduced")
    with jax.set_mesh(explicit):
        x = jax.device_put(np.arange(8.0), P("x"))
        gather = jax.shard_map(gathered, out_specs=P(reduced={"x"}))
        for wrap in (lambda f: f, jax.jit):
            assert_close(wrap(dp.grad(lambda x: gather(x).sum()))(x), np.ones(8))
        inside = jax.shard_map(dp.grad(lambda x: gathered(x).sum()), out_specs=P("x"))
        assert_close(inside(x), np.ones(8))
        _, pull = dp.vjp(lambda x: gather(x).sum(), x)
        with pytest.raises(ValueError, match=r"has type float64\[\], but .* takes float64\[\]\{U:x\}"):
            pull(np.ones(()))


def test_gradients_lie_where_their_values_do():
    """A replicated operand of a sharded sum has a replicated cotangent; so have operands of slices and gathers."""
    explicit = mesh(AxisType.Explicit, x=2)
    with jax.set_mesh(explicit):
        replicated, sharded = (jax.device_put(np.arange(4.0), spec) for spec in (P(None), P("x")))
        losses = (
            lambda x, y: jnp.sum((x + y) * y),
            lambda x, y: jnp.sum(lax.dynamic_update_slice(x, x[1:3] * 2, (1,)) * y),
            lambda x, y: jnp.sum(x[np.array([3, 1, 1, 0])] * y),
        )
        for loss in losses:
            ours, theirs = (jax.jit(grad(loss, (0, 1)))(replicated, sharded) for grad in (dp.grad, jax.grad))
            assert_close(ours, theirs)
            assert [g.sharding for g in ours] == [replicated.sharding, sharded.sharding]


def test_a_loop_over_automatic_axes():
    """p^3 x: within `auto_axes` the mesh has axes of another kind than around the loop that calls it."""
    with jax.set_mesh(mesh(AxisType.Explicit, x=2)):

        def cube(p, x):
            step = jax.sharding.auto_axes(lambda x: p * x, out_sharding=P())
            return lax.scan(lambda c, _: (step(c), ()), x, None, length=3)[0]

        assert_close(jax.jit(dp.grad(cube, (0, 1)))(3.0, 2.0), tuple(map(jnp.asarray, (54.0, 27.0))))


def test_values_from_outside_of_the_mesh():
    """An array that was made before the mesh was set has no place in its type; its gradient is whole everywhere."""
    explicit = mesh(AxisType.Explicit, i=4)
    x, w = jax.device_put(values(8, 4), NamedSharding(explicit, P("i"))), values(4, 4, seed=1)
    losses = {
        "product": lambda w, x: wobble(x @ w),
        "product by batches": lambda w, x: wobble(jnp.einsum("ij,kj->ik", jnp.sin(x), w)),
        "convolution": lambda w, x: wobble(convolved(x[:, None], w[:3, :1].reshape(1, 1, 3))),
        "sum": lambda w, x: wobble(x + w[0]),
    }
    with jax.set_mesh(explicit):
        for name, loss in losses.items():
            ours = jax.jit(dp.grad(loss))(w, x)
            theirs = jax.jit(jax.grad(loss))(jax.device_put(w, P()), x)
            assert_close(ours, theirs, name)
            assert jax.typeof(ours) == jax.typeof(theirs), name


def test_zeros_have_the_type_of_cotangents():
    """Inside `shard_map` the zero gradient of a `reduced` value is `unreduced`, and the other way round."""
    explicit = mesh(AxisType.Explicit, i=4)
    kinds = {
        "reduced": lambda x: lax.pcast(x, "i", to="reduced"),
        "unreduced": lambda x: lax.pcast(as_varying(x), "i", to="unreduced"),
        "varying": as_varying,
    }

    def inside(x):
        for to_kind in kinds.values():
            value = to_kind(x)
            assert jax.typeof(dp.grad(lambda x: 1.0)(value)) == jax.typeof(value).to_ct_aval()
        return x

    blocked = jax.custom_vjp(lambda x: x)
    blocked.defvjp(lambda x: (x, None), lambda _, g: (None,))
    reduced = lambda x: jnp.sum(jax.shard_map(blocked, out_specs=P(reduced={"i"}))(x))
    with jax.set_mesh(explicit):
        jax.shard_map(inside, in_specs=P(), out_specs=P())(values(4))
        x = jax.device_put(values(8), P(reduced={"i"}))
        ours, theirs = jax.jit(dp.grad(reduced))(x), jax.jit(jax.grad(reduced))(x)
        assert jax.typeof(ours) == jax.typeof(theirs)
        assert_close(jax.reshard(ours, P()), jnp.zeros(8))
