"""Cases: debugging switches, traced values in Python, and names of axes."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.transforms.parity.common import W, X, loss


def nans(fun, x, how=lambda f: f):
    def case(d):
        with jax.debug_nans(True):
            return how(d.value_and_grad(fun))(x)

    return case


def undebugged(name):
    def case(d):
        with jax.disable_jit():
            return d.value_and_grad(PROGRAMS[name])(X)

    return case


PROGRAMS = {
    "jit": lambda x: jnp.sum(jax.jit(jnp.sin)(x)),
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda x: jnp.sum(x**2), lambda x: jnp.sum(x), x),
    "scan": lambda x: jax.lax.scan(lambda c, x: (c * x, c + x), 1.0, x)[0],
    "fori_loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * jnp.sum(x), 1.0),
    "checkpoint": lambda x: jax.checkpoint(loss)(x),
    "relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "Python control flow": lambda x: x[0] ** 2 if x[0] > 0 else x[1],
    "vmap": lambda x: jnp.sum(jax.vmap(lambda x: jax.jit(jnp.exp)(x))(x)),
}

SWITCHES = {
    "debug_nans, fine": nans(loss, X),
    "debug_nans, forward": nans(lambda x: jnp.log(x), -1.0),
    "debug_nans, backward": nans(lambda x: jnp.sqrt(x) * 0.0, 0.0),
    "debug_nans, backward of arcsin": nans(lambda x: jnp.arcsin(x) * 0.0, 1.0),
    "debug_nans, jitted inside": nans(jax.jit(lambda x: jnp.sqrt(x) * 0.0), 0.0),
    "debug_nans, jitted outside": nans(lambda x: jnp.sqrt(x) * 0.0, 0.0, jax.jit),
    "debug_nans, jitted, fine": nans(jax.jit(loss), X, jax.jit),
    "debug_nans, in a loop": nans(lambda x: jax.lax.scan(lambda c, _: (jnp.sqrt(c) * 0.0, None), x, length=2)[0], 0.0),
    **{f"disable_jit, {name}": undebugged(name) for name in PROGRAMS},
    "concrete in Python control flow": lambda d: d.grad(PROGRAMS["Python control flow"])(X),
    "abstract in Python control flow": lambda d: jax.jit(d.grad(PROGRAMS["Python control flow"]))(X),
    "float() of a traced value": lambda d: d.grad(lambda x: x * float(x))(3.0),
    "int() of a traced value": lambda d: d.grad(lambda x: x * int(x))(3.0),
    "NumPy of a traced value": lambda d: d.grad(lambda x: x * np.sin(x))(3.0),
    "np.asarray of a traced value": lambda d: d.grad(lambda x: jnp.sum(np.asarray(x)))(X),
    "item of a traced value": lambda d: d.grad(lambda x: x * x.item())(jnp.float32(3.0)),
    "tolist of a traced value": lambda d: d.grad(lambda x: x[0] * x.tolist()[1])(X),
    "setting an element": lambda d: d.grad(lambda x: x.__setitem__(0, 1.0))(jnp.asarray(X)),
    "updated element": lambda d: d.grad(lambda x: jnp.sum(jnp.asarray(x).at[0].set(x[1]) ** 2))(X),
    "as an index": lambda d: d.grad(lambda x: [1.0, 2.0][x])(1.0),
    "as a dictionary key": lambda d: d.grad(lambda x: {x: 1.0}[x])(1.0),
    "iterated": lambda d: d.grad(lambda x: sum(v**2 for v in x))(X),
    "len, ndim, shape, dtype, size": lambda d: d.grad(lambda x: x[0] * len(x) * x.ndim * x.size * x.shape[0])(X),
    "axis name": lambda d: jax.vmap(d.grad(lambda x: jnp.sum(x * jax.lax.psum(x, "rows"))), axis_name="rows")(W),
    "axis name, inside": lambda d: d.grad(
        lambda w: jnp.sum(jax.vmap(lambda x: x**2 / jax.lax.pmean(x, "r"), axis_name="r")(w))
    )(W),
    "unbound axis name": lambda d: d.grad(lambda x: jax.lax.psum(x, "rows"))(1.0),
    "axis index": lambda d: jax.vmap(d.grad(lambda x: x**2 * jax.lax.axis_index("rows")), axis_name="rows")(X),
}
