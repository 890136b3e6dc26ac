"""Elementwise functions of JAX, the same in mpmath, and their corners."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import scipy as jsp
from mpmath import mp

INF = float("inf")
special = jsp.special


@dataclass(frozen=True)
class Row:
    """A function of real numbers.

    Attributes:
      name: its path below `jax`, with what is held fixed.
      fun: the function, of arrays of one shape.
      reference: the same of mpmath's numbers; raises or is not real outside of its domain.
      corners: places, each a tuple of the arguments.
      smooth_in: the arguments with respect to which it is differentiated.
      why: what is known where a number is wrong.
    """

    name: str
    fun: Callable
    reference: Callable
    corners: tuple
    smooth_in: tuple = ()
    why: str = ""


def row(name, fun, reference, *axes, smooth_in=None):
    """Make a row whose corners are the products of some numbers for each argument."""
    corners = tuple(place for place in product(*axes) if np.isinf(place).sum() < 2)
    return Row(name, fun, reference, corners, tuple(range(len(axes))) if smooth_in is None else smooth_in)


LINE = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -2.5, 1e-9, -1e-9, 25.0, -25.0, INF, -INF)
BETWEEN = (0.0, 1e-9, 0.25, 0.5, 1 - 1e-9, 1.0, -0.5, -1.0)  # functions of numbers up to 1
HALF = (0.0, 1e-9, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, 200.0, INF)  # of numbers from 0
UNIT = (0.0, 1e-9, 0.25, 0.5, 0.75, 1 - 1e-9, 1.0)
MIDDLE = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0)  # where the loops of JAX 0.10 end, also beside one another
FEW = (0.5, 1.0, 1.5, 2.0, 3.0)
ANY = (0.0, 1.0, -1.0, 0.5, 2.0, -2.5, INF)


def _log_ratio(x, y):
    return mp.log(x) - mp.log(y)


def xlogy(x, y):
    return mp.mpf(0) if x == 0 else x * mp.log(y)


def _rel_entr(p, q):
    if p == 0 and q >= 0:
        return mp.mpf(0)
    return p * mp.log(p / q) if p > 0 and q > 0 else mp.nan


def gammaln(x):
    return mp.loggamma(x) if x > 0 else mp.log(abs(mp.gamma(x)))


def betaln(a, b):
    return gammaln(a) + gammaln(b) - gammaln(a + b)


def positive(x):
    if not x > 0:
        raise ValueError
    return x


def _entr(x):
    return mp.mpf(0) if x == 0 else -x * mp.log(positive(x))


def _spence(x):
    return mp.polylog(2, 1 - x).real if x >= 0 else mp.nan


def _ndtri(p):
    return mp.sqrt(2) * mp.erfinv(2 * p - 1) if 0 < p < 1 else mp.nan


def _owens_t(h, a):
    return mp.quad(lambda t: mp.exp(-(h**2) * (1 + t**2) / 2) / (1 + t**2), [0, a]) / (2 * mp.pi)


def _box_cox(x, power):
    return mp.log(positive(x)) if power == 0 else mp.expm1(power * mp.log(positive(x))) / power


def igamma(a, x):
    return mp.gammainc(positive(a), 0, x, regularized=True) if x >= 0 else mp.nan


def _betainc(a, b, x):
    return mp.betainc(positive(a), positive(b), 0, x, regularized=True) if 0 <= x <= 1 else mp.nan


def _comb(n, k):
    return mp.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) if 0 <= k <= n else mp.nan


def _multigammaln(a, d):
    return d * (d - 1) * mp.log(mp.pi) / 4 + sum(gammaln(positive(a - mp.mpf(j) / 2)) for j in range(d))


def _logsumexp(x, y):
    top = max(x, y)
    return top + mp.log(mp.exp(x - top) + mp.exp(y - top))


def _sinc(x):
    return mp.sincpi(x)


def _power(x, y):
    return x**y if x >= 0 or abs(y) < 1e10 else mp.nan


def _angle(y, x):
    return mp.atan2(y, x)


SPECIAL = [
    row("scipy.special.betaln", special.betaln, betaln, (*FEW, 1e-9), (*FEW, 300.0)),
    row("scipy.special.beta", special.beta, lambda a, b: mp.beta(a, b), (*FEW, -0.5), (*FEW, -0.5)),
    row("scipy.special.bessel_jn, v=1", lambda x: special.bessel_jn(x, v=1)[1], lambda x: mp.besselj(1, x), LINE[:-4]),
    row("scipy.special.betainc", special.betainc, _betainc, (0.5, 1.0, 2.0), (0.5, 1.0, 2.0), UNIT),
    row("scipy.special.boxcox", special.boxcox, _box_cox, HALF[:-1], (0.0, 1.0, 0.5, -1.0, 2.0)),
    row(
        "scipy.special.boxcox1p",
        special.boxcox1p,
        lambda x, power: _box_cox(1 + x, power),
        (0.0, -1.0, -0.5, 1.0, 3.0),
        (0.0, 1.0, 0.5, -1.0, 2.0),
    ),
    row("scipy.special.comb", special.comb, _comb, (1.0, 2.0, 2.5, 5.0), (0.0, 0.5, 1.0, 2.0)),
    row("scipy.special.dawsn", special.dawsn, lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), LINE),
    row("scipy.special.digamma", special.digamma, mp.digamma, LINE),
    row("scipy.special.entr", special.entr, _entr, HALF),
    row("scipy.special.erf", special.erf, mp.erf, LINE),
    row("scipy.special.erfc", special.erfc, mp.erfc, LINE),
    row("scipy.special.erfcx", special.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), LINE[:-4]),
    row("scipy.special.erfinv", special.erfinv, mp.erfinv, BETWEEN),
    row("scipy.special.exp1", special.exp1, mp.e1, MIDDLE),
    row("scipy.special.expi", special.expi, mp.ei, MIDDLE),
    row("scipy.special.expit", special.expit, lambda x: 1 / (1 + mp.exp(-x)), LINE),
    *(
        row(f"scipy.special.expn, n={n}", lambda x, n=n: special.expn(n, x), lambda x, n=n: mp.expint(n, x), MIDDLE)
        for n in (0, 1, 2, 3)
    ),
    row("scipy.special.factorial", special.factorial, lambda n: mp.gamma(n + 1) if n >= 0 else mp.nan, HALF[:-2]),
    row("scipy.special.fresnel, sine", lambda x: special.fresnel(x)[0], mp.fresnels, LINE[:-2]),
    row("scipy.special.fresnel, cosine", lambda x: special.fresnel(x)[1], mp.fresnelc, LINE[:-2]),
    row("scipy.special.gamma", special.gamma, mp.gamma, LINE[:-2]),
    row("scipy.special.gammainc", special.gammainc, igamma, FEW, HALF),
    row("scipy.special.gammaincc", special.gammaincc, lambda a, x: 1 - igamma(a, x), FEW, HALF),
    row("scipy.special.gammaln", special.gammaln, gammaln, LINE[:-1]),
    row("scipy.special.loggamma", special.loggamma, lambda x: mp.loggamma(positive(x)), HALF),
    row(
        "scipy.special.hyp1f1", special.hyp1f1, mp.hyp1f1, (0.5, 1.0, 2.0), (0.5, 1.0, 2.0), (0.0, 0.5, 1.0, -1.0, 5.0)
    ),
    row("scipy.special.i0", special.i0, lambda x: mp.besseli(0, x), LINE[:-2]),
    row("scipy.special.i0e", special.i0e, lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), LINE[:-2]),
    row("scipy.special.i1", special.i1, lambda x: mp.besseli(1, x), LINE[:-2]),
    row("scipy.special.i1e", special.i1e, lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), LINE[:-2]),
    row("scipy.special.kl_div", special.kl_div, lambda p, q: _rel_entr(p, q) - p + q, HALF[:-1], HALF[:-1]),
    row("scipy.special.log_ndtr", special.log_ndtr, lambda x: mp.log(mp.ncdf(x)), LINE[:-2]),
    row("scipy.special.logit", special.logit, lambda p: mp.log(p / (1 - p)) if 0 < p < 1 else mp.nan, UNIT),
    row("scipy.special.logsumexp", lambda x, y: special.logsumexp(jnp.stack([x, y]), 0), _logsumexp, ANY, ANY),
    row(
        "scipy.special.softmax",
        lambda x, y: special.softmax(jnp.stack([x, y]), axis=0)[0],
        lambda x, y: 1 / (1 + mp.exp(y - x)),
        ANY[:-1],
        ANY[:-1],
    ),
    row(
        "scipy.special.log_softmax",
        lambda x, y: special.log_softmax(jnp.stack([x, y]), axis=0)[0],
        lambda x, y: -mp.log(1 + mp.exp(y - x)),
        ANY[:-1],
        ANY[:-1],
    ),
    *(
        row(
            f"scipy.special.multigammaln, d={d}",
            lambda a, d=d: special.multigammaln(a, d),
            lambda a, d=d: _multigammaln(a, d),
            (0.75, 1.0, 1.5, 2.0, 10.0),
        )
        for d in (1, 2)
    ),
    row("scipy.special.ndtr", special.ndtr, mp.ncdf, LINE),
    row("scipy.special.ndtri", special.ndtri, _ndtri, (*UNIT, 1e-30, float(np.exp(-2.0)))),
    row("scipy.special.owens_t", special.owens_t, _owens_t, (0.0, 0.5, -1.0), (0.0, 1.0, -1.0)),
    row("scipy.special.poch", special.poch, lambda z, m: mp.rf(z, m), (0.5, 1.0, 2.0, 3.5), (0.0, 0.5, 1.0, 2.0)),
    *(
        row(
            f"scipy.special.polygamma, n={n}",
            lambda x, n=n: special.polygamma(n, x),
            lambda x, n=n: mp.psi(n, x),
            HALF[:-1],
        )
        for n in (0, 1, 2)
    ),
    row("scipy.special.rel_entr", special.rel_entr, _rel_entr, HALF[:-1], HALF[:-1]),
    row("scipy.special.sici, sine", lambda x: special.sici(x)[0], mp.si, LINE[:-2]),
    row("scipy.special.sici, cosine", lambda x: special.sici(x)[1], lambda x: mp.ci(x).real, LINE[:-2]),
    row("scipy.special.spence", special.spence, _spence, HALF[:-1]),
    *(
        row(
            f"scipy.special.sph_harm_y, n={n}, m={m}",
            lambda t, p, n=n, m=m: jnp.real(
                jnp.vectorize(
                    lambda t, p: special.sph_harm_y(jnp.array([n]), jnp.array([m]), t[None], p[None], n_max=2)[0]
                )(t, p)
            ),
            lambda t, p, n=n, m=m: mp.spherharm(n, m, t, p).real,
            (0.0, 0.5, float(np.pi / 2)),
            (0.0, 1.0),
        )
        for n, m in ((1, 0), (2, 1))
    ),
    row("scipy.special.wofz, real part", lambda x: jnp.real(special.wofz(x)), lambda x: mp.exp(-x * x), LINE[:-4]),
    row(
        "scipy.special.wofz, imaginary part",
        lambda x: jnp.imag(special.wofz(x)),
        lambda x: mp.exp(-x * x) * mp.erfi(x),
        LINE[:-4],
    ),
    row("scipy.special.xlog1py", special.xlog1py, lambda x, y: xlogy(x, 1 + y), ANY[:-1], (0.0, -1.0, 0.5, 3.0)),
    row("scipy.special.xlogy", special.xlogy, xlogy, ANY[:-1], (0.0, 1.0, 0.5, 3.0)),
    row("scipy.special.zeta", special.zeta, mp.zeta, (1.5, 2.0, 3.0), FEW),
]
if hasattr(special, "erfcinv"):  # since JAX 0.12
    SPECIAL.append(row("scipy.special.erfcinv", special.erfcinv, lambda y: mp.erfinv(1 - y), (*UNIT, 1.5, 2.0)))

STEPS = ("ceil", "floor", "rint", "trunc")  # of no slope that could have a limit

UNARY = [
    row(f"numpy.{name}", getattr(jnp, name), reference, LINE[:-2] if name in STEPS else LINE)
    for name, reference in {
        "abs": abs,
        "arccos": mp.acos,
        "arccosh": mp.acosh,
        "arcsin": mp.asin,
        "arcsinh": mp.asinh,
        "arctan": mp.atan,
        "arctanh": mp.atanh,
        "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
        "ceil": mp.ceil,
        "cos": mp.cos,
        "cosh": mp.cosh,
        "deg2rad": mp.radians,
        "exp": mp.exp,
        "exp2": lambda x: mp.mpf(2) ** x,
        "expm1": mp.expm1,
        "fabs": abs,
        "floor": mp.floor,
        "i0": lambda x: mp.besseli(0, x),
        "log": mp.log,
        "log10": mp.log10,
        "log1p": mp.log1p,
        "log2": lambda x: mp.log(x, 2),
        "nan_to_num": lambda x: x,
        "negative": lambda x: -x,
        "positive": lambda x: x,
        "rad2deg": mp.degrees,
        "reciprocal": lambda x: 1 / x,
        "rint": mp.nint,
        "sign": mp.sign,
        "sin": mp.sin,
        "sinc": _sinc,
        "sinh": mp.sinh,
        "sqrt": mp.sqrt,
        "square": lambda x: x * x,
        "tan": mp.tan,
        "tanh": mp.tanh,
        "trunc": lambda x: mp.sign(x) * mp.floor(abs(x)),
    }.items()
]

BINARY = [
    row(f"numpy.{name}", getattr(jnp, name), reference, ANY, ANY)
    for name, reference in {
        "add": lambda x, y: x + y,
        "arctan2": _angle,
        "copysign": lambda x, y: abs(x) * (1 if y >= 0 else -1),
        "divide": lambda x, y: x / y,
        "float_power": _power,
        "floor_divide": lambda x, y: mp.floor(x / y),
        "fmax": max,
        "fmin": min,
        "fmod": lambda x, y: x - y * mp.sign(x / y) * mp.floor(abs(x / y)),
        "heaviside": lambda x, y: y if x == 0 else mp.mpf(x > 0),
        "hypot": mp.hypot,
        "logaddexp": _logsumexp,
        "logaddexp2": lambda x, y: _logsumexp(x * mp.log(2), y * mp.log(2)) / mp.log(2),
        "maximum": max,
        "minimum": min,
        "multiply": lambda x, y: x * y,
        "power": _power,
        "remainder": lambda x, y: x - y * mp.floor(x / y),
        "subtract": lambda x, y: x - y,
    }.items()
]
