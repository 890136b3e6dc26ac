"""Eight virtual devices on the CPU, and what the tests on them share. To be imported before JAX looks for devices."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

# On a busy machine the threads that play the devices may wait long for one another.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_collective_call_terminate_timeout_seconds=200"
# There are as many of these threads as devices: two programs at once may each hold some and wait for the rest.
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # the programs are small: most of the time is XLA's


def mesh(axis_type=AxisType.Auto, **sizes):
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(axis_type,) * len(sizes))


def values(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def wobble(tree):
    """A scalar that depends on every element in its own way."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(jnp.sin(x * jnp.cos(jnp.arange(1.0, 1 + x.size)).reshape(x.shape))) for x in leaves)


def derivatives(grad, fun, args, order=2):
    """The gradient of a scalar function and, of order 2, the derivative of that in both modes."""
    every = tuple(range(len(args)))
    gradient = grad(fun, every)
    found = {"first order": gradient(*args)}
    if order == 2:
        found["reverse over reverse"] = grad(lambda *args: wobble(gradient(*args)), every)(*args)
        found["forward over reverse"] = jax.jvp(gradient, args, args)[1]
    return found


def assert_close(ours, expected, what="", tolerance=1e-12):
    """Each leaf within the tolerance, relative to the largest element there."""
    pairs = zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        where = f"{what} {jax.tree_util.keystr(path)}"
        assert a.shape == b.shape and a.dtype == b.dtype, where
        a, b = np.asarray(a), np.asarray(b)
        error = np.max(np.abs(a - b), initial=0)
        assert error <= tolerance * max(np.max(np.abs(b), initial=0), 1), f"{where}: off by {error}"
