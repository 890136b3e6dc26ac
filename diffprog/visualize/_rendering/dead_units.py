"""A gradient for pictures whose unit is dead at the start, in any network.

A rectifier that is off everywhere lets no gradient through: the picture of a unit behind it would stay gray. Lucid's
remedy (its `redirected_relu_grad`): where *nothing* of an image's gradient gets through a rectifier, its units that are
off and that the gradient would switch on get it all the same. Here the network need not be changed for that: rectifiers
are found where they are called.
"""

import jax
import jax.numpy as jnp

from diffprog._jax_internals.interception import Interceptor, intercepting

CUSTOM = ("relu", "relu6")  # jax.nn's, which have derivatives of their own


def reviving(collect):
    """`collect(parameters, images, names)`, with that gradient for rectifiers: `max`, `min`, `clamp`, `jax.nn.relu`.

    (One that is written by `jnp.where` is not known as a rectifier.) Each image is on its own: what happens to one does
    not depend on the others.
    """

    def one(parameters, image, names):
        with intercepting(Interceptor(_revive, by_path=False, by_line=False)):
            values = collect(parameters, image[None], names)
        return {name: value[0] for name, value in values.items()}

    return lambda parameters, images, names: jax.vmap(lambda image: one(parameters, image, names))(images)


def _revive(operation):
    """What an operation returned, with a detour for the gradient if it is a rectifier."""
    name, y, args = operation.primitive.name, operation.results, operation.args
    if name == "clamp":
        low, x, high = args
        return _detour(y, x, low, high)
    if name in ("max", "min"):
        for x, other in (args, args[::-1]):
            bounds = (other, jnp.inf) if name == "max" else (-jnp.inf, other)
            y = _detour(y, x, *bounds)
        return y
    if name.startswith("custom_jvp_call") and operation.function in CUSTOM:
        result = y[0] if isinstance(y, (list, tuple)) else y
        revived = _detour(result, args[-1], 0.0, 6.0 if operation.function == "relu6" else jnp.inf)
        return [revived] if isinstance(y, (list, tuple)) else revived
    return y


def _detour(y, x, low, high):
    if not (jnp.issubdtype(jnp.result_type(x), jnp.floating) and jnp.shape(x) == jnp.shape(y)):
        return y
    return _redirected(y, x, jnp.asarray(low, y.dtype), jnp.asarray(high, y.dtype))


@jax.custom_vjp
def _redirected(y, x, low, high):
    """y. Its gradient goes to y; and to x, where all that y lets through to x is zero and x would be moved inside."""
    return y


def _forward(y, x, low, high):
    return y, (x, low, high)


def _backward(kept, g):
    x, low, high = kept
    through = jnp.where((x > low) & (x < high), g, 0)
    inwards = ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))
    return g, jnp.where(inwards & jnp.all(through == 0), g, 0), jnp.zeros_like(low), jnp.zeros_like(high)


_redirected.defvjp(_forward, _backward)
