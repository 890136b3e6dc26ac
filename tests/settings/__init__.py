"""JAX's settings under which everything works: name -> a context manager."""

from contextlib import AbstractContextManager, ExitStack, contextmanager

import jax


@contextmanager
def _configured(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextmanager
def _mesh():
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        yield


def _strict() -> AbstractContextManager:
    stack = ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("strict"))
    stack.enter_context(jax.numpy_rank_promotion("raise"))
    return stack


# What changes results only by rounding. Those that change programs most come first, and are in the quick tier.
SETTINGS = {
    "x64": lambda: jax.enable_x64(True),
    "strict types and ranks": _strict,
    "debug_nans": lambda: jax.debug_nans(True),
    "disable_jit": jax.disable_jit,
    "matmul precision": lambda: jax.default_matmul_precision("highest"),
    "rbg": lambda: _configured("jax_default_prng_impl", "rbg"),
    "check_tracer_leaks": jax.checking_leaks,
    "default device": lambda: jax.default_device(jax.devices()[-1]),
    "mesh": _mesh,
}
QUICK = ("x64", "strict types and ranks")
