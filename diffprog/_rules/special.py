"""Special functions."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.lax import add, div, exp, mul, neg, select, square, sub

from diffprog._rules.elementwise import finite
from diffprog._rules.incomplete_gamma_beta import (
    beta_density,
    gamma_density,
    gamma_sample_slope,
    incomplete_beta,
    lower_gamma,
    slope,
)
from diffprog._tracer.rules import binary, broadcasted, constant, polynomial, rule, unary, unbroadcast

_two_over_root_pi = 2 / np.sqrt(np.pi)

unary("erf", lambda y, x: lambda g: mul(constant(x, _two_over_root_pi), mul(g, _gauss(x))))
unary("erfc", lambda y, x, **_: lambda g: mul(constant(x, -_two_over_root_pi), mul(g, _gauss(x))))
unary("erf_inv", lambda y, x: lambda g: mul(constant(x, 1 / _two_over_root_pi), mul(g, exp(square(y)))))
unary("lgamma", lambda y, x: lambda g: mul(g, lax.digamma(x)))
unary("digamma", lambda y, x: lambda g: mul(g, lax.polygamma(lax.full_like(x, 1), finite(x))))


def _gauss(x):
    return exp(neg(square(finite(x))))


# ---------------------------------------------------------------- Bessel functions


def _side(x):
    """Slope of |x|: at 0 that of the right side, as the rule of `abs` has it, so that the kink of exp|x| cancels."""
    return select(lax.ge(x, lax.full_like(x, 0)), lax.full_like(x, 1), lax.full_like(x, -1))


unary("bessel_i0e", lambda y, x: lambda g: mul(g, sub(lax.bessel_i1e(x), mul(_side(x), y))))
unary("bessel_i1e", lambda y, x: lambda g: mul(g, sub(sub(lax.bessel_i0e(x), mul(_side(x), y)), _i1e_over_x(y, x))))

_I1_SERIES = 0.5 / np.cumprod([1.0, *(4.0 * k * (k + 1) for k in range(1, 7))])  # of I1(x) / x, in x^2


def _i1e_over_x(y, x):
    """I1e(x) / x, near 0 by the series of I1, which has derivatives there; seven terms are enough up to 1/4."""
    near = lax.lt(lax.abs(x), constant(x, 0.25))
    small = select(near, x, lax.full_like(x, 0))
    terms = polynomial(_I1_SERIES[::-1], square(small))
    series = mul(exp(neg(mul(_side(x), small))), terms)
    return select(near, series, div(y, select(near, lax.full_like(x, 1), x)))


def _times_slope(derivative, *xs):
    """Multiply by a `slope`, which is for arrays of one shape and of 32 bits or more."""

    def pull(g):
        wide = np.promote_types(g.dtype, np.float32)
        slopes = derivative(*(lax.convert_element_type(x, wide) for x in broadcasted(*xs)))
        return mul(g, lax.convert_element_type(slopes, g.dtype))

    return pull


# ---------------------------------------------------------------- zeta and polygamma


def _polygamma(z, m, x):
    m, x = broadcasted(m, x)

    def to_m(g):
        raise NotImplementedError(
            "polygamma has no derivative in its order m, which is an integer: hold m fixed with jax.lax.stop_gradient"
        )

    return to_m, lambda g: mul(g, lax.polygamma(add(m, constant(m, 1)), x))


_TERMS = 10
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
_TAIL = np.array(_BERNOULLI) / np.cumprod(np.arange(1.0, 21.0))[1::2]  # B_2j / (2j)!


def _zeta_sum(s, q):
    """Sum (q + k)^-s over k, for s > 1 and q > 0: ten terms, and the Euler-Maclaurin formula for the others."""
    s, q = s[None], q[None]
    along = lambda values: np.asarray(values, s.dtype).reshape(-1, *[1] * (s.ndim - 1))
    head = jnp.sum((q + along(range(_TERMS))) ** -s, 0)
    start = q + _TERMS
    # The tail vanishes beside the head long before s / start is 30, where its powers could overflow.
    rising = jnp.cumprod((jnp.minimum(s, 30 * start) + along(range(2 * len(_TAIL) - 1))) / start, 0)[::2]
    tail = start**-s * (start / (s - 1) + 0.5 + jnp.sum(along(_TAIL) * rising, 0, keepdims=True))
    return head + tail[0]


def _zeta(z, s, q):
    """In s: minus sum log(q + k) (q + k)^-s, for s > 1 and q > 0, to rounding."""
    to_s = _times_slope(slope(_zeta_sum, 0), s, q)
    s, q = broadcasted(s, q)
    return to_s, lambda g: neg(mul(g, mul(s, lax.zeta(add(s, constant(s, 1)), q))))


binary("polygamma", _polygamma)
binary("zeta", _zeta)

# ---------------------------------------------------------------- incomplete gamma and beta


def _igamma(z, a, x):
    a, x = broadcasted(a, x)
    return lambda g: mul(g, lax.igamma_grad_a(a, finite(x))), _times_slope(gamma_density, a, x)


def _igammac(z, a, x):
    to_a, to_x = _igamma(z, a, x)
    return lambda g: neg(to_a(g)), lambda g: neg(to_x(g))


def _igamma_grad_a(z, a, x):
    """In a: from the series or continued fraction, to 1e-11 for a from 0.01 to 1000."""
    return _times_slope(slope(slope(lower_gamma, 0), 0), a, x), _times_slope(slope(gamma_density, 0), a, x)


binary("igamma", _igamma)
binary("igammac", _igammac)
binary("igamma_grad_a", _igamma_grad_a)


@rule("regularized_incomplete_beta")
def _regularized_incomplete_beta(primitive, needs_grad, args, params):
    """Differentiate I_x(a, b): in x it is x^(a-1) (1-x)^(b-1) / B(a, b), in a and b a continued fraction.

    Relative error: 1e-10 for a and b from 0.01 to 1000, 1e-9 up to 10,000.
    """
    y = primitive.bind(*args, **params)
    derivatives = slope(incomplete_beta, 0), slope(incomplete_beta, 1), beta_density
    pulls = (_times_slope(derivative, *args) for derivative in derivatives)
    pulls = [unbroadcast(pull, x, y) for pull, x in zip(pulls, args, strict=True)]
    return y, lambda g: [pull(g) if want else None for pull, want in zip(pulls, needs_grad, strict=True)]


# ---------------------------------------------------------------- random numbers


@rule("random_gamma")
def _random_gamma(primitive, needs_grad, args, params):
    """Differentiate a sample, or its logarithm, which moves with its parameter a as the quantile that it is.

    This is implicit differentiation (Figurnov et al. 2018, arXiv:1805.08498).
    """
    key, a = args
    y = primitive.bind(key, a, **params)

    def pull(g):
        if not params["log_space"]:
            return None, mul(g, gamma_sample_slope(a, y))
        x = lax.max(exp(y), lax.full_like(y, np.finfo(y.dtype).tiny))
        return None, mul(g, div(gamma_sample_slope(a, x), x))

    return y, pull
