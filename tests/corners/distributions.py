"""Distributions of `jax.scipy.stats`, the same in mpmath, and their corners."""

from jax.scipy import stats
from mpmath import mp

from tests.corners.elementwise import INF, betaln, gammaln, igamma, positive, row, xlogy

LINE = (0.0, 1.0, -1.0, 0.5, -2.5, 30.0, -30.0, INF, -INF)
FROM_0 = (0.0, 1e-9, 0.5, 1.0, 2.0, 5.0, 30.0)
SHAPES = (0.5, 1.0, 1.5, 2.0)
UNIT = (0.0, 1e-9, 0.25, 0.5, 1.0)


def _normal(x):
    return -(x**2) / 2 - mp.log(2 * mp.pi) / 2


def _quantile(p):
    return mp.sqrt(2) * mp.erfinv(2 * p - 1) if 0 < p < 1 else mp.nan


def _beta(x, a, b):
    if not 0 <= x <= 1:
        return mp.nan
    return xlogy(a - 1, x) + xlogy(b - 1, 1 - x) - betaln(positive(a), positive(b))


def _gamma(x, a):
    return xlogy(a - 1, x) - x - gammaln(positive(a)) if x >= 0 else mp.nan


def _student(x, df):
    half = df / 2
    return gammaln(half + 0.5) - gammaln(half) - mp.log(mp.pi * df) / 2 - (half + 0.5) * mp.log1p(x**2 / df)


def _betabinom(k, n, a, b):
    choose = -mp.log1p(n) - betaln(n - k + 1, k + 1)
    return choose + betaln(k + a, n - k + b) - betaln(positive(a), positive(b))


def _choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _binomial(k, n, p):
    return _choose(n, k) + xlogy(k, p) + xlogy(n - k, 1 - p) if 0 <= p <= 1 else mp.nan


def _negative_binomial(k, n, p):
    return gammaln(k + n) - gammaln(n) - gammaln(k + 1) + xlogy(n, p) + xlogy(k, 1 - p) if 0 <= p <= 1 else mp.nan


def _vonmises(x, kappa):
    return kappa * mp.cos(x) - mp.log(2 * mp.pi * mp.besseli(0, kappa)) if kappa > 0 else mp.nan


def _wrapcauchy(x, c):
    if not (0 < c < 1 and 0 <= x <= 2 * mp.pi):
        return mp.nan
    return mp.log((1 - c**2) / (2 * mp.pi * (1 + c**2 - 2 * c * mp.cos(x))))


def _gennorm(x, beta):
    return mp.log(positive(beta) / 2) - gammaln(1 / beta) - abs(x) ** beta


def _truncated(x, a, b):
    return _normal(x) - mp.log(mp.ncdf(b) - mp.ncdf(a)) if a <= x <= b and a < b else mp.nan


def _from_0(fun):
    return lambda x, *rest: fun(x, *rest) if x >= 0 else mp.nan


def _from_below(fun):
    """Make it 0 below 0."""
    return lambda x, *rest: fun(x, *rest) if x >= 0 else mp.mpf(0)


def _name(of, fun):
    return f"scipy.stats.{of}.{fun}"


