"""What is measured around a start, and which difficulties it shows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.diagnosis._finding import where
from diffprog.optimize._curvature.advice import Advice, advise
from diffprog.optimize._curvature.lanczos import lanczos
from diffprog.optimize._hardness import lines as sampling
from diffprog.optimize._hardness.lines import Lines
from diffprog.optimize._hardness.settle import MAX_DENSE, Settled, settle, stationary_point
from diffprog.optimize._hardness.structure import Structure
from diffprog.optimize._hardness.trial import heavy_ball_trial
from diffprog.optimize._search.oracle import Counts, Oracle

MAX_AXES = 8  # parameters up to which a line goes along each
RANDOM_LINES = 6


class Difficulty(NamedTuple):
    """Something that was found.

    Attributes:
      kind: one of `HARDNESS`, or a remark of another name.
      evidence: what was measured, with numbers.
    """

    kind: str
    evidence: str


class Landmarks(NamedTuple):
    """What was measured around a start, in float64 where it is NumPy's.

    Attributes:
      oracle: the function's.
      start: (n,).
      start_value: at the start.
      gradient: (n,), at the start.
      reach: (n,).
      settled: where descents from the start (the first) and from points around it ended.
      end: (n,), the lowest end.
      value: there.
      through_start, through_end: samples along lines.
      hessians: (k, n, n), at the points of the path of the best descent; None with many parameters.
      advice: from the eigenvalues at the end.
    """

    oracle: Oracle
    start: jax.Array
    start_value: float
    gradient: np.ndarray
    reach: np.ndarray
    settled: Settled
    end: jax.Array
    value: float
    through_start: Lines
    through_end: Lines
    hessians: np.ndarray | None
    advice: Advice

    @property
    def condition(self) -> float:
        """The condition number at the end; infinity if the Hessian is singular or indefinite."""
        return self.advice.condition

    @property
    def lowest_near(self) -> float:
        """The lowest value that was seen within about the reach of the start."""
        ends, values = (np.asarray(x, np.float64) for x in (self.settled.points, self.settled.values))
        near = np.abs((ends - np.asarray(self.start, np.float64)) / self.reach).max(axis=1) <= 2
        seen = np.concatenate([self.through_start.values.ravel(), values[near]])
        return float(np.min(seen[np.isfinite(seen)], initial=np.inf))


def survey(oracle: Oracle, point: jax.Array, reach: jax.Array, num_starts: int, key: jax.Array) -> Landmarks:
    """Measure around a start.

    Args:
      oracle: the function's.
      point: the start, (n,).
      reach: how far each parameter may move, (n,).
      num_starts: descents.
      key: random key.

    Returns:
      The measurements.
    """
    starts_key, lines_key, lanczos_key = jax.random.split(key, 3)
    shifts = jax.random.uniform(starts_key, (num_starts - 1, len(point)), point.dtype, -1, 1)
    starts = jnp.concatenate([point[None], point + shifts * reach])
    settled = settle(oracle, starts, reach)
    values = np.asarray(settled.values, np.float64)
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    end = settled.points[best]
    directions = _directions(lines_key, reach)
    count = len(directions)
    middles = jnp.concatenate([jnp.broadcast_to(x, (count, len(point))) for x in (point, end)])
    both = sampling.sample(oracle, middles, jnp.concatenate([1.5 * directions, directions]))
    through_start, through_end = (
        Lines(*(x[:, half] if x.ndim == 3 and len(x) == 3 else x[half] for x in both))
        for half in (slice(None, count), slice(count, None))
    )
    value, gradient = _value_and_gradient(oracle, point)
    hessians, advice = None, None
    if len(point) <= MAX_DENSE:
        path = settled.paths[:, best]
        hessians = np.asarray(_hessians(oracle, jnp.concatenate([path, point[None]])), np.float64)
        if not hessians[-2].any():  # as that of abs(z)**2 at 0, by the convention for abs: take a point beside it
            beside = path.at[-1].add(1e-3 * reach * directions[-1] / jnp.max(directions[-1]))
            hessians = np.asarray(_hessians(oracle, jnp.concatenate([beside, point[None]])), np.float64)
        advice = _advice(hessians[-2], point.dtype)
    else:
        _, ritz = lanczos(
            oracle, end, jax.random.normal(lanczos_key, end.shape, end.dtype), lanczos_key, num_smallest=1
        )
        advice = advise(float(ritz.values[0]), float(ritz.values[-1]), float(ritz.errors[0]))
    return Landmarks(
        oracle,
        point,
        float(value),
        np.asarray(gradient, np.float64),
        np.asarray(reach, np.float64),
        settled,
        end,
        float(values[best]),
        through_start,
        through_end,
        hessians,
        advice,
    )


def _directions(key: jax.Array, reach: jax.Array) -> jax.Array:
    size = len(reach)
    drawn = jax.random.normal(key, (RANDOM_LINES, size), reach.dtype)
    drawn = drawn / jnp.max(jnp.abs(drawn), axis=1, keepdims=True)
    if size == 1:
        return reach[None]
    axes = jnp.eye(size, dtype=reach.dtype) if size <= MAX_AXES else jnp.zeros((0, size), reach.dtype)
    return jnp.concatenate([axes, drawn]) * reach


@jax.jit
def _value_and_gradient(oracle, point):
    return oracle.value_and_gradient(point, Counts.none())[:2]


@jax.jit
def _hessians(oracle, points):
    return jax.vmap(lambda x: oracle.with_hessian(x, Counts.none())[2])(points)


def _advice(hessian: np.ndarray, dtype) -> Advice:
    if not np.isfinite(hessian).all():
        return advise(np.nan, np.nan, np.nan)
    values = np.linalg.eigvalsh(hessian)
    return advise(values[0], values[-1], 10 * float(jnp.finfo(dtype).eps) * np.abs(values).max())


# ---------------------------------------------------------------- what the program says


def of_structure(program: Structure) -> list[Difficulty]:
    """List the difficulties that are in the structure of the program.

    Args:
      program: what was found in a recording.

    Returns:
      The difficulties.
    """
    found = []
    if program.broken is not None:
        found.append(Difficulty("not finite", f"{program.broken.cause} at {where(program.broken.node)}"))
    if program.cut:
        first = program.cuts[0]
        place = f"{first.cause} at {where(first.node)}"
        if program.is_cut_off:
            found.append(Difficulty("piecewise constant", place))
        else:
            names = ", ".join(program.cut[:3]) + (", ..." if len(program.cut) > 3 else "")
            found.append(Difficulty("gradient cut", f"{names}: {place}"))
    for finding in program.others:
        if finding.kind in ("vanishing", "exploding", "draw"):
            found.append(Difficulty(f"{finding.kind} gradient" if finding.kind != "draw" else "draw", finding.title))
        elif finding.kind == "kink":
            found.append(Difficulty("kink at the start", f"{finding.cause} at {where(finding.node)}"))
    return found


# ---------------------------------------------------------------- what is measured


def of_landmarks(marks: Landmarks, program: Structure) -> list[Difficulty]:
    """List the difficulties that measurements show.

    Args:
      marks: the measurements.
      program: what was found in a recording.

    Returns:
      The difficulties.
    """
    if program.is_cut_off:
        return []
    plateau = _constant(marks) or _plateau(marks)
    found = [plateau, None if plateau else _basins(marks)]
    found += [test(marks) for test in (_jump, _cliff, _saddle, _unbounded, _kink, _bad_scaling)]
    found.append(_not_finite_within_reach(marks))
    if plateau is None and not any(x is not None and x.kind in _NOT_SMOOTH for x in found):
        found += [_valley(marks), _conditioning(marks)]
        if all(x is None or x.kind in _QUADRATIC for x in found):
            found.append(_changing_curvature(marks))
    return [x for x in found if x is not None]


_NOT_SMOOTH = ("discontinuous", "unbounded", "kink")  # second derivatives at the end say nothing then
_QUADRATIC = ("ill-conditioned", "not finite within reach")  # with others, curvature changes of course


def _constant(marks: Landmarks) -> Difficulty | None:
    seen = np.concatenate([marks.through_start.values.ravel(), np.asarray(marks.settled.values, np.float64)])
    if np.all(seen == marks.start_value):
        return Difficulty("constant", f"{marks.start_value:.4g} at {seen.size:,} points")
    return None


def _unbounded(marks: Landmarks) -> Difficulty | None:
    falling = int(np.asarray(marks.settled.is_falling).sum())
    if falling < 0.8 * len(marks.settled.values):
        return None
    return Difficulty(
        "unbounded",
        f"{falling} of {len(marks.settled.values)} descents still fell by whole steps, at {marks.value:.4g}",
    )


def _plateau(marks: Landmarks) -> Difficulty | None:
    drop = marks.start_value - marks.lowest_near
    slope = float(np.linalg.norm(marks.gradient * marks.reach))
    bend = 0.0
    if marks.hessians is not None:
        scaled = marks.hessians[-1] * marks.reach * marks.reach[:, None]
        bend = float(np.abs(np.linalg.eigvalsh(scaled)).max()) if np.isfinite(scaled).all() else np.inf
    rounding = 100 * _epsilon(marks) * abs(marks.start_value)
    if not drop > rounding or slope + bend / 2 > 1e-2 * drop:
        return None
    return Difficulty(
        "plateau",
        f"within reach the slope at the start promises {slope:.1e}, while probes find values lower by {drop:.3g}",
    )


def _basins(marks: Landmarks) -> Difficulty | None:
    values, ends = np.asarray(marks.settled.values, np.float64), np.asarray(marks.settled.points, np.float64)
    slopes = np.asarray(marks.settled.gradients, np.float64)
    typical = np.median(np.abs(marks.through_start.slopes[np.isfinite(marks.through_start.slopes)]))
    settled = np.isfinite(values) & ~np.asarray(marks.settled.is_falling)
    settled &= slopes * np.min(marks.reach) <= 1e-3 * max(typical, 1e-300)
    if settled.sum() < 2 or np.asarray(marks.settled.is_falling).any():
        return None
    values, ends = values[settled], ends[settled]
    span = (
        np.nanmax(np.where(np.isfinite(marks.through_start.values), marks.through_start.values, np.nan)) - values.min()
    )
    worse = values > values.min() + max(1e-2 * span, 1e3 * _epsilon(marks) * np.abs(values).max())
    apart = np.abs((ends - ends[np.argmin(values)]) / marks.reach).max(axis=1) > 1e-2
    share = np.mean(worse & apart)
    if share < 0.15:
        return None
    levels = _distinct(np.sort(values), 1e-3 * span)
    return Difficulty(
        "multimodal",
        f"of {len(values)} descents from around the start {np.sum(worse & apart)} end in basins that are not the "
        f"lowest, at {len(levels)} levels from {levels[0]:.4g} to {levels[-1]:.4g}",
    )


def _distinct(ascending: np.ndarray, tolerance: float) -> list[float]:
    kept = [float(ascending[0])]
    for value in ascending[1:]:
        if value > kept[-1] + tolerance:
            kept.append(float(value))
    return kept


def _jump(marks: Landmarks) -> Difficulty | None:
    for lines in (marks.through_start, marks.through_end):
        size, line, place = _largest(lines, 0, lines.values)
        values = lines.values[line]
        rounding = 100 * _epsilon(marks) * np.abs(values[np.isfinite(values)]).max(initial=0)
        # More than the range of the samples is a pole; that is a cliff.
        if 1e-3 < size <= 1 and size * np.ptp(values[np.isfinite(values)]) > rounding:
            return Difficulty("discontinuous", f"along a line the value jumps by {size:.1%} of its range, {place}")
    return None


def _largest(lines: Lines, order: int, samples: np.ndarray) -> tuple[float, int, str]:
    """Find the largest jump that stays under bisection, over the range of the samples on its line."""
    finite = np.where(np.isfinite(samples), samples, np.nan)
    ranges = np.nanmax(finite, axis=1) - np.nanmin(finite, axis=1)
    jumps, first = np.abs(lines.jumps[order]), np.abs(lines.first[order])
    jumps = np.where(np.isfinite(jumps) & (jumps > 0.25 * first), jumps, 0)
    shares = np.nan_to_num(jumps / np.maximum(ranges, 1e-300)[:, None])
    line, which = np.unravel_index(int(np.argmax(shares)), shares.shape)
    return float(shares[line, which]), int(line), f"{abs(lines.places[order, line, which]):.3g} of the line's half away"


def _cliff(marks: Landmarks) -> Difficulty | None:
    slopes = np.abs(np.concatenate([marks.through_start.slopes, marks.through_end.slopes]))
    finite = np.where(np.isfinite(slopes), slopes, np.nan)
    with np.errstate(all="ignore"):
        ratios = np.nanmax(finite, axis=1) / np.nanmedian(finite, axis=1)
    ratio = float(np.nanmax(np.where(np.isfinite(ratios), ratios, 0)))
    if ratio < 1e3:
        return None
    return Difficulty("cliff", f"along a line the largest slope is {ratio:.1e} times the median one")


def _saddle(marks: Landmarks) -> Difficulty | None:
    if marks.hessians is None or not np.isfinite(marks.hessians).all():
        return None
    values, vectors = np.linalg.eigh(marks.hessians[-1])
    rounding = 10 * _epsilon(marks) * np.abs(values).max()
    falling = values < -rounding
    if not (falling.any() and values[-1] > rounding):
        return None
    slopes = vectors.T @ marks.gradient
    share = float(np.linalg.norm(slopes[falling])) / max(float(np.linalg.norm(slopes)), 1e-300)
    falls_on = bool(np.asarray(marks.settled.is_falling)[0])
    if not (falls_on or (share < 0.05 and _leads_to_saddle(marks))):
        return None
    tail = ", and the function falls for ever along it" if falls_on else ""
    return Difficulty(
        "saddle",
        f"eigenvalues {values[0]:.3g} and {values[-1]:.3g} at the start, with {share:.2g} of the slope along the "
        f"falling direction{tail}",
    )


def _leads_to_saddle(marks: Landmarks) -> bool:
    """Whether there is a saddle within reach, to which Newton's method goes: not only a bend that a valley has."""
    point, gradient, hessian = (np.asarray(x, np.float64) for x in stationary_point(marks.oracle, marks.start))
    distance = np.abs((point - np.asarray(marks.start, np.float64)) / marks.reach).max()
    if not (np.isfinite(hessian).all() and distance <= 2):
        return False
    values = np.linalg.eigvalsh(hessian)
    rounding = 10 * _epsilon(marks) * np.abs(values).max()
    is_still = np.linalg.norm(gradient) <= 1e-3 * max(np.linalg.norm(marks.gradient), rounding)
    return bool(is_still and values[0] < -rounding and values[-1] > rounding)


