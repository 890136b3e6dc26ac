"""Functions of JAX whose formula has no right derivative, at some points or anywhere: rules for the whole function.

What JAX makes of such a function takes two branches where one is not finite, splits a tie, or is a bisection, which
moves by comparisons alone. A function that is one call, a `jit` or one with a custom JVP, is known by the place where
it is written (`rule_of_function`). Of one that is written out into the program around it, an operation is known by its
stack (`runs_in`).
"""

import math
from functools import partial
from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax, typeof
from jax.scipy import special

from diffprog._jax_internals import devices, jax_functions, jaxpr_as_fun, weakref_lru_cache
from diffprog._jax_internals.sources import runs_in
from diffprog._rules.via_equivalent_program import pullback_of
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import broadcast_to, polynomial, rule_of_function, rules, unbroadcast

# ---------------------------------------------------------------- derivatives of another program


def differentiated_as(function, program_of):
    """Differentiate a function of JAX as another program.

    Args:
      function: that is one call.
      program_of: (its arguments, its results, its staged program) -> the program, from the arguments to as many results
        as the function has, of which only the derivative is used; None to leave the call as it is.
    """

    @rule_of_function(function)
    def apply(run, needs_grad, args, jaxpr):
        program = program_of(args, jaxpr)
        if program is None:
            return None
        if jaxpr is not None:  # the slopes of a custom JVP are right; only they may have wrong slopes
            called = jax.custom_jvp(run)
            called.defjvp(partial(_tangents, run, program))
            run = called
        results = run(*args)
        pull, avals = pullback_of(partial(program, results), needs_grad, args), [typeof(x) for x in results]
        return results, [True] * len(results), lambda cotangents: pull(fill_zeros(cotangents, avals))


def _tangents(run, program, primals, tangents):
    """Make forward mode right too, where it goes over the result of this rule."""
    results = run(*primals)
    return results, jax.jvp(partial(program, results), primals, tangents)[1]


def with_slope(*slopes):
    """Make an elementwise function that has these slopes in its arguments; its value is not used."""

    def zero(*xs):  # also of the type's sharding, and varying over the devices that they vary over
        return jnp.asarray(sum(xs[1:], xs[0]) * 0.0)

    def tangent(xs, tangents):
        like = zero(*xs)
        moved = (t * slope(*xs) for t, slope in zip(tangents, slopes, strict=True) if t.dtype != dtypes.float0)
        return like, jnp.broadcast_to(sum(moved), like.shape).astype(like.dtype)

    function = jax.custom_jvp(zero)
    function.defjvp(tangent)
    return function


# ---------------------------------------------------------------- activation functions


@rule_of_function(jax.nn.relu)
def _relu(run, needs_grad, args, jaxpr):
    """Pass the cotangent on where x > 0, as the custom JVP does, whose transposition at each call takes longer."""
    (x,) = args
    if jnp.iscomplexobj(x):
        return None
    positive = lax.gt(x, lax.full_like(x, 0))
    return run(x), [True], lambda cotangents: [lax.select(positive, cotangents[0], lax.full_like(cotangents[0], 0))]


# ---------------------------------------------------------------- functions of jax.numpy


def _as_modulus(args, jaxpr):
    """Take the modulus of a complex number, where JAX sorts two sides and splits a tie, which has no second slope."""
    shape = jaxpr.out_avals[0].shape
    orders = batch_first(jaxpr, lambda inputs, outputs: (shape, [(), ()]), _are_sides)

    def program(results, *sides):
        wide = jnp.promote_types(results[0].dtype, np.float32)
        sides = [jnp.transpose(x, order).astype(wide) for x, order in zip(sides, orders, strict=True)]
        return [lax.abs(lax.complex(*jnp.broadcast_arrays(*sides))).astype(results[0].dtype)]

    return orders and program


def _are_sides(args, found):
    return np.allclose(np.hypot(*args), found)


def _by_logistic(function, base):
    """Take the slopes of log(base^x + base^y) as logistic functions, which need no case where one is infinite."""

    def slope(x, y):
        both = jnp.isinf(x) & (x == y)
        share = lax.logistic(jnp.where(both, 0, x - y) * math.log(base))
        return jnp.where(both & (x > 0), 1, share)

    @rule_of_function(function)
    def apply(run, needs_grad, args, jaxpr):
        if any(map(jnp.iscomplexobj, args)):
            return None
        (z,) = results = run(*args)
        pairs = (args, args[::-1])
        pulls = [
            unbroadcast(partial(lax.mul, broadcast_to(slope(x, y), np.shape(z))), x, z) if want else None
            for (x, y), want in zip(pairs, needs_grad, strict=True)
        ]
        invariant = [devices.varying_less(x, z) for x in args]

        def pull(cotangents):
            sent = [pull and pull(cotangents[0]) for pull in pulls]
            return [
                lax.psum(g, axes) if pull and axes else g for pull, g, axes in zip(pulls, sent, invariant, strict=True)
            ]

        return results, [True], pull


def _as_x_log(log_of):
    """Take x / y, the slope in y of x log(y), as 0 where x and y are 0: 0 log(y) is 0 for every y."""

    def slope(x, y):
        argument = log_of(y)
        return x / jnp.where((x == 0) & (argument == 0), 1, argument)

    function = with_slope(lambda x, y: jnp.log(log_of(y)), slope)
    return lambda args, jaxpr: None if any(map(jnp.iscomplexobj, args)) else lambda results, x, y: [function(x, y)]


differentiated_as(special.xlogy, _as_x_log(lambda y: y))
differentiated_as(special.xlog1py, _as_x_log(lambda y: 1 + y))
differentiated_as(jnp.hypot, _as_modulus)
_by_logistic(jax_functions.logaddexp, np.e)
_by_logistic(jax_functions.logaddexp2, 2)

