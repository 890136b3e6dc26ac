"""Gradients for pictures whose unit is dead at the start, in any network.

A rectifier that is off everywhere lets no gradient through: the picture of a unit behind it would stay gray. Lucid's
remedy is its `redirected_relu_grad`. Where none of an image's gradient gets through a rectifier, the units that are off
and that the gradient would switch on get it nevertheless. The network need not be changed for that: rectifiers are
found where they are called.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffprog._jax_internals.interception import Interceptor, intercepting

CUSTOM = ("relu", "relu6")  # jax.nn's, which have derivatives of their own


def redirect_rectifiers(collect: Callable) -> Callable:
    """Give gradients to units behind rectifiers that are off everywhere in an image.

    Rectifiers are `max`, `min`, `clamp` and `jax.nn.relu`; one that is written by `jnp.where` is not known as one. Each
    image is treated by itself.

    Args:
      collect: `collect(parameters, images, names) -> {name: values}`, as `Model.collect`.

    Returns:
      A function of the same arguments and results, with other gradients.
    """

    def one(parameters, image, names):
        with intercepting(Interceptor(_redirect, by_path=False, by_line=False)):
            values = collect(parameters, image[None], names)
        return {name: value[0] for name, value in values.items()}

    return lambda parameters, images, names: jax.vmap(lambda image: one(parameters, image, names))(images)


def _redirect(operation):
    """Give what an operation returned, with a detour for the gradient if it is a rectifier."""
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
        redirected = _detour(result, args[-1], 0.0, 6.0 if operation.function == "relu6" else jnp.inf)
        return [redirected] if isinstance(y, (list, tuple)) else redirected
    return y


def _detour(y, x, low, high):
    if not (jnp.issubdtype(jnp.result_type(x), jnp.floating) and jnp.shape(x) == jnp.shape(y)):
        return y
    return _redirected(y, x, jnp.asarray(low, y.dtype), jnp.asarray(high, y.dtype))


@jax.custom_vjp
def _redirected(y, x, low, high):
    """Return y. Its gradient goes to y, and also to x where y lets nothing through to x and x would be moved inside."""
    return y


def _forward(y, x, low, high):
    return y, (x, low, high)


def _backward(residuals, g):
    x, low, high = residuals
    through = jnp.where((x > low) & (x < high), g, 0)
    inwards = ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))
    return g, jnp.where(inwards & jnp.all(through == 0), g, 0), jnp.zeros_like(low), jnp.zeros_like(high)


_redirected.defvjp(_forward, _backward)