def _kink(marks: Landmarks) -> Difficulty | None:
    lines = marks.through_end
    steepest = np.nanmax(np.where(np.isfinite(lines.slopes), np.abs(lines.slopes), np.nan), axis=1)
    jumps, first = np.abs(lines.jumps[1]), np.abs(lines.first[1])
    near = np.abs(lines.places[1]) < 0.05
    lasting = np.isfinite(jumps) & (jumps > 0.25 * first) & near
    shares = np.where(lasting, jumps / np.maximum(steepest, 1e-300)[:, None], 0)
    share = float(shares.max(initial=0))
    if share < 0.2:
        return None
    return Difficulty("kink", f"at the lowest point the slope along a line jumps by {share:.0%} of the steepest on it")


def _bad_scaling(marks: Landmarks) -> Difficulty | None:
    if marks.hessians is None or marks.hessians.shape[1] < 2:
        return None
    ratios = []
    for hessian in (marks.hessians[-1], marks.hessians[-2]):
        diagonal = np.abs(np.diag(hessian))
        if np.isfinite(diagonal).all() and diagonal.max() > 0:
            ratios.append(float(diagonal.max() / max(float(diagonal.min()), 1e-300)))
    ratio = min(ratios, default=0.0)
    if ratio < 1e6 or not np.isfinite(ratio) or ratio > 1e200:
        return None
    return Difficulty("badly scaled", f"second derivatives by single parameters differ by a factor {ratio:.1e}")


