"""The table of rules: one vector-Jacobian product per JAX primitive.

A rule says how a cotangent of a primitive's result becomes cotangents of its arguments. Rules are found by
the primitive's name, so that a primitive which only some JAX versions have needs no special case here.

The forms, from the simplest:

    linear("neg", lambda g, x: neg(g))                           one line per linear operation
    unary("sin", lambda y, x: lambda g: mul(g, cos(x)))           the closure keeps what the backward pass needs
    binary("mul", lambda z, x, y: (lambda g: mul(g, y), ...))     one closure per argument, kept if needed
    no_derivative("floor", ...)                                   zero by definition

    @rule("sort")                                                 anything else
    def sort(primitive, needs_grad, args, params): ...

The general form gets the primitive, a tuple that says which arguments need a cotangent, the arguments and the
primitive's parameters. It runs the operation and returns

    result, backward                 for a primitive with one result
    results, active, backward        for one with several; `active` says which of them depend on `needs_grad`

where `backward` maps the cotangent (or the list of them, None for zero) to one cotangent per argument: an
array, None for zero, or a part of one (see `diffprog._tracer.cotangents`). What it returns for an argument that
needs none is ignored. `backward` is None if the derivative is zero.
"""

from collections.abc import Callable
from functools import wraps

import jax
import numpy as np
from jax import lax, typeof

from diffprog._jax_internals import Tracer
from diffprog._jax_internals.devices import moved_home, placement
from diffprog._jax_internals.sources import where_written

rules: dict[str, Callable] = {}
transposes: dict[str, Callable] = {}
"""Of primitives that have a transpose of their own, by name: transposes(primitive, needs_grad, args, params) returns
the map from the cotangents of the results, or None. It goes first where tangents are traced."""
linear_by_rule: set[str] = set()
"""Primitives that may be applied to tangents though JAX knows no transpose of them."""

of_functions: dict[str, Callable] = {}
"""The rules of whole functions of JAX, see `rule_of_function`, by where these are written."""
zero: set[str] = set()  # the primitives of `rules` whose derivative is zero by definition


def rule(*names: str):
    """Register the decorated function as the general rule of these primitives."""

    def register(function):
        for name in names:
            rules[name] = function
        return function

    return register


def rule_of_function(function: Callable):
    """Register the decorated rule for all calls of a function of JAX that is a `jit` or has a custom JVP.

    JAX notes on each program from which function it was traced, also when it has been batched or staged again; a
    function of the same name that is written elsewhere is another function. The rule gets a function that runs the
    program, and the program, if it is staged: it may have been batched along any axis. It returns what the rule of a
    primitive with several results does, or None to differentiate the function as it stands.

        @rule_of_function(jnp.i0)
        def i0(run, needs_grad, args, jaxpr): ...
    """

    def register(rule):
        of_functions[where_written(function)] = rule
        return rule

    return register


def linear(name: str, transpose: Callable):
    """Register a linear operation: `transpose(g, x, **params)` is its transpose; `x` is the type of the argument."""
    linear_by_rule.add(name)

    @rule(name)
    def apply(primitive, needs_grad, args, params):
        (x,) = args
        like = typeof(x)
        return primitive.bind(x, **params), lambda g: (transpose(g, like, **params),)


def unary(name: str, derivative: Callable):
    """Register a function of one argument: `derivative(y, x, **params)` maps the cotangent of y to that of x."""

    @rule(name)
    def apply(primitive, needs_grad, args, params):
        (x,) = args
        y = primitive.bind(x, **params)
        pull = derivative(y, x, **params)
        return y, lambda g: (pull(g),)


def binary(name: str, derivatives: Callable):
    """Register a function of two arguments.

    Args:
      name: of the primitive.
      derivatives: derivatives(z, x, y, **params) returns the maps from the cotangent of z to those of x and of y.
    """

    @rule(name)
    def apply(primitive, needs_grad, args, params):
        x, y = args
        z = primitive.bind(x, y, **params)
        pulls = derivatives(z, x, y, **params)
        to_x = unbroadcast(pulls[0], x, z) if needs_grad[0] else None
        to_y = unbroadcast(pulls[1], y, z) if needs_grad[1] else None
        return z, lambda g: (to_x and to_x(g), to_y and to_y(g))


def no_derivative(*names: str):
    """Register primitives whose derivative is zero wherever it exists."""
    zero.update(names)

    @rule(*names)
    def apply(primitive, needs_grad, args, params):
        result = primitive.bind(*args, **params)
        if primitive.multiple_results:
            return result, [False] * len(result), None
        return result, None


def compiled(*static: str):
    """Compile a formula of many operations: one call where values are at hand, written out where it is traced."""

    def decorate(function):
        jitted = jax.jit(function, static_argnames=static)

        @wraps(function)
        def call(*args):
            return function(*args) if any(isinstance(x, Tracer) for x in args) else jitted(*args)

        return call

    return decorate


def unbroadcast(pull: Callable, x, z) -> Callable:
    """Sum what `pull` returns to the shape of `x`, where the primitive broadcast a smaller `x` to the shape of `z`."""
    small, large = np.shape(x), np.shape(z)
    if small == large:
        return moved_home(pull, x, z)
    like = typeof(x)
    axes = [d for d, n in enumerate(large) if not small or small[d] != n]
    summed = lambda g: lax.reduce_sum(broadcast_to(pull(g), large), axes)
    return lambda g: lax.reshape(summed(g), small, out_sharding=placement(like))


def broadcast_to(x, shape):
    """Broadcast `x`, a scalar or with some sizes 1, to this shape."""
    if np.shape(x) == tuple(shape):
        return x
    return lax.broadcast_in_dim(x, shape, range(len(shape)) if np.ndim(x) else ())


def broadcasted(*xs) -> list:
    """Broadcast arrays to their common shape."""
    shape = lax.broadcast_shapes(*map(np.shape, xs))
    return [broadcast_to(x, shape) for x in xs]


def polynomial(coefficients, x):
    """Evaluate a polynomial, the highest coefficient first. `jnp.polyval` is a loop, whose carry has no place yet."""
    total = lax.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = lax.add(lax.mul(total, x), lax.full_like(x, coefficient))
    return total


def constant(x, value):
    """Make the number `value` in the dtype of `x`; weakly typed, as a Python number is, if `x` is."""
    aval = typeof(x)
    if aval.weak_type and aval.ndim == 0:
        return aval.dtype.type(value).item()
    return np.asarray(value, aval.dtype)