DISTRIBUTIONS = [
    row(_name("norm", "logpdf"), stats.norm.logpdf, _normal, LINE),
    row(_name("norm", "pdf"), stats.norm.pdf, lambda x: mp.exp(_normal(x)), LINE),
    row(_name("norm", "cdf"), stats.norm.cdf, mp.ncdf, LINE),
    row(_name("norm", "logcdf"), stats.norm.logcdf, lambda x: mp.log(mp.ncdf(x)), LINE[:-2]),
    row(_name("norm", "sf"), stats.norm.sf, lambda x: mp.ncdf(-x), LINE),
    row(_name("norm", "logsf"), stats.norm.logsf, lambda x: mp.log(mp.ncdf(-x)), LINE[:-2]),
    row(_name("norm", "ppf"), stats.norm.ppf, _quantile, UNIT),
    row(_name("norm", "isf"), stats.norm.isf, lambda q: -_quantile(q), UNIT),
    row(_name("beta", "logpdf"), stats.beta.logpdf, _beta, UNIT, SHAPES, SHAPES),
    row(_name("beta", "pdf"), stats.beta.pdf, lambda *xs: mp.exp(_beta(*xs)), (0.25, 0.5), SHAPES, SHAPES),
    row(_name("gamma", "logpdf"), stats.gamma.logpdf, _gamma, FROM_0, SHAPES),
    row(_name("gamma", "pdf"), stats.gamma.pdf, _from_below(lambda x, a: mp.exp(_gamma(x, a))), FROM_0, SHAPES),
    row(_name("gamma", "cdf"), stats.gamma.cdf, _from_below(lambda x, a: igamma(a, x)), FROM_0, SHAPES),
    row(
        _name("chi2", "logpdf"),
        stats.chi2.logpdf,
        lambda x, df: _gamma(x / 2, df / 2) - mp.log(2),
        FROM_0,
        (1.0, 2.0, 3.0, 4.0),
    ),
    row(
        _name("chi2", "cdf"),
        stats.chi2.cdf,
        _from_below(lambda x, df: igamma(df / 2, x / 2)),
        FROM_0,
        (1.0, 2.0, 3.0, 4.0),
    ),
    row(_name("expon", "logpdf"), stats.expon.logpdf, _from_0(lambda x: -x), FROM_0),
    row(_name("expon", "cdf"), stats.expon.cdf, _from_below(lambda x: -mp.expm1(-x)), FROM_0),
    row(_name("expon", "logcdf"), stats.expon.logcdf, _from_0(lambda x: mp.log(-mp.expm1(-x))), FROM_0),
    row(_name("laplace", "logpdf"), stats.laplace.logpdf, lambda x: -abs(x) - mp.log(2), LINE),
    row(
        _name("laplace", "cdf"),
        stats.laplace.cdf,
        lambda x: mp.exp(x) / 2 if x <= 0 else 1 - mp.exp(-x) / 2,
        (*LINE, 800.0, -800.0),
    ),
    row(_name("logistic", "logpdf"), stats.logistic.logpdf, lambda x: -x - 2 * mp.log1p(mp.exp(-x)), LINE[:-2]),
    row(_name("logistic", "cdf"), stats.logistic.cdf, lambda x: 1 / (1 + mp.exp(-x)), LINE),
    row(
        _name("logistic", "ppf"),
        stats.logistic.ppf,
        lambda p: mp.log(p / (1 - p)) if 0 < p < 1 else mp.nan,
        UNIT,
    ),
    row(_name("cauchy", "logpdf"), stats.cauchy.logpdf, lambda x: -mp.log(mp.pi * (1 + x**2)), LINE),
    row(_name("cauchy", "cdf"), stats.cauchy.cdf, lambda x: 0.5 + mp.atan(x) / mp.pi, LINE),
    row(_name("cauchy", "ppf"), stats.cauchy.ppf, lambda p: mp.tan(mp.pi * (p - 0.5)), (0.25, 0.5, 0.75)),
    row(_name("t", "logpdf"), stats.t.logpdf, _student, (0.0, 1.0, -1.0, 30.0), SHAPES),
    row(
        _name("pareto", "logpdf"),
        stats.pareto.logpdf,
        lambda x, b: mp.log(b) - (b + 1) * mp.log(x) if x >= 1 else mp.nan,
        (1.0, 2.0, 30.0),
        SHAPES,
    ),
    row(
        _name("poisson", "logpmf"),
        stats.poisson.logpmf,
        lambda k, mu: xlogy(k, mu) - mu - gammaln(k + 1),
        (0.0, 1.0, 3.0),
        (0.0, 0.5, 1.0, 10.0),
        smooth_in=(1,),
    ),
    row(
        _name("bernoulli", "logpmf"),
        stats.bernoulli.logpmf,
        lambda k, p: mp.log(p if k == 1 else 1 - p) if 0 <= p <= 1 else mp.nan,
        (0.0, 1.0),
        UNIT,
        smooth_in=(1,),
    ),
    row(_name("binom", "logpmf"), stats.binom.logpmf, _binomial, (0.0, 1.0, 3.0), (3.0,), UNIT, smooth_in=(2,)),
    row(
        _name("nbinom", "logpmf"),
        stats.nbinom.logpmf,
        _negative_binomial,
        (0.0, 1.0, 3.0),
        (1.0, 2.5),
        UNIT,
        smooth_in=(1, 2),
    ),
    row(
        _name("geom", "logpmf"),
        stats.geom.logpmf,
        lambda k, p: xlogy(k - 1, 1 - p) + mp.log(p) if 0 <= p <= 1 else mp.nan,
        (1.0, 3.0),
        UNIT,
        smooth_in=(1,),
    ),
    row(
        _name("betabinom", "logpmf"),
        stats.betabinom.logpmf,
        _betabinom,
        (0.0, 1.0, 2.0),
        (2.0,),
        SHAPES,
        SHAPES,
        smooth_in=(2, 3),
    ),
    row(_name("gennorm", "logpdf"), stats.gennorm.logpdf, _gennorm, (0.0, 1.0, -1.0, 0.5), (1.0, 1.5, 2.0, 3.0)),
    row(_name("vonmises", "logpdf"), stats.vonmises.logpdf, _vonmises, (0.0, 1.0, -3.0), (0.0, 1e-9, 0.5, 1.0, 30.0)),
    row(_name("wrapcauchy", "logpdf"), stats.wrapcauchy.logpdf, _wrapcauchy, (0.0, 1.0, 3.0), (0.25, 0.5, 0.75)),
    row(
        _name("truncnorm", "logpdf"),
        stats.truncnorm.logpdf,
        _truncated,
        (0.0, 0.5, -0.5),
        (-1.0, -0.5, -20.0),
        (0.5, 1.0, 20.0),
    ),
    row(_name("gumbel_r", "logpdf"), stats.gumbel_r.logpdf, lambda x: -x - mp.exp(-x), LINE[:-2]),
    row(_name("gumbel_l", "logpdf"), stats.gumbel_l.logpdf, lambda x: x - mp.exp(x), LINE[:-2]),
]