def _valley(marks: Landmarks) -> Difficulty | None:
    if marks.hessians is None or marks.hessians.shape[1] < 2 or not np.isfinite(marks.hessians).all():
        return None
    values, vectors = np.linalg.eigh(marks.hessians[:-1])  # along the path of the best descent
    stiff = vectors[np.arange(len(vectors)), :, np.abs(values).argmax(axis=1)]
    turns = np.degrees(np.arccos(np.clip(np.abs(stiff @ stiff.T), 0, 1)))
    steep, flat = np.abs(values[-1]).max(), np.abs(values[-1]).min()
    if turns.max() < 15 or steep < 30 * flat or steep == 0:
        return None
    return Difficulty(
        "curved valley",
        f"on the way down the steepest direction turns by {turns.max():.0f} degrees, with curvatures from "
        f"{flat:.3g} to {steep:.3g} at the end",
    )


def _conditioning(marks: Landmarks) -> Difficulty | None:
    if marks.advice.kind in ("singular", "flat") or marks.advice.largest <= 1e-4 * np.median(np.abs(curvatures(marks))):
        return Difficulty(
            "degenerate",
            f"at the lowest point the smallest eigenvalue is {marks.advice.smallest:.1e}, the largest "
            f"{marks.advice.largest:.3g}",
        )
    if marks.advice.kind != "convex" or marks.condition < 30:
        return None
    descent, ball = marks.advice.plans[:2]
    return Difficulty(
        "ill-conditioned",
        f"condition number {marks.condition:.4g}: gradient descent takes {descent.num_steps:,.0f} steps to 1e-6, "
        f"heavy ball with alpha {ball.alpha:.4g} and beta {ball.beta:.6g} takes {ball.num_steps:,.0f}",
    )


