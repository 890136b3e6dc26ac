"""Functions of matrices in JAX, the same in mpmath, and their corners.

A row's function makes one number: the sum of the results times fixed weights. Its matrices move along two fixed
directions, s E + t F, and the derivatives are those in s and t at 0. What is unique up to signs or rotations alone is
read through what is unique, such as a projector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import scipy as jsp
from mpmath import mp

import diffprog as dp
from tests.corners import matrix_oracle as exact
from tests.corners import oracle
from tests.corners.sweep import Finding

la, sla = jnp.linalg, jsp.linalg
INF = float("inf")
ALONG = ((0,), (1,), (0, 0), (0, 1))


@dataclass(frozen=True)
class MatrixRow:
    """A function of matrices.

    Attributes:
      name: its path below `jax`, with what is held fixed.
      fun: the function, of arrays.
      reference: the same of mpmath's matrices.
      corners: for each a word, and the arguments.
    """

    name: str
    fun: Callable
    reference: Callable
    corners: tuple


# ---------------------------------------------------------------- judging


def weights(size):
    k = np.arange(1, size + 1)
    return np.cos(k) + 0.25 + 1j * np.sin(2.0 * k)


def _number(results):
    """Sum up the real part of the results times weights."""
    flat = jnp.concatenate([jnp.ravel(jnp.asarray(x)) for x in jax.tree.leaves(results)])
    chosen = weights(flat.size)
    return jnp.sum(jnp.real(flat) * chosen.real) - jnp.sum(jnp.imag(flat) * chosen.imag)


def _exact_number(results):
    results = results if isinstance(results, (tuple, list)) else [results]
    flat = [x for result in results for x in (result if isinstance(result, mp.matrix) else [result])]
    return mp.fsum(
        mp.re(x) * mp.mpf(float(w.real)) - mp.im(x) * mp.mpf(float(w.imag))
        for x, w in zip(flat, weights(len(flat)), strict=True)
    )


def directions(args):
    """Make two directions for each argument, of entries near 1."""
    draw = np.random.default_rng(0)

    def some(x):
        real = draw.normal(size=x.shape)
        return real + 1j * draw.normal(size=x.shape) if np.iscomplexobj(x) else real

    return [[some(x) for x in args] for _ in range(2)]


def _exact_matrix(x):
    number = (lambda v: mp.mpc(complex(v))) if np.iscomplexobj(x) else (lambda v: mp.mpf(float(v)))
    rows = x.reshape(-1, 1) if x.ndim == 1 else x.reshape(x.shape[0], -1)
    return mp.matrix([[number(v) for v in row] for row in rows])


def sweep_matrices(row: MatrixRow) -> Iterator[Finding]:
    """Yield the findings of a row: numbers relative to the function's value and the size of its arguments."""
    moved = lambda u, args, along, other: row.fun(
        *(a + u[0] * e + u[1] * f for a, e, f in zip(args, along, other, strict=True))
    )
    number = lambda u, args, along, other: _number(moved(u, args, along, other))
    programs = {grad: _derivatives(grad, number) for grad in (dp.grad, jax.grad)}
    for place, args in row.corners:
        ways = directions(args)
        with jax.enable_x64(True):
            here = (jnp.zeros(2), list(map(jnp.asarray, args)), *(list(map(jnp.asarray, way)) for way in ways))
            try:
                value = float(jax.jit(number)(*here))
            except (TypeError, ValueError, NotImplementedError):  # the function refuses such a matrix
                continue
            found = {grad: _all(programs[grad], here) for grad in programs}
        with mp.workdps(oracle.DIGITS):
            size, scale, truths = _truths(row.reference, args, ways)
            relative = lambda x, order: float(mp.mpf(float(x)) * size**order / scale)
            expected = truths.pop("value")
            value_right = bool(np.isnan(expected)) or bool(
                np.isclose(relative(value, 0), expected, rtol=1e-6, atol=1e-9)
            )
            for along in ALONG:
                ours, theirs = (relative(found[grad][along], len(along)) for grad in (dp.grad, jax.grad))
                truth = truths[along] if not np.isnan(value) else None
                yield Finding(row.name, (place,), along, truth, ours, theirs, value_right)


