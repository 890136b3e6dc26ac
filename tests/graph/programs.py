"""Programs with places in them, for the tests of what acts on a place: `program(at)` is a function of (w, x) to a
scalar, and `at(value, name)` stands where the source is edited or tapped."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

W = np.linspace(0.3, 1.2, 16).reshape(4, 4)
X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)


def plain(at):
    def fun(w, x):
        h = at(jnp.tanh(x @ w), "h")
        return jnp.sum(at(jnp.sin(h) * h, "later") ** 2)

    return fun


def jitted(at):
    """A function under `jit` that is called twice, in another one."""

    @jax.jit
    def layer(w, x):
        return at(jnp.tanh(x @ w), "h")

    @jax.jit
    def both(w, x):
        return layer(w, layer(w, x))

    return lambda w, x: jnp.sum(both(w, x) ** 2)


def looped(at):
    def fun(w, x):
        def step(h, row):
            h = at(jnp.tanh(h @ w + row), "h")
            return h, at(jnp.sum(h**2), "y")

        h, ys = lax.scan(step, jnp.ones(4), x)
        return jnp.sum(h) + jnp.sum(jnp.sin(ys))

    return fun


def unrolled(at):
    """`looped`, without `scan`."""

    def fun(w, x):
        h, ys = jnp.ones(4), []
        for row in x:
            h = at(jnp.tanh(h @ w + row), "h")
            ys.append(at(jnp.sum(h**2), "y"))
        return jnp.sum(h) + jnp.sum(jnp.sin(jnp.stack(ys)))

    return fun


def branching(at):
    def fun(w, x):
        taken = lambda h: at(jnp.sin(h), "h") * 2
        return jnp.sum(lax.cond(jnp.sum(x) < 1, taken, lambda h: at(h**2, "other"), x @ w) ** 2)

    return fun


def checkpointed(at):
    return jax.checkpoint(plain(at))


def mapped(at):
    """`vmap` over the rows, inside."""

    def row(w, x):
        h = at(jnp.tanh(x @ w), "h")
        return jnp.sum(h) / (1 + jnp.sum(h**2))

    return lambda w, x: jnp.sum(jax.vmap(row, (None, 0))(w, x) ** 2)


def differentiated(at):
    """A gradient inside."""

    def fun(w, x):
        inner = jax.grad(lambda x: jnp.sum(jnp.sin(at(jnp.tanh(x @ w), "h")) ** 2))
        return jnp.sum(inner(x) ** 2)

    return fun


def counted(at):
    """A while loop, of a length that depends on the values."""

    def fun(w, x):
        step = lambda state: (state[0] + 1, at(jnp.sin(state[1] @ w) * 2 + state[1], "h"))
        more = lambda state: (state[0] < 9) & (jnp.sum(state[1] ** 2) < 500)
        return jnp.sum(lax.while_loop(more, step, (0, x))[1])

    return fun


PROGRAMS = {f.__name__: f for f in (plain, jitted, looped, branching, checkpointed, mapped, differentiated, counted)}

TRANSFORMS = {
    "none": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: jax.vmap(f, (None, 0)),
    "jit of vmap": lambda f: jax.jit(jax.vmap(f, (None, 0))),
    "jax.grad": jax.grad,
    "jit of jax.grad": lambda f: jax.jit(jax.grad(f)),
    "jax.grad of vmap": lambda f: jax.grad(lambda w, x: jnp.sum(jax.vmap(f, (None, 0))(w, x) ** 2)),
}


def our_transforms(dp):
    """Those with gradients of ours too."""
    ours = {
        "dp.grad": dp.grad,
        "jit of dp.grad": lambda f: jax.jit(dp.grad(f)),
        "dp.grad of jit": lambda f: dp.grad(jax.jit(f)),
        "vmap of dp.grad": lambda f: jax.vmap(dp.grad(f), (None, 0)),
        "dp.grad of dp.grad": lambda f: dp.grad(lambda w, x: jnp.sum(dp.grad(f)(w, x) ** 2)),
        "dp.grad of jax.grad": lambda f: dp.grad(lambda w, x: jnp.sum(jax.grad(f)(w, x) ** 2)),
    }
    return TRANSFORMS | ours


def arguments(transform):
    """For a transformed program: an `x` for each example, where it is mapped."""
    return (W, np.stack([X, 0.5 * X[::-1]])) if "vmap" in transform else (W, X)
