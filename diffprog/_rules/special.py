"""Special functions."""

import numpy as np
from jax import lax
from jax.lax import add, div, exp, mul, neg, select, square, sub

from diffprog._rules.incomplete import gamma_sample_slope, incomplete_beta, lower_gamma, slope, zeta
from diffprog._tracer.rules import binary, broadcasted, constant, rule, unary, unbroadcast

_two_over_root_pi = 2 / np.sqrt(np.pi)

unary("erf", lambda y, x: lambda g: mul(constant(x, _two_over_root_pi), mul(g, _gauss(x))))
unary("erfc", lambda y, x, **_: lambda g: mul(constant(x, -_two_over_root_pi), mul(g, _gauss(x))))
unary("erf_inv", lambda y, x: lambda g: mul(constant(x, 1 / _two_over_root_pi), mul(g, exp(square(y)))))
unary("lgamma", lambda y, x: lambda g: mul(g, lax.digamma(x)))
unary("digamma", lambda y, x: lambda g: mul(g, lax.polygamma(lax.full_like(x, 1), x)))
unary("bessel_i0e", lambda y, x: lambda g: mul(g, sub(lax.bessel_i1e(x), mul(lax.sign(x), y))))


def _gauss(x):
    return exp(neg(square(x)))


@rule("bessel_i1e")
def _bessel_i1e(primitive, wanted, args, params):
    """d = I0e(x) - y (sign x + 1/x), whose limit at 0 is 1/2."""
    (x,) = args
    y = primitive.bind(x, **params)

    def pull(g):
        smallest = constant(x, np.finfo(x.dtype).eps)
        tiny = lax.le(lax.abs(x), smallest)
        safe = select(tiny, lax.full_like(x, smallest), x)
        slope = sub(lax.bessel_i0e(safe), mul(y, add(lax.sign(safe), div(constant(x, 1), safe))))
        return (mul(g, select(tiny, lax.full_like(x, 0.5), slope)),)

    return y, pull


def _times_slope(derivative, *xs):
    """The product with a slope of `diffprog._rules.incomplete`: for arrays of one shape, and of 32 bits or more."""

    def pull(g):
        wide = np.promote_types(g.dtype, np.float32)
        found = derivative(*(lax.convert_element_type(x, wide) for x in broadcasted(*xs)))
        return mul(g, lax.convert_element_type(found, g.dtype))

    return pull


# ---------------------------------------------------------------- zeta and polygamma


def _polygamma(z, m, x):
    m, x = broadcasted(m, x)

    def to_m(g):
        raise NotImplementedError(
            "polygamma has no derivative in its order m, which is an integer: hold m fixed with jax.lax.stop_gradient"
        )

    return to_m, lambda g: mul(g, lax.polygamma(add(m, constant(m, 1)), x))


def _zeta(z, s, q):
    """In s: minus sum log(q + k) (q + k)^-s, for s > 1 and q > 0, to rounding."""
    to_s = _times_slope(slope(zeta, 0), s, q)
    s, q = broadcasted(s, q)
    return to_s, lambda g: neg(mul(g, mul(s, lax.zeta(add(s, constant(s, 1)), q))))


binary("polygamma", _polygamma)
binary("zeta", _zeta)

# ---------------------------------------------------------------- incomplete gamma and beta


def _gamma_density(a, x):
    """x^(a-1) exp(-x) / Gamma(a), the derivative of the regularized lower incomplete gamma function."""
    return exp(sub(sub(mul(sub(a, constant(a, 1)), lax.log(x)), x), lax.lgamma(a)))


def _igamma(z, a, x):
    a, x = broadcasted(a, x)
    return lambda g: mul(g, lax.igamma_grad_a(a, x)), lambda g: mul(g, _gamma_density(a, x))


def _igammac(z, a, x):
    to_a, to_x = _igamma(z, a, x)
    return lambda g: neg(to_a(g)), lambda g: neg(to_x(g))


def _igamma_grad_a(z, a, x):
    """In a: from the series or continued fraction, to 1e-11 for a from 0.01 to 1000."""
    to_a = _times_slope(slope(slope(lower_gamma, 0), 0), a, x)
    a, x = broadcasted(a, x)
    return to_a, lambda g: mul(g, mul(_gamma_density(a, x), sub(lax.log(x), lax.digamma(a))))


binary("igamma", _igamma)
binary("igammac", _igammac)
binary("igamma_grad_a", _igamma_grad_a)


@rule("regularized_incomplete_beta")
def _regularized_incomplete_beta(primitive, wanted, args, params):
    """d/dx = x^(a-1) (1-x)^(b-1) / B(a, b); in a and b from the continued fraction, to 1e-10 for both from 0.01 to 1000
    and to 1e-9 up to 10,000."""
    y = primitive.bind(*args, **params)
    a, b, x = broadcasted(*args)

    def to_x(g):
        log_beta = sub(add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(add(a, b)))
        powers = add(mul(sub(b, constant(b, 1)), lax.log1p(neg(x))), mul(sub(a, constant(a, 1)), lax.log(x)))
        return mul(g, exp(sub(powers, log_beta)))

    pulls = [*(_times_slope(slope(incomplete_beta, i), a, b, x) for i in range(2)), to_x]
    pulls = [unbroadcast(pull, x, y) for pull, x in zip(pulls, args, strict=True)]
    return y, lambda g: [pull(g) if want else None for pull, want in zip(pulls, wanted, strict=True)]


# ---------------------------------------------------------------- random numbers


@rule("random_gamma")
def _random_gamma(primitive, wanted, args, params):
    """A sample, or its logarithm, follows its parameter a as the quantile does that it is (implicit differentiation,
    Figurnov et al. 2018, arXiv:1805.08498)."""
    key, a = args
    y = primitive.bind(key, a, **params)

    def pull(g):
        if not params["log_space"]:
            return None, mul(g, gamma_sample_slope(a, y))
        x = lax.max(exp(y), lax.full_like(y, np.finfo(y.dtype).tiny))
        return None, mul(g, div(gamma_sample_slope(a, x), x))

    return y, pull