def _derivatives(grad, number):
    slope = grad(number)
    bend = grad(lambda *args: slope(*args)[0])
    return jax.jit(slope), jax.jit(bend)


def _all(programs, here):
    """Run both, with NaN for what it raises at."""
    found = []
    for program in programs:
        try:
            found += map(float, program(*here))
        except Exception:  # of many kinds: it has no such derivative
            found += [float("nan")] * 2
    return dict(zip(ALONG, found, strict=True))


def _truths(reference, args, ways):
    """Compute the value and the derivatives, of the function divided by its value and the arguments by their size.

    Returns:
      The size, the value that was divided by, and the numbers, None for a derivative that does not exist.
    """
    largest = max((float(np.max(np.abs(x))) for x in args if x.size), default=0.0)
    size = mp.mpf(largest) if largest > 1e9 or 0 < largest < 1e-9 else mp.mpf(1)
    if not all(x.size for x in args):
        return size, mp.mpf(1), {"value": float("nan"), **dict.fromkeys(ALONG, 0.0)}
    starts, first, second = (list(map(_exact_matrix, matrices)) for matrices in (args, *ways))

    def at(s, t):
        return _exact_number(
            reference(*(a + e * (s * size) + f * (t * size) for a, e, f in zip(starts, first, second, strict=True)))
        )

    try:
        scale = abs(at(mp.mpf(0), mp.mpf(0)))
        scale = scale if mp.isfinite(scale) and (scale > 1e9 or 0 < scale < 1e-9) else mp.mpf(1)
    except (ValueError, ZeroDivisionError):  # outside of the domain
        scale = mp.mpf(1)
    fun = lambda s, t: at(s, t) / scale
    truths = {along: oracle.derivative(fun, (0.0, 0.0), along) for along in ALONG[:2]}
    both = oracle.derivative(lambda u: fun(u, u), (0.0,), (0,))
    linear = None not in truths.values() and both is not None and np.isclose(both, sum(truths.values()), atol=1e-9)
    if not linear:
        truths = dict.fromkeys(ALONG)
    else:
        truths |= {along: oracle.derivative(fun, (0.0, 0.0), along) for along in ALONG[2:]}
    return size, scale, truths | {"value": oracle.value(fun, (0.0, 0.0))}


# ---------------------------------------------------------------- corners

EYE, ZERO, TILTED = np.eye(3), np.zeros((3, 3)), np.array([[2.0, 0.5, -1.0], [0.3, 1.5, 0.7], [-0.2, 0.4, 3.0]])
RANK_2 = np.array([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]])
RANK_1 = np.outer([1.0, 2, -1], [2.0, 1, 1])
NILPOTENT = np.array([[0.0, 1, 2], [0, 0, 3], [0, 0, 0]])
TURN = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1.0]])
ORTHOGONAL = TURN @ np.array([[1, 0, 0], [0, 0.28, -0.96], [0, 0.96, 0.28]])
COMPLEX = TILTED + 1j * np.array([[0.0, 1, 0.5], [-0.3, 0.2, 1], [0.4, 0, -1]])
WIDE, TALL = TILTED[:2], TILTED[:, :2]
REPEATED = ORTHOGONAL @ np.diag([2.0, 2, 5]) @ ORTHOGONAL.T
REPEATED_BELOW = ORTHOGONAL @ np.diag([5.0, 5, 2]) @ ORTHOGONAL.T
SEMIDEFINITE = np.outer([1.0, 2, 2], [1.0, 2, 2])
ONE, EMPTY, COLUMN = np.array([[2.5]]), np.zeros((0, 0)), np.array([1.0, -2.0, 0.5])
FOUR = np.kron([[2.0, 0.5], [0.3, 1.5]], [[1.0, 0.2], [-0.4, 2.0]])
FOUR_RANK_3 = FOUR - np.outer(FOUR[:, 0], [1.0, 0, 0, 0])
FOUR_RANK_2 = np.diag([1.0, 0, 0, 2])


