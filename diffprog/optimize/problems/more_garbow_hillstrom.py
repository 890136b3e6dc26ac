"""The unconstrained problems of More, Garbow & Hillstrom (1981), as residuals, by their numbers in the paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize.problems.problem import Problem


def _rosenbrock(x):
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def _freudenstein_roth(x):
    a, b = x
    return jnp.stack([a - 13 + ((5 - b) * b - 2) * b, a - 29 + ((b + 1) * b - 14) * b])


def _powell_badly_scaled(x):
    return jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001])


def _brown_badly_scaled(x):
    return jnp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def _beale(x):
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - jnp.stack([x[1], x[1] ** 2, x[1] ** 3]))


def _jennrich_sampson(x):
    i = np.arange(1.0, 11)
    return 2 + 2 * i - jnp.exp(i * x[0]) - jnp.exp(i * x[1])


def _helical_valley(x):
    turn = jnp.arctan2(x[1], x[0]) / (2 * np.pi)
    return jnp.stack([10 * (x[2] - 10 * turn), 10 * (jnp.hypot(x[0], x[1]) - 1), x[2]])


_BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])


def _bard(x):
    u = np.arange(1.0, 16)
    v = 16 - u
    return _BARD - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


_HALF_BELL = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
_BELL = np.array([*_HALF_BELL, 0.3989, *_HALF_BELL[::-1]])


def _gaussian(x):
    t = (8 - np.arange(1.0, 16)) / 2
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - _BELL


_MEYER = np.array(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872], float
)


def _meyer(x):
    return x[0] * jnp.exp(x[1] / (45 + 5 * np.arange(1.0, 17) + x[2])) - _MEYER


def _box(x):
    t = np.arange(1.0, 11) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def _powell_singular(x):
    a, b, c, d = x.reshape(-1, 4).T
    parts = [a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2]
    return jnp.concatenate(parts)


def _wood(x):
    a, b, c, d = x
    parts = [10 * (b - a**2), 1 - a, np.sqrt(90) * (d - c**2), 1 - c, np.sqrt(10) * (b + d - 2), (b - d) / np.sqrt(10)]
    return jnp.stack(parts)


_KOWALIK = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
_OSBORNE_TIMES = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def _kowalik_osborne(x):
    u = _OSBORNE_TIMES
    return _KOWALIK - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def _brown_dennis(x):
    t = np.arange(1.0, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


_OSBORNE = np.array(
    [
        *[0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751],
        *[0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490],
        *[0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406],
    ]
)


def _osborne(x):
    t = 10 * np.arange(33.0)
    return _OSBORNE - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def _biggs(x):
    t = np.arange(1.0, 14) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


def _watson(x):
    t, j = np.arange(1.0, 30)[:, None] / 29, np.arange(len(x))
    powers, slopes = t**j, j * t ** np.maximum(j - 1, 0)
    rest = jnp.stack([x[0], x[1] - x[0] ** 2 - 1])
    return jnp.concatenate([slopes @ x - (powers @ x) ** 2 - 1, rest])


def _extended_rosenbrock(x):
    return jnp.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def _penalty(x):
    return jnp.append(np.sqrt(1e-5) * (x - 1), jnp.sum(x**2) - 0.25)


def _variably_dimensioned(x):
    total = jnp.sum(np.arange(1.0, len(x) + 1) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([total, total**2])])


def _trigonometric(x):
    i = np.arange(1.0, len(x) + 1)
    return len(x) - jnp.sum(jnp.cos(x)) + i * (1 - jnp.cos(x)) - jnp.sin(x)


def _brown_almost_linear(x):
    return jnp.append(x[:-1] + jnp.sum(x) - (len(x) + 1), jnp.prod(x) - 1)


def _broyden_tridiagonal(x):
    beside = jnp.pad(x, 1)
    return (3 - 2 * x) * x - beside[:-2] - 2 * beside[2:] + 1


def _chebyquad(x):
    t = 2 * x - 1
    polynomials = [jnp.ones_like(t), t]
    for _ in range(len(x) - 1):
        polynomials.append(2 * t * polynomials[-1] - polynomials[-2])
    integrals = [0 if i % 2 else -1 / (i * i - 1) for i in range(1, len(x) + 1)]
    return jnp.stack([jnp.mean(p) - q for p, q in zip(polynomials[1:], integrals, strict=True)])


def _sum_squares(residuals, x: jax.Array) -> jax.Array:
    return jnp.sum(residuals(x) ** 2)


def _problem(name, residuals, start, *values):
    start = np.array(start, float)
    return Problem(name, partial(_sum_squares, residuals), (start,), values, residuals=residuals)


MORE_GARBOW_HILLSTROM = (
    _problem("1 Rosenbrock", _rosenbrock, [-1.2, 1], 0.0),
    _problem("2 Freudenstein-Roth", _freudenstein_roth, [0.5, -2], 0.0, 48.98425368),
    _problem("3 Powell badly scaled", _powell_badly_scaled, [0, 1], 0.0),
    _problem("4 Brown badly scaled", _brown_badly_scaled, [1, 1], 0.0),
    _problem("5 Beale", _beale, [1, 1], 0.0),
    _problem("6 Jennrich-Sampson", _jennrich_sampson, [0.3, 0.4], 124.36218236),
    _problem("7 Helical valley", _helical_valley, [-1, 0, 0], 0.0),
    _problem("8 Bard", _bard, [1, 1, 1], 8.2148773e-3, 17.4286),
    _problem("9 Gaussian", _gaussian, [0.4, 1, 0], 1.1279328e-8),
    _problem("10 Meyer", _meyer, [0.02, 4000, 250], 87.94585517),
    _problem("12 Box", _box, [0, 10, 20], 0.0),
    _problem("13 Powell singular", _powell_singular, [3, -1, 0, 1], 0.0),
    _problem("14 Wood", _wood, [-3, -1, -3, -1], 0.0),
    _problem("15 Kowalik-Osborne", _kowalik_osborne, [0.25, 0.39, 0.415, 0.39], 3.0750560e-4, 1.02734e-3),
    _problem("16 Brown-Dennis", _brown_dennis, [25, 5, -5, -1], 85822.20163),
    _problem("17 Osborne 1", _osborne, [0.5, 1.5, -1, 0.01, 0.02], 5.4648947e-5),
    _problem("18 Biggs EXP6", _biggs, [1, 2, 1, 1, 1, 1], 0.0, 5.6556499e-3, 0.306366772),
    _problem("20 Watson, 6", _watson, [0] * 6, 2.2876701e-3),
    _problem("20 Watson, 9", _watson, [0] * 9, 1.3997601e-6),
    _problem("21 Extended Rosenbrock, 100", _extended_rosenbrock, [-1.2, 1] * 50, 0.0),
    _problem("22 Extended Powell, 60", _powell_singular, [3, -1, 0, 1] * 15, 0.0),
    _problem("23 Penalty I, 10", _penalty, np.arange(1, 11), 7.0876515e-5),
    _problem("25 Variably dimensioned, 10", _variably_dimensioned, 1 - np.arange(1, 11) / 10, 0.0),
    _problem("26 Trigonometric, 10", _trigonometric, [0.1] * 10, 0.0, 2.7950561e-5),
    _problem("27 Brown almost linear, 10", _brown_almost_linear, [0.5] * 10, 0.0, 1.0),
    _problem("30 Broyden tridiagonal, 30", _broyden_tridiagonal, [-1] * 30, 0.0),
    _problem("35 Chebyquad, 8", _chebyquad, np.arange(1, 9) / 9, 3.5168737e-3),
)
