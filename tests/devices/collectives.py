"""The rules of the collectives, under `shard_map` in both of its modes and under `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.interpreters import mlir
from jax._src.lax import parallel
from jax.sharding import PartitionSpec as P

import diffprog as dp
from tests.devices.eight import assert_close, derivatives, mesh, values, wobble

SINCE_0_11 = jax.__version_info__ >= (0, 11)
RING = [(0, 1), (1, 2), (2, 3), (3, 0)]
HALVES = [[0, 2], [3, 1]]
X = values(4, 4)  # one row per device

# Functions of a vector of four, the row of one device.
COLLECTIVES = {
    "psum": lambda x: lax.psum(jnp.sin(x), "i") * x,
    "pmean": lambda x: lax.pmean(x**2, "i") * x,
    "ppermute": lambda x: lax.ppermute(x**2, "i", RING) * x,
    "all_gather": lambda x: lax.all_gather(x**2, "i")[::2].sum(0) * x,
    "all_gather, tiled": lambda x: lax.all_gather(x**2, "i", tiled=True)[::3].sum(0) * x,
    "all_gather along 1": lambda x: lax.all_gather(x**2, "i", axis=1)[:, ::2].sum(1) * x,
    "all_to_all": lambda x: lax.all_to_all(x**2, "i", 0, 0) * x,
    "all_to_all, tiled": lambda x: lax.all_to_all(jnp.outer(x, x[:3]), "i", 0, 1, tiled=True) ** 2,
    "psum_scatter": lambda x: lax.psum_scatter(x**2, "i") * x,
    "psum_scatter, tiled": lambda x: lax.psum_scatter(x**2, "i", tiled=True) * x,
    "axis_index": lambda x: lax.axis_index("i") * x**2,
    "of a constant": lambda x: lax.psum(2.0, "i") * x**2,
}
MOVED = {  # `all_to_all` to another axis, of which JAX's own transposition gets the shape wrong
    "all_to_all from 0 to 1": lambda x: lax.all_to_all(jnp.outer(x, x[:3]), "i", 0, 1) ** 2,
    "all_to_all from 1 to 0": lambda x: lax.all_to_all(jnp.outer(x[:3], x), "i", 1, 0) ** 2,
}
EXTREMES = {
    "pmax": (lambda x: lax.pmax(x**2, "i") * x, lambda x: jnp.max(x**2, 0) * x),
    "pmin": (lambda x: lax.pmin(x**2, "i") * x, lambda x: jnp.min(x**2, 0) * x),
}
GROUPED = {  # only outside of `vmap`, and without types that say what varies
    "psum": lambda x: lax.psum(x**2, "i", axis_index_groups=HALVES) * x,
    "all_gather": lambda x: lax.all_gather(x**2, "i", axis_index_groups=HALVES).sum(0) * x,
    "all_to_all": lambda x: lax.all_to_all(x**2, "i", 0, 0, axis_index_groups=HALVES, tiled=True) * x,
    "psum_scatter": lambda x: lax.psum_scatter(x**2, "i", axis_index_groups=HALVES, tiled=True) * x[:2],
}


def on_devices(fun, check_vma=True):
    """`fun` of one row, on four devices, as a function of all rows."""
    whole = lambda x: jax.tree.map(lambda y: y[None], fun(x[0]))
    return jax.shard_map(whole, mesh=mesh(i=4), in_specs=P("i"), out_specs=P("i"), check_vma=check_vma)


def mapped(fun):
    return jax.vmap(fun, axis_name="i")


def everything(grad, functions, wrap, order=2):
    """The derivatives of every function, in one compiled program."""

    def all_of_them(x):
        losses = {name: lambda x, f=f: wobble(wrap(f)(x)) for name, f in functions.items()}
        return {name: derivatives(grad, loss, (x,), order) for name, loss in losses.items()}

    return jax.jit(all_of_them)(X)


def test_on_devices():
    assert_close(everything(dp.grad, COLLECTIVES, on_devices), everything(jax.grad, COLLECTIVES, on_devices))


def test_on_devices_without_types():
    wrap = lambda f: on_devices(f, False)
    functions = COLLECTIVES | {f"{name} in groups": f for name, f in GROUPED.items()}
    assert_close(everything(dp.grad, functions, wrap, 1), everything(jax.grad, functions, wrap, 1))


def test_under_vmap():
    assert_close(everything(dp.grad, COLLECTIVES, mapped, 1), everything(jax.grad, COLLECTIVES, mapped, 1))


def test_inside_vmap():
    def per_row(grad):
        def all_of_them(row):
            losses = {name: lambda row, f=f: wobble(f(row)) for name, f in COLLECTIVES.items()}
            return {name: derivatives(grad, loss, (row,)) for name, loss in losses.items()}

        return jax.jit(mapped(all_of_them))(X)

    assert_close(per_row(dp.grad), per_row(jax.grad))


def test_all_to_all_where_jax_gets_the_shape_wrong():
    with pytest.raises(ValueError, match="cotangent type"):
        everything(jax.grad, MOVED, on_devices, 1)
    # Under vmap the collective becomes a transposition, which JAX differentiates.
    expected = everything(jax.grad, MOVED, mapped)
    assert_close(everything(dp.grad, MOVED, mapped), expected)
    assert_close(everything(dp.grad, MOVED, on_devices), expected)
    for name, fun in MOVED.items():
        # Inside, each row has its gradient of the sum over all rows.
        inside = mapped(dp.grad(lambda row, f=fun: wobble(f(row))))
        total = lambda x, f=fun: jnp.sum(mapped(lambda row: wobble(f(row)))(x))
        assert_close(jax.jit(inside)(X), jax.jit(jax.grad(total))(X), name)


@pytest.mark.parametrize(
    "wrap", [on_devices, lambda f: on_devices(f, False), mapped], ids=["types", "no types", "vmap"]
)
def test_extreme_values_over_devices(wrap):
    ours = everything(dp.grad, {name: collective for name, (collective, _) in EXTREMES.items()}, wrap)
    assert_close(ours, everything(jax.grad, {name: whole for name, (_, whole) in EXTREMES.items()}, lambda f: f))


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_values_inside_vmap(name):
    """As of a sum, the gradient inside is that of the total over all rows."""
    collective, whole = EXTREMES[name]
    ours = jax.jit(mapped(dp.grad(lambda row: wobble(collective(row)))))(X)
    assert_close(ours, jax.jit(jax.grad(lambda x: jnp.sum(jax.vmap(wobble)(whole(x)))))(X))


def test_ties_share_equally():
    x = jnp.asarray([[1.0, 3.0], [1.0, 5.0], [0.0, 5.0], [1.0, 5.0]])
    weights = np.arange(8.0).reshape(4, 2)
    shares = np.asarray([[1, 0], [1, 1], [0, 1], [1, 1]]) / 3
    for wrap in (on_devices, lambda f: on_devices(f, False), mapped):
        largest = wrap(lambda x: lax.pmax(x, "i"))
        ours = jax.jit(dp.grad(lambda x, largest=largest: jnp.sum(largest(x) * weights)))(x)
        assert_close(ours, shares * weights.sum(0))


def test_extreme_values_in_groups():
    collective = {"pmax": lambda x: lax.pmax(x**2, "i", axis_index_groups=HALVES) * x}
    ours = everything(dp.grad, collective, lambda f: on_devices(f, False))

    def whole(x):
        largest = jnp.zeros_like(x)
        for pair in np.asarray(HALVES):
            largest = largest.at[pair].set(jnp.max(x[pair] ** 2, 0))
        return largest * x

    assert_close(ours, everything(jax.grad, {"pmax": whole}, lambda f: f))


# ---------------------------------------------------------------- operations that the CPU lacks


def _broadcast(x, *, axis_name, source):
    return lax.psum(jnp.where(lax.axis_index(axis_name) == source, x, 0), axis_name)


def _exchange(
    operand, output, input_offsets, send_sizes, output_offsets, receive_sizes, *, axis_name, axis_index_groups
):
    """What the GPU's and the TPU's operation computes, from all of what every device has."""
    here, row = lax.axis_index(axis_name), jnp.arange(output.shape[0])
    everyone = [lax.all_gather(x, axis_name) for x in (operand, input_offsets, send_sizes, output_offsets)]
    for rows, read, size, write in zip(*map(list, everyone), strict=True):
        at = row - write[here]
        sent = rows[jnp.clip(at + read[here], 0, rows.shape[0] - 1)]
        output = jnp.where(((0 <= at) & (at < size[here]))[:, None], sent, output)
    return output


@pytest.fixture
def emulated():
    mlir.register_lowering(parallel.pbroadcast_p, mlir.lower_fun(_broadcast, multiple_results=False), platform="cpu")
    mlir.register_lowering(
        parallel.ragged_all_to_all_p, mlir.lower_fun(_exchange, multiple_results=False), platform="cpu"
    )


def test_broadcast_from_a_device(emulated):
    """JAX's own rule takes scalars alone."""
    collective = {"pbroadcast": lambda x: lax.pbroadcast(x**2, "i", 2) * x}
    whole = {"pbroadcast": lambda x: (x**2)[2] * x}
    assert_close(everything(dp.grad, collective, on_devices), everything(jax.grad, whole, lambda f: f))