def _places(**places):
    named = ((word.replace("_", " "), args) for word, args in places.items())
    return tuple((word, args if isinstance(args, tuple) else (args,)) for word, args in named)


REGULAR = _places(
    identity=EYE, tilted=TILTED, complex=COMPLEX, one_by_one=ONE, tiny=TILTED * 1e-100, huge=TILTED * 1e100, empty=EMPTY
)
TRIANGULAR = _places(triangular=np.tril(TILTED), upper_triangular=np.triu(TILTED))
SINGULAR = _places(zero=ZERO, rank_2=RANK_2, rank_1=RANK_1, nilpotent=NILPOTENT, zero_by_one=np.zeros((1, 1)))
FOURS = _places(four=FOUR, four_of_rank_3=FOUR_RANK_3, four_of_rank_2=FOUR_RANK_2, zero_four=np.zeros((4, 4)))
SQUARE = REGULAR + TRIANGULAR + SINGULAR
SPECTRA = (
    REGULAR
    + TRIANGULAR[:1]
    + _places(zero=ZERO, repeated=REPEATED, repeated_above=REPEATED_BELOW, rank_1=SEMIDEFINITE, orthogonal=ORTHOGONAL)
)
DEFINITE = _places(
    identity=EYE,
    repeated=REPEATED,
    tilted=TILTED,
    complex=COMPLEX @ COMPLEX.conj().T,
    one_by_one=ONE,
    tiny=TILTED * 1e-100,
    huge=TILTED * 1e100,
    semidefinite=SEMIDEFINITE,
    empty=EMPTY,
)
SHAPES = _places(wide=WIDE, tall=TALL)
SHORT = _places(tall=TALL, tall_of_rank_1=np.outer([1.0, 2, -1], [2.0, 1]), wide=WIDE)
VECTORS = _places(
    vector=COLUMN,
    zero=np.zeros(3),
    one_zero=np.array([3.0, 0, -4]),
    tie=np.array([2.0, -2, 2]),
    complex=COLUMN + 1j * np.array([0.0, 1, 0]),
    one=np.array([2.0]),
    tiny=COLUMN * 1e-100,
    huge=COLUMN * 1e100,
)


def _without(corners, name):
    return tuple(corner for corner in corners if corner[0] != name)


def _real(corners):
    return tuple((word, args) for word, args in corners if not any(map(np.iscomplexobj, args)))


def _with(corners, *others):
    """Add further arguments of a size near 1, of the matrix's dtype."""
    return tuple(
        (word, (*args, *(x[: len(args[0])].astype(args[0].dtype) for x in others)))
        for word, args in corners
        if word not in ("empty", "tiny", "huge")
    )


# ---------------------------------------------------------------- results that are unique


def _one_sided(fun, a):
    """Compute V diag(fun(w)) V^H by JAX."""
    w, v = la.eigh(a)
    return (v * fun(w)) @ jnp.conj(v.T)


def _projector(a, chosen):
    v = la.eigh(a)[1][:, list(chosen)]
    return v @ jnp.conj(v.T)


def _signs(x):
    return x / jnp.abs(x)


def _positive_qr(a):
    q, r = la.qr(a)
    phase = jax.lax.stop_gradient(_signs(jnp.diagonal(r)))
    return q * phase, jnp.conj(phase)[:, None] * r


def _positive_hessenberg(a):
    h, _ = sla.hessenberg(a, calc_q=True)
    signs = jax.lax.stop_gradient(jnp.cumprod(jnp.append(1.0, _signs(jnp.diagonal(h, -1)))))
    return jnp.conj(signs)[:, None] * h * signs


def _recovered(a):
    t, z = sla.schur(a)
    return z @ t @ jnp.conj(z.T), jnp.sum(t * t.T)


