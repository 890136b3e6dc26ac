"""Special functions."""

import numpy as np
from jax import lax
from jax.lax import add, div, exp, mul, neg, select, square, sub

from diffprog.rules.table import binary, broadcasted, constant, rule, unary

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


def _no_derivative(function: str, argument: str):
    def pull(g):
        raise NotImplementedError(
            f"{function} has no derivative rule with respect to {argument}: hold it fixed with jax.lax.stop_gradient"
        )

    return pull


def _polygamma(z, m, x):
    m, x = broadcasted(m, x)
    return (
        _no_derivative("polygamma", "its order m"),
        lambda g: mul(g, lax.polygamma(add(m, constant(m, 1)), x)),
    )


binary("polygamma", _polygamma)


def _gamma_density(a, x):
    """x^(a-1) exp(-x) / Gamma(a), the derivative of the regularised lower incomplete gamma function."""
    return exp(sub(sub(mul(sub(a, constant(a, 1)), lax.log(x)), x), lax.lgamma(a)))


def _igamma(z, a, x):
    a, x = broadcasted(a, x)
    return lambda g: mul(g, lax.igamma_grad_a(a, x)), lambda g: mul(g, _gamma_density(a, x))


def _igammac(z, a, x):
    to_a, to_x = _igamma(z, a, x)
    return lambda g: neg(to_a(g)), lambda g: neg(to_x(g))


binary("igamma", _igamma)
binary("igammac", _igammac)
binary("igamma_grad_a", lambda z, a, x: (_no_derivative("igamma_grad_a", "a"), _no_derivative("igamma_grad_a", "x")))
binary("zeta", lambda z, s, q: (
    _no_derivative("zeta", "its exponent"),
    lambda g: neg(mul(g, mul(s, lax.zeta(add(s, constant(s, 1)), q)))),
))  # fmt: skip


@rule("regularized_incomplete_beta")
def _regularized_incomplete_beta(primitive, wanted, args, params):
    """d/dx = x^(a-1) (1-x)^(b-1) / B(a, b)."""
    a, b, x = broadcasted(*args)
    y = primitive.bind(a, b, x, **params)

    def pull(g):
        if wanted[0] or wanted[1]:
            _no_derivative("betainc", "a and b")(g)
        log_beta = sub(add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(add(a, b)))
        powers = add(
            mul(sub(b, constant(b, 1)), lax.log1p(neg(x))),
            mul(sub(a, constant(a, 1)), lax.log(x)),
        )
        return None, None, mul(g, exp(sub(powers, log_beta)))

    return y, pull
