"""Cases: dtypes and weak types, in all of JAX's modes of promotion."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

NUMBERS = {
    "float": 2.0,
    "int": 3,
    "float16": np.float16(2.0),
    "bfloat16": jnp.bfloat16(2.0),
    "float32": np.float32(2.0),
    "float64": np.float64(2.0),
    "weak": lambda: jnp.asarray(2.0),
    "vector16": np.asarray([1.0, 2.0], np.float16),
    "vector32": np.asarray([1.0, 2.0], np.float32),
}
MIXTURES = {
    "product": lambda x, y: jnp.sum(x * y),
    "quotient": lambda x, y: jnp.sum(x / y),
    "power": lambda x, y: jnp.sum(x**y),
    "Python number in between": lambda x, y: jnp.sum(3 * x - y / 2),
    "arctan2": lambda x, y: jnp.sum(jnp.arctan2(x, y)),
    "where": lambda x, y: jnp.sum(jnp.where(x > 1, x, y)),
    "converted": lambda x, y: jnp.sum(jnp.float32(x) * jnp.asarray(y, jnp.bfloat16)).astype(jnp.float32),
}
CONFIGURATIONS = {
    "default": contextlib.nullcontext,
    "x64": lambda: jax.enable_x64(True),
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "rank": lambda: jax.numpy_rank_promotion("raise"),
}


def mixture(fun, x, y):
    def case(d):
        values = [v() if callable(v) and not hasattr(v, "dtype") else v for v in (NUMBERS[x], NUMBERS[y])]
        return d.vjp(fun, *values)[0], d.value_and_grad(fun, (0, 1), allow_int=True)(*values)

    return case


def configured(case, configuration):
    def inside(d):
        with CONFIGURATIONS[configuration]():
            return case(d)

    return inside


PAIRS = [(x, y) for i, x in enumerate(NUMBERS) for y in list(NUMBERS)[i:]]
DTYPES = {
    f"{name} of {x} and {y}, {configuration}": configured(mixture(fun, x, y), configuration)
    for j, (name, fun) in enumerate(MIXTURES.items())
    for k, configuration in enumerate(CONFIGURATIONS)
    for i, (x, y) in enumerate(PAIRS)
    if (i + j + 2 * k) % 9 == 0 or (name == "product" and (i + k) % 2 == 0)  # a fair sample
}