def _svd_product(a, full=False):
    u, s, vh = la.svd(a, full_matrices=full)
    k = s.shape[-1]
    return u[:, :k] @ vh[:k], jnp.sum(s**2)


def _shifted(x):
    return x * x + jnp.sin(x)


def _flat(fun):
    """Make a function of mpmath's columns of one of NumPy's vectors of objects."""
    return lambda *xs: mp.matrix(np.asarray(fun(*(np.array(list(x), dtype=object) for x in xs)), dtype=object).tolist())


def _powers(a, n):
    return a**n if n else mp.eye(a.rows)


def _eye_like(a):
    return mp.eye(a.rows)


def _cross(x, y):
    return [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]


def _tridiagonal(d, e):
    n = len(d)
    return exact.entries(n, n, lambda i, j: d[i] if i == j else e[min(i, j)] if abs(i - j) == 1 else mp.mpf(0))


def _leslie(f, s):
    n = len(f)
    return exact.entries(n, n, lambda i, j: f[j] if i == 0 else s[j] if i == j + 1 else mp.mpf(0))


def _companion(a):
    n = len(a) - 1
    return exact.entries(n, n, lambda i, j: -a[j + 1] / a[0] if i == 0 else mp.mpf(i == j + 1))


def _trace_of(fun, a):
    return sum(fun(a)[i, i] for i in range(a.rows))


def _tensor(x):
    return jnp.reshape(x, (2, 2, 2, 2))


