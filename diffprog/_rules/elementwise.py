"""Elementwise arithmetic and functions of one, two or three arguments, real and complex.

Cotangents follow JAX's convention for complex numbers: the pullback of a holomorphic f multiplies by f'(x),
without conjugation.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax, typeof
from jax.lax import add, cos, cosh, div, exp, log, mul, neg, select, sin, sinh, square, sub

from diffprog._jax_internals import Tracer
from diffprog._tracer.rules import (
    binary,
    broadcast_to,
    broadcasted,
    constant,
    linear,
    no_derivative,
    rule,
    unary,
    unbroadcast,
)

no_derivative(*"floor ceil round is_finite not and or xor population_count clz mulhi".split())
no_derivative(*"shift_left shift_right_arithmetic shift_right_logical".split())
no_derivative(*"eq ne lt le gt ge eq_to le_to lt_to".split())


def _is_complex(x) -> bool:
    return np.issubdtype(x.dtype, np.complexfloating)


# ---------------------------------------------------------------- linear

linear("neg", lambda g, x: neg(g))
linear("real", lambda g, x: lax.complex(g, lax.full_like(g, 0, g.dtype)))
linear("imag", lambda g, x: lax.complex(lax.full_like(g, 0, g.dtype), neg(g)))
linear("conj", lambda g, x, **_: lax.conj(g) if _is_complex(x) else lax.real(g))
binary("add", lambda z, x, y: (lambda g: g, lambda g: g))
binary("add_any", lambda z, x, y: (lambda g: g, lambda g: g))
binary("sub", lambda z, x, y: (lambda g: g, neg))
binary("complex", lambda z, x, y: (lax.real, lambda g: neg(lax.imag(g))))


def _zero(x):
    return lax.full_like(x, 0)


# ---------------------------------------------------------------- products and powers

unary("square", lambda y, x: lambda g: mul(g, mul(constant(x, 2), x)))
unary("sqrt", lambda y, x, **_: lambda g: div(mul(g, constant(y, 0.5)), y))
unary("rsqrt", lambda y, x, **_: lambda g: mul(g, mul(constant(x, -0.5), div(y, x))))
unary("cbrt", lambda y, x, **_: lambda g: mul(g, mul(constant(x, 1 / 3), lax.integer_pow(y, -2))))
unary("one_minus_square", lambda y, x: lambda g: mul(g, mul(constant(x, -2), x)))


@rule("div")
def _div(primitive, needs_grad, args, params):
    """d(x / y) = dx / y - x dy / y^2; the sign is changed after the sum over what was broadcast, on fewer numbers."""
    x, y = args
    z = primitive.bind(x, y, **params)
    to_x = unbroadcast(lambda g: div(g, y), x, z) if needs_grad[0] else None
    to_y = unbroadcast(lambda g: mul(mul(g, x), lax.integer_pow(y, -2)), y, z) if needs_grad[1] else None
    return z, lambda g: (to_x and to_x(g), to_y and neg(to_y(g)))


def _mul(z, x, y, *, out_dtype=None):
    """With `out_dtype` the product is wider than its factors, and so is its cotangent."""

    def times(other, like):
        if out_dtype is None:
            return lambda g: mul(g, other)
        return lambda g: lax.convert_element_type(mul(g, lax.convert_element_type(other, g.dtype)), like.dtype)

    return times(y, x), times(x, y)


binary("mul", _mul)


@rule("integer_pow")
def _integer_pow(primitive, needs_grad, args, params):
    (x,), n = args, params["y"]
    y = primitive.bind(x, **params)
    if n == 0:
        return y, None
    if n == 1:
        return y, lambda g: (g,)
    power = (lambda: x) if n == 2 else lambda: lax.integer_pow(x, n - 1)
    return y, lambda g: (mul(g, mul(constant(x, n), power())),)


def _pow(z, x, y):
    """d/dx = y x^(y-1), 0 at 0^0; d/dy = log(x) x^y, where log(0) counts as 0 so that 0^y has gradient 0."""

    def to_x(g):
        if np.issubdtype(y.dtype, np.inexact):
            times = finite(y) if isinstance(y, Array) or not np.isfinite(y).all() else y
            return mul(g, mul(times, lax.pow(_beside_zero(x, y), sub(y, lax.full_like(y, 1, y.dtype)))))
        whole = broadcast_to(y, z.shape)
        base = broadcast_to(x, z.shape)
        is_zero = lax.eq(whole, lax.full_like(whole, 0))
        exponent = select(is_zero, lax.full_like(whole, 1), sub(whole, lax.full_like(whole, 1)))
        factor = mul(lax.convert_element_type(whole, z.dtype), lax.pow(base, exponent))
        return mul(g, select(is_zero, _zero(factor), factor))

    def to_y(g):
        return mul(g, mul(log(finite(_nonzero(x))), z))

    return to_x, to_y


def _beside_zero(x, y):
    """`x`, with 1 instead of 0 where y is 0 or 1: x^(y-1) is finite there, and moves with x in neither mode."""
    if not isinstance(y, Array) and not np.isin(y, (0, 1)).any():
        return x
    x, y = broadcasted(x, y)
    zero_or_one = lax.bitwise_or(lax.eq(y, _zero(y)), lax.eq(y, lax.full_like(y, 1)))
    return select(lax.bitwise_and(lax.eq(x, _zero(x)), zero_or_one), lax.full_like(x, 1), x)


def _nonzero(x):
    return select(lax.eq(x, _zero(x)), lax.full_like(x, 1), x)


binary("pow", _pow)

# ---------------------------------------------------------------- exponentials and logarithms

unary("exp", lambda y, x, **_: lambda g: mul(g, y))
unary("exp2", lambda y, x, **_: lambda g: mul(g, mul(constant(y, np.log(2)), y)))
unary("expm1", lambda y, x, **_: lambda g: mul(g, exp(x)))
unary("log", lambda y, x, **_: lambda g: div(g, x))
unary("log2", lambda y, x, **_: lambda g: div(g, mul(x, constant(x, np.log(2)))))
unary("log1p", lambda y, x, **_: lambda g: div(g, add(x, constant(x, 1))))
unary("logistic", lambda y, x, **_: lambda g: mul(g, mul(y, sub(constant(y, 1), y))))
unary("tanh", lambda y, x, **_: lambda g: mul(g, mul(add(constant(y, 1), y), sub(constant(y, 1), y))))

# ---------------------------------------------------------------- trigonometric and hyperbolic

unary("sin", lambda y, x, **_: lambda g: mul(g, cos(x)))
unary("cos", lambda y, x, **_: lambda g: neg(mul(g, sin(x))))
unary("tan", lambda y, x, **_: lambda g: mul(g, add(constant(y, 1), square(y))))
unary("asin", lambda y, x: lambda g: mul(g, lax.rsqrt(_one_minus_square(x))))
unary("acos", lambda y, x: lambda g: neg(mul(g, lax.rsqrt(_one_minus_square(x)))))
unary("atan", lambda y, x: lambda g: div(g, add(constant(x, 1), square(finite(x)))))
unary("sinh", lambda y, x: lambda g: mul(g, cosh(x)))
unary("cosh", lambda y, x: lambda g: mul(g, sinh(x)))
unary("asinh", lambda y, x: lambda g: mul(g, lax.rsqrt(add(square(finite(x)), constant(x, 1)))))
unary("acosh", lambda y, x: lambda g: mul(g, mul(lax.rsqrt(sub(x, _one(x))), lax.rsqrt(add(x, _one(x))))))
unary("atanh", lambda y, x: lambda g: div(g, _one_minus_square(x)))


def _one(x):
    return constant(x, 1)


def _one_minus_square(x):
    """1 - x^2, as a product: exact where |x| is near 1."""
    return mul(add(_one(x), x), sub(_one(x), x))


def finite(x):
    """Put the largest number for infinity, which does not move: else a derivative is 0 times infinity there."""
    if _is_complex(x):
        return x
    largest = constant(x, jnp.finfo(x.dtype).max)
    return lax.clamp(neg(largest), x, largest)


def _atan2(z, x, y):
    """Infinite arguments turn no further."""
    x, y = finite(x), finite(y)
    norm = lambda: add(square(x), square(y))
    return lambda g: mul(g, div(y, norm())), lambda g: mul(g, div(neg(x), norm()))


binary("atan2", _atan2)

# ---------------------------------------------------------------- kinks


@rule("abs")
def _abs(primitive, needs_grad, args, params):
    (x,) = args
    y = primitive.bind(x, **params)
    if not _is_complex(x):
        return y, lambda g: (select(lax.ge(x, _zero(x)), g, neg(g)),)
    return y, lambda g: (mul(lax.complex(g, _zero(g)), lax.conj(_direction(x, y))),)


def _direction(x, size):
    """Divide complex x by its modulus: 0 at 0; where the modulus is infinite, that of a smaller x with finite parts."""
    infinite = lax.eq(size, lax.full_like(size, np.inf))
    smaller = lambda part: mul(finite(part), constant(size, 0.25))
    x = select(infinite, lax.complex(smaller(lax.real(x)), smaller(lax.imag(x))), x)
    size = _nonzero(select(infinite, lax.abs(x), size))
    return div(x, lax.complex(size, _zero(size)))


@rule("sign")
def _sign(primitive, needs_grad, args, params):
    """Piecewise constant if real. If complex, x / |x|: d = i y Im(conj(y) dx) / |x|, written transposed."""
    (x,) = args
    y = primitive.bind(x, **params)
    if not _is_complex(x):
        return y, None

    def pull(g):
        turn = div(lax.imag(mul(g, y)), _nonzero(lax.abs(x)))
        return (mul(lax.conj(y), lax.complex(_zero(turn), turn)),)

    return y, pull


def _greater(x, y):
    """1 where x > y, 1/2 at a tie, 0 elsewhere: the convention of JAX for max and min."""
    x, y = broadcasted(x, y)
    greater = lax.gt(x, y)
    fill = lambda value: lax.full_like(greater, value, x.dtype)
    return select(greater, fill(1), select(lax.eq(x, y), fill(0.5), fill(0)))


binary("max", lambda z, x, y: (lambda g: mul(g, _greater(x, y)), lambda g: mul(g, _greater(y, x))))
binary("min", lambda z, x, y: (lambda g: mul(g, _greater(y, x)), lambda g: mul(g, _greater(x, y))))
binary("nextafter", lambda z, x, y: (lambda g: g, _zero))


def _rem(z, x, y):
    quotient = lambda: div(*broadcasted(x, y))
    truncated = lambda q: mul(lax.sign(q), lax.floor(lax.abs(q)))
    return lambda g: g, lambda g: neg(mul(g, truncated(quotient())))


binary("rem", _rem)


def _stored(mask):
    """Make XLA store a mask as it is: without the barrier it would keep the four times larger array it came from."""
    return lax.optimization_barrier(mask) if isinstance(mask, Tracer) else mask


@rule("clamp")
def _clamp(primitive, needs_grad, args, params):
    """Each argument has the cotangent of the elements that it decides; the masks are kept, a byte an element."""
    low, x, high = args
    y = primitive.bind(low, x, high, **params)
    small, large = broadcast_to(low, np.shape(x)), broadcast_to(high, np.shape(x))
    makers = (
        lambda: lax.bitwise_and(lax.gt(small, x), lax.lt(small, large)),
        lambda: lax.bitwise_and(lax.gt(x, small), lax.lt(x, large)),
        lambda: lax.lt(large, x),
    )

    def masked_by(mask):
        return lambda g: select(mask, g, _zero(g))

    pulls = [
        unbroadcast(masked_by(_stored(make())), arg, y) if want else None
        for make, arg, want in zip(makers, args, needs_grad, strict=True)
    ]
    return y, lambda g: [pull and pull(g) for pull in pulls]


@rule("select_n")
def _select_n(primitive, needs_grad, args, params):
    which, *cases = args
    y = primitive.bind(which, *cases, **params)

    def pull(g):
        zero = _zero(g)

        def to_case(i):
            if typeof(which).dtype == bool:
                return lax.select_n(which, *((zero, g) if i else (g, zero)))
            mask = lax.eq(which, lax.full_like(which, i))
            return lax.select_n(mask, zero, g)

        return [None, *(to_case(i) if want else None for i, want in enumerate(needs_grad[1:]))]

    return y, pull


# ---------------------------------------------------------------- dtypes


@rule("convert_element_type")
def _convert_element_type(primitive, needs_grad, args, params):
    (x,) = args
    like = typeof(x)
    y = primitive.bind(x, **params)
    if not np.issubdtype(y.dtype, np.inexact) and y.dtype.kind in "biu":
        return y, None
    if (y.dtype, y.weak_type) == (like.dtype, like.weak_type):
        return y, lambda g: (g,)

    def pull(g):
        if np.issubdtype(g.dtype, np.complexfloating) and not np.issubdtype(like.dtype, np.complexfloating):
            g = lax.real(g)
        return (primitive.bind(g, **(params | {"new_dtype": like.dtype, "weak_type": like.weak_type})),)

    return y, pull


@rule("to_edtype", "from_edtype")
def _extended_dtype(primitive, needs_grad, args, params):
    """Numbers of an extended dtype have cotangents of the ordinary dtype that it names."""
    (x,) = args
    dtype = typeof(x).to_tangent_aval().dtype
    return primitive.bind(x, **params), lambda g: (lax.convert_element_type(g, dtype),)


linear("reduce_precision", lambda g, x, **params: lax.reduce_precision(g, **params))
no_derivative("bitcast_convert_type")


# ---------------------------------------------------------------- polynomials


@rule("polynomial")
def _polynomial(primitive, needs_grad, args, params):
    """Sum of c_k x^k, the coefficients given from the constant upwards."""
    x, *coefficients = args
    y = primitive.bind(x, *coefficients, **params)

    def pull(g):
        slopes = [mul(constant(c, k), c) for k, c in enumerate(coefficients) if k]
        to_x = None
        if needs_grad[0]:
            times_slope = lambda g: mul(g, primitive.bind(x, *slopes, **params)) if slopes else _zero(g)
            to_x = unbroadcast(times_slope, x, y)(g)
        sent, power = [to_x], g
        for c, want in zip(coefficients, needs_grad[1:], strict=True):
            sent.append(unbroadcast(lambda g: g, c, y)(power) if want else None)
            power = mul(power, x)
        return sent

    return y, pull