def curvatures(marks: Landmarks) -> np.ndarray:
    """Return the curvatures along all lines, in the units of the parameters.

    Args:
      marks: the measurements.

    Returns:
      (k,), those that are finite.
    """
    found = [
        (lines.curvatures / np.sum(lines.directions**2, axis=1)[:, None]).ravel()
        for lines in (marks.through_start, marks.through_end)
    ]
    together = np.concatenate(found)
    return together[np.isfinite(together)]


def _changing_curvature(marks: Landmarks) -> Difficulty | None:
    sampled = np.concatenate([marks.through_start.curvatures, marks.through_end.curvatures])
    at_end = marks.through_end.curvatures[:, sampling.NUM_POINTS // 2]
    finite = np.abs(sampled[np.isfinite(sampled).all(axis=1)])
    if not len(finite) or not np.all(at_end > 0):
        return None
    spread = float(np.max(finite.max(axis=1) / np.maximum(finite.min(axis=1), 1e-3 * finite.max(axis=1))))
    if spread < 4:
        return None
    share, _, place = _largest(marks.through_start, 2, marks.through_start.curvatures)
    jumps = f", and jumps {place}" if share > 0.2 else ""
    seen = curvatures(marks)
    trial = heavy_ball_trial(marks.oracle, marks.end, marks.reach, (float(seen.min()), float(seen.max())))
    return Difficulty("changing curvature", f"along a line it changes by a factor {spread:.3g}{jumps}{trial}")


def _not_finite_within_reach(marks: Landmarks) -> Difficulty | None:
    values = np.concatenate([marks.through_start.values, marks.through_end.values])
    share = np.mean(~np.isfinite(values))
    return Difficulty("not finite within reach", f"{share:.1%} of the values along lines") if share else None


def _epsilon(marks: Landmarks) -> float:
    return float(jnp.finfo(marks.start.dtype).eps)