make = MatrixRow
FUNCTIONS = [
    make("numpy.linalg.det", la.det, mp.det, SQUARE + FOURS),
    make("scipy.linalg.det", sla.det, mp.det, SQUARE + FOURS),
    make("numpy.linalg.slogdet", lambda a: la.slogdet(a)[1], exact.log_det, SQUARE + FOURS),
    make("numpy.linalg.slogdet, qr", lambda a: la.slogdet(a, method="qr")[1], exact.log_det, _real(SQUARE + FOURS)),
    make("numpy.linalg.inv", la.inv, exact.inverse, SQUARE),
    make("scipy.linalg.inv", sla.inv, exact.inverse, SQUARE),
    make("numpy.linalg.pinv", la.pinv, exact.pseudo_inverse, REGULAR + TRIANGULAR + SHAPES),
    make(
        "numpy.linalg.pinv, of rank r",
        lambda b, c: la.pinv(b @ c),
        exact.product_pseudo_inverse,
        _places(rank_2=(TALL, WIDE), rank_1=(TALL[:, :1], WIDE[:1]), complex=(COMPLEX[:, :2], COMPLEX[:2])),
    ),
    make("numpy.linalg.solve", la.solve, mp.lu_solve, _with(SQUARE, COLUMN)),
    make("scipy.linalg.solve", sla.solve, mp.lu_solve, _with(SQUARE, COLUMN)),
    make(
        "scipy.linalg.solve, pos",
        lambda a, b: sla.solve(a, b, assume_a="pos", lower=True),
        lambda a, b: mp.lu_solve(exact.from_lower(a), b),
        _with(DEFINITE[:5], COLUMN),
    ),
    make(
        "numpy.linalg.lstsq",
        lambda a, b: la.lstsq(a, b)[0],
        lambda a, b: exact.pseudo_inverse(a) * b,
        _with(REGULAR + TRIANGULAR + SHAPES, COLUMN),
    ),
    make("numpy.linalg.cholesky", la.cholesky, lambda a: exact.cholesky(exact.hermitian(a)), DEFINITE),
    make(
        "numpy.linalg.cholesky, one triangle",
        lambda a: la.cholesky(a, symmetrize_input=False),
        lambda a: exact.cholesky(exact.from_lower(a)),
        DEFINITE,
    ),
    make(
        "scipy.linalg.cholesky, lower",
        partial(sla.cholesky, lower=True),
        lambda a: exact.cholesky(exact.from_lower(a)),
        DEFINITE,
    ),
    make(
        "scipy.linalg.cho_solve",
        lambda a, b: sla.cho_solve(sla.cho_factor(a, lower=True), b),
        lambda a, b: mp.lu_solve(exact.from_lower(a), b),
        _with(DEFINITE[:5], COLUMN),
    ),
    make("numpy.linalg.qr", _positive_qr, exact.qr, SQUARE + SHAPES),
    make(
        "scipy.linalg.qr, r",
        lambda a: jnp.abs(jnp.diagonal(sla.qr(a, mode="r")[0])),
        lambda a: [mp.re(exact.qr(a)[1][i, i]) for i in range(min(a.rows, a.cols))],
        SQUARE + SHAPES,
    ),
    make("numpy.linalg.svdvals", la.svdvals, exact.singular_values, SPECTRA + SHAPES),
    make(
        "numpy.linalg.svd, sum of s + s^3",
        lambda a: sum(jnp.sum(la.svd(a, compute_uv=False) ** k) for k in (1, 3)),
        lambda a: sum(s + s**3 for s in exact.singular_values(a)),
        SPECTRA + SHAPES,
    ),
    make(
        "numpy.linalg.svd, sum of s^2",
        lambda a: jnp.sum(la.svd(a, compute_uv=False) ** 2),
        lambda a: sum(abs(x) ** 2 for x in a),
        SPECTRA + SHAPES,
    ),
    make(
        "numpy.linalg.svd, U V^H",
        lambda a: _svd_product(a)[0],
        lambda a: exact.polar(a)[0],
        SPECTRA + SHAPES,
    ),
    make(
        "scipy.linalg.svd, full, U V^H",
        lambda a: _svd_product(a, full=True)[0],
        lambda a: exact.polar(a)[0],
        SPECTRA + SHAPES,
    ),
    make("scipy.linalg.polar, svd", partial(sla.polar, method="svd"), exact.polar, SPECTRA + SHAPES[1:]),
    make("scipy.linalg.polar, qdwh", sla.polar, exact.polar, REGULAR[:4] + SHAPES[1:]),
    make("numpy.linalg.eigvalsh", la.eigvalsh, lambda a: exact.eigenvalues(exact.hermitian(a)), SPECTRA),
    make(
        "numpy.linalg.eigvalsh, sum of w^2 + sin w",
        lambda a: jnp.sum(_shifted(la.eigvalsh(a))),
        lambda a: sum(w * w + mp.sin(w) for w in exact.eigenvalues(exact.hermitian(a))),
        _without(SPECTRA, "huge"),  # where a sine has many periods in a step
    ),
    make(
        "scipy.linalg.eigh, lower, largest",
        lambda a: sla.eigh(a, lower=True, eigvals_only=True)[-1],
        lambda a: exact.eigenvalues(exact.hermitian(a))[-1],  # JAX takes the mean of the triangles
        _without(SPECTRA, "empty"),
    ),
    make(
        "numpy.linalg.eigh, largest two's projector",
        lambda a: _projector(a, (1, 2)),
        lambda a: exact.projector(exact.hermitian(a), (1, 2)),
        _places(tilted=TILTED, above=REPEATED_BELOW, below=REPEATED, complex=COMPLEX, rank_1=-SEMIDEFINITE),
    ),
    make(
        "numpy.linalg.eigh, V exp(w) V^H",
        partial(_one_sided, jnp.exp),
        lambda a: exact.of_hermitian(mp.exp, exact.hermitian(a)),
        SPECTRA,
    ),
    make(
        "numpy.linalg.eigvals, sum of exp w",
        lambda a: jnp.sum(jnp.exp(la.eigvals(a))),
        lambda a: _trace_of(exact.expm, a),
        SQUARE[:4] + SQUARE[7:],
    ),
    make(
        "numpy.linalg.eig, sum of w^2",
        lambda a: jnp.sum(la.eig(a)[0] ** 2),
        lambda a: _trace_of(lambda a: a * a, a),
        SQUARE[:6] + SQUARE[7:],
    ),
    make("scipy.linalg.schur", _recovered, lambda a: [a, _trace_of(lambda a: a * a, a)], SQUARE[:2] + TRIANGULAR),
    make("scipy.linalg.hessenberg", _positive_hessenberg, exact.hessenberg, SQUARE[:3] + FOURS[:3]),
    make("scipy.linalg.lu", sla.lu, exact.lu, SQUARE + SHAPES),
    make(
        "scipy.linalg.lu_solve",
        lambda a, b: sla.lu_solve(sla.lu_factor(a), b),
        mp.lu_solve,
        _with(SQUARE, COLUMN),
    ),
    *(
        make(
            f"numpy.linalg.norm, {order}",
            partial(la.norm, ord=order),
            lambda a, order=order: exact.norm(a, order),
            SPECTRA + TRIANGULAR[1:] + SHAPES + _places(rank_2=RANK_2),
        )
        for order in ("fro", "nuc", 2, -2, 1, -1, INF, -INF)
    ),
    make("numpy.linalg.norm", la.norm, lambda a: exact.norm(a, "fro"), SPECTRA[:6] + _places(zero=ZERO)),
    make("numpy.linalg.matrix_norm", la.matrix_norm, lambda a: exact.norm(a, "fro"), SPECTRA[:6] + _places(zero=ZERO)),
    *(
        make(
            f"numpy.linalg.vector_norm, {order:g}",
            lambda x, order=order: la.vector_norm(x, ord=order),
            lambda x, order=order: exact.vector_norm(x, order),
            VECTORS,
        )
        for order in (2, 1, INF, -INF, 0, 3, 4, 0.5, -1)
    ),
    *(
        make(
            f"numpy.linalg.cond, {order}",
            partial(la.cond, p=order),
            lambda a, order=order: exact.norm(a, order) * exact.norm(exact.inverse(a), order),
            SPECTRA[:6] + _places(repeated=REPEATED, rank_2=RANK_2),
        )
        for order in (2, 1, INF, "fro")
    ),
    *(
        make(
            f"numpy.linalg.matrix_power, {n}",
            partial(la.matrix_power, n=n),
            lambda a, n=n: _powers(a, n),
            SQUARE[:4] + SQUARE[7:],
        )
        for n in (0, 1, 2, 3, 5, -1, -2)
    ),
    make(
        "numpy.linalg.multi_dot", lambda a, b: la.multi_dot([a, b, a]), lambda a, b: a * b * a, _with(SQUARE[:4], EYE)
    ),
    make("numpy.linalg.trace", la.trace, lambda a: _trace_of(lambda a: a, a), SQUARE),
    make("numpy.linalg.tensorinv", lambda a: la.tensorinv(_tensor(a)), exact.inverse, FOURS),
    make(
        "numpy.linalg.tensorsolve",
        lambda a, b: la.tensorsolve(_tensor(a), b),
        lambda a, b: mp.lu_solve(a, b),
        tuple((word, (*args, np.array([[1.0, 2], [-1, 0.5]]).reshape(2, 2))) for word, args in FOURS[:1]),
    ),
    make("numpy.linalg.cross", la.cross, _cross, _places(zero=(np.zeros(3), COLUMN), parallel=(COLUMN, COLUMN))),
    make(
        "numpy.linalg.outer", la.outer, lambda x, y: x * y.T, _places(zero=(np.zeros(3), COLUMN), same=(COLUMN, COLUMN))
    ),
    make(
        "scipy.linalg.expm",
        sla.expm,
        exact.expm,
        SQUARE[:5] + SQUARE[6:] + _places(large=30 * TILTED, skew=9 * (TILTED - TILTED.T)),
    ),
    make(
        "scipy.linalg.expm, triangular",
        lambda a: sla.expm(jnp.triu(a), upper_triangular=True),
        lambda a: exact.expm(exact.triangle(a, low=False)),
        _places(identity=EYE, nilpotent=NILPOTENT, zero=ZERO, upper=np.triu(TILTED)),
    ),
    make(
        "scipy.linalg.expm_frechet",
        partial(sla.expm_frechet, compute_expm=False),
        exact.expm_frechet,
        _places(zero=(ZERO, EYE), nilpotent=(NILPOTENT, TILTED), tilted=(TILTED, NILPOTENT), identity=(EYE, ZERO)),
    ),
    make(
        "scipy.linalg.sqrtm",
        sla.sqrtm,
        mp.sqrtm,
        _places(
            tilted=TILTED,
            identity=EYE,
            diagonal=np.diag([4.0, 4, 1]),
            repeated=REPEATED,
            complex=COMPLEX,
            one_by_one=ONE,
            upper_triangular=np.triu(TILTED),
            jordan=EYE + NILPOTENT,
            turn=TURN,
            zero=ZERO,
        ),
    ),
    make(
        "scipy.linalg.funm, exp",
        lambda a: sla.funm(a, jnp.exp),
        exact.expm,
        _places(
            tilted=TILTED,
            identity=EYE,
            complex=COMPLEX,
            one_by_one=ONE,
            diagonal=np.diag([1.0, 2, 3]),
            repeated=REPEATED,
            equal=np.diag([4.0, 4, 1]),
        ),
    ),
    make(
        "scipy.linalg.solve_sylvester",
        sla.solve_sylvester,
        exact.sylvester,
        _places(identity=(EYE, EYE, TILTED), tilted=(TILTED, TILTED.T, RANK_1), diagonal=(EYE, TILTED, ZERO)),
    ),
    *(
        make(
            f"scipy.linalg.solve_triangular, {name}",
            partial(sla.solve_triangular, lower=low, unit_diagonal=unit),
            lambda a, b, low=low, unit=unit: mp.lu_solve(exact.triangle(a, low, unit), b),
            _with(SQUARE[:6] + SQUARE[7:], COLUMN),
        )
        for name, low, unit in (("lower", True, False), ("upper", False, False), ("unit", True, True))
    ),
    *(
        make(
            f"scipy.linalg.eigh_tridiagonal, {name}",
            lambda d, e, of=of: of(sla.eigh_tridiagonal(d, e, eigvals_only=True)),
            lambda d, e, of=of_exact: of(exact.eigenvalues(_tridiagonal(d, e))),
            _places(
                simple=(COLUMN, COLUMN[:2]),
                repeated=(np.array([1.0, 1, 3]), np.zeros(2)),
                identity=(np.ones(3), np.zeros(2)),
                zero=(np.zeros(3), np.zeros(2)),
                symmetric=(np.zeros(3), np.ones(2)),
            ),
        )
        for name, of, of_exact in (
            ("values", lambda w: w, lambda w: w),
            ("sum of w^2 + sin w", lambda w: jnp.sum(_shifted(w)), lambda w: sum(x * x + mp.sin(x) for x in w)),
        )
    ),
    make("scipy.linalg.toeplitz", sla.toeplitz, _flat(scipy.linalg.toeplitz), _places(zero=np.zeros(3), some=COLUMN)),
    make(
        "scipy.linalg.circulant", sla.circulant, _flat(scipy.linalg.circulant), _places(zero=np.zeros(3), some=COLUMN)
    ),
    make("scipy.linalg.companion", sla.companion, _companion, _places(some=COLUMN, zero_first=np.array([0.0, 1, 2]))),
    make(
        "scipy.linalg.leslie", sla.leslie, _leslie, _places(some=(COLUMN, COLUMN[:2]), zero=(np.zeros(3), np.zeros(2)))
    ),
    make(
        "scipy.linalg.fiedler",
        sla.fiedler,
        lambda a: exact.entries(len(a), len(a), lambda i, j: abs(a[i] - a[j])),
        _places(some=COLUMN, tie=np.ones(3)),
    ),
    make(
        "scipy.linalg.block_diag",
        sla.block_diag,
        lambda a, b: exact.entries(4, 4, lambda i, j: a[i, j] if max(i, j) < 3 else b[0] if i == j else mp.mpf(0)),
        _places(zero=(ZERO, ONE), some=(TILTED, ONE)),
    ),
]