# ---------------------------------------------------------------- the Bessel function I0 of jax.numpy

# Its custom JVP puts the number 0 at 0, which has no derivative.
differentiated_as(jnp.i0, lambda args, jaxpr: lambda results, x: [special.i0(x)])

# ---------------------------------------------------------------- integrals of Fresnel and Dawson


def _quarter_turns(x):
    """Compute pi x^2 / 2, less whole turns."""
    return np.pi / 2 * lax.rem(x * x, lax.full_like(x, 4))


def _dawson_slope(x):
    """Compute 1 - 2 x D(x), for large x by its asymptotic series, in which nothing cancels."""
    large = jnp.abs(x) > 1e3
    t = 0.5 / jnp.square(jnp.where(large, jnp.clip(x, -1e30, 1e30), 1e3))
    near = jnp.where(large, 0, x)
    return jnp.where(large, -t * (1 + t * (3 + 15 * t)), 1 - 2 * near * special.dawsn(near))


# JAX sets a cosine to the number 0 where it is 0, and it does not move there. Staged, constants come before x.
_fresnel_slopes = [with_slope(lambda x: jnp.sin(_quarter_turns(x))), with_slope(lambda x: jnp.cos(_quarter_turns(x)))]
differentiated_as(special.fresnel, lambda args, jaxpr: lambda results, *args: [f(args[-1]) for f in _fresnel_slopes])
differentiated_as(jax_functions.dawsn, lambda args, jaxpr: lambda results, *args: [with_slope(_dawson_slope)(args[-1])])

# ---------------------------------------------------------------- the logarithm of the beta function


def _inside(function, name, inner):
    """Use the rule `inner` for an operation on two arrays where a function of JAX runs it."""
    code, outer = function.__code__, rules[name]

    def apply(primitive, needs_grad, args, params):
        chosen = inner if np.shape(args[0]) == np.shape(args[1]) and runs_in(code) else outer
        return chosen(primitive, needs_grad, args, params)

    rules[name] = apply


def _choice(takes_first):
    """Make the rule of a maximum or minimum that gives a tie to one argument; NaN is passed on."""

    def apply(primitive, needs_grad, args, params):
        x, y = args
        first = lax.bitwise_or(takes_first(x, y), lax.ne(x, x))
        zero = lambda g: lax.full_like(g, 0)
        pull = lambda g: (lax.select(first, g, zero(g)), lax.select(first, zero(g), g))
        return lax.select(first, x, y), pull

    return apply


# A function of the smaller and the larger number that is symmetric: a tie in halves would be right at first order only.
if "minimum" in jax_functions.betaln.__code__.co_names:  # until JAX 0.12
    _inside(jax_functions.betaln, "min", _choice(lax.le))
    _inside(jax_functions.betaln, "max", _choice(lax.gt))

# ---------------------------------------------------------------- batched programs


@weakref_lru_cache
def batch_first(jaxpr, core_shapes, holds):
    """Find how to transpose arguments of a batched program so that the batch comes first, as in its results.

    Where the sizes leave a choice, the program is run on random numbers.

    Args:
      jaxpr: closed jaxpr.
      core_shapes: types of the program's arguments and results -> shape of the batch, and for each argument in question
        the shape of what is not batched.
      holds: (arguments, transposed so, first result), numbers -> whether they belong together.

    Returns:
      For each of the first arguments the order of its axes; None if none is right.
    """
    batch, cores = core_shapes(jaxpr.in_avals, jaxpr.out_avals)
    choices = [
        [
            order
            for order in permutations(range(aval.ndim))
            if tuple(aval.shape[i] for i in order) == (*batch, *core)[len(batch) + len(core) - aval.ndim :]
        ]
        for aval, core in zip(jaxpr.in_avals, cores, strict=False)
    ]
    orders = list(product(*choices))
    if len(orders) < 2:
        return orders[0] if orders else None
    draw = np.random.default_rng(0).uniform
    args = [np.asarray(draw(0.6, 0.9, aval.shape), aval.dtype) for aval in jaxpr.in_avals[: len(cores)]]
    others = [np.zeros(aval.shape, aval.dtype) for aval in jaxpr.in_avals[len(cores) :]]
    with jax.ensure_compile_time_eval():
        found = np.asarray(jaxpr_as_fun(jaxpr)(*args, *others)[0])
        return next((order for order in orders if holds([*map(np.transpose, args, order)], found)), None)


# ---------------------------------------------------------------- Spence's function


def _spence_slope(z):
    """Compute log(z) / (1 - z), near 1 by its series."""
    w = z - 1
    near = jnp.abs(w) < 1 / 8
    small, far = jnp.where(near, w, 0), jnp.where(near, 2, jnp.minimum(z, jnp.finfo(z.dtype).max))
    series = polynomial([(-1) ** (k + 1) / (k + 1) for k in reversed(range(18))], small)
    return jnp.where(near, series, jnp.log(far) / (1 - far))


def _is_spence(args, found):
    return np.allclose(found.ravel(), special.spence(args[0].ravel()))


def _as_spence(args, jaxpr):
    """Take the slope as a whole: the pieces that are not taken may be NaN."""
    if not runs_in(jax_functions.spence.__code__):
        return None
    orders = batch_first(jaxpr, lambda inputs, outputs: (outputs[0].shape, [()]), _is_spence)
    return orders and (lambda results, x, *pieces: [with_slope(_spence_slope)(jnp.transpose(x, orders[0]))])


differentiated_as(jax_functions.piecewise, _as_spence)