@pytest.mark.skipif(not SINCE_0_11, reason="JAX 0.10 has no broadcast from a device that is computed")
def test_broadcast_from_a_computed_device():
    collective = {"dynamic": lambda x: lax.pbroadcast(x**2, "i", jnp.int32(2)) * x}
    whole = {"dynamic": lambda x: (x**2)[2] * x}
    assert_close(everything(dp.grad, collective, mapped), everything(jax.grad, whole, lambda f: f))


def test_ragged_all_to_all(emulated):
    choose = lambda one, other: jnp.where(lax.axis_index("i") == 0, jnp.int32(one), jnp.int32(other))
    # The first device keeps row 0 and sends rows 1 and 2; the second sends rows 0 and 1 and keeps row 2.
    sizes = lambda: choose([1, 2], [2, 1])
    exchange = lambda x, out: lax.ragged_all_to_all(
        jnp.sin(x), out**2, choose([0, 1], [0, 2]), sizes(), choose([0, 0], [1, 2]), sizes(), axis_name="i"
    )
    whole = lambda x, out: jnp.concatenate(
        [jnp.sin(x[jnp.array([0, 3, 4])]), out[3:4] ** 2, jnp.sin(x[jnp.array([1, 2, 5])]), out[7:] ** 2]
    )
    spread = jax.shard_map(exchange, mesh=mesh(i=2), in_specs=P("i"), out_specs=P("i"), check_vma=False)
    args = values(6, 2), values(8, 2, seed=1)
    assert_close(jax.jit(spread)(*args), whole(*args))
    found = jax.jit(lambda *args: derivatives(dp.grad, lambda *args: wobble(spread(*args)), args))(*args)
    assert_close(found, derivatives(jax.grad, lambda *args: wobble(whole(*args)), args))
