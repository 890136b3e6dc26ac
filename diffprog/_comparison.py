"""Our gradient of a function beside JAX's: differences and times, in one run.

Where JAX has no gradient, ours is compared with central differences.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import float0
from diffprog._transforms import reverse
from diffprog._util.tables import text_table

_STAGES = {
    "eager": "a run without jit",
    "tracing": "under jit, caches empty",
    "compile": "lowering and compiling",
    "compiled": "a run of the compiled",
}
_NUM_DIRECTIONS = 3  # in which each leaf is moved for central differences


@dataclass(frozen=True)
class Leaf:
    """The difference between our gradient of one input leaf and the reference.

    Attributes:
      name: path of the leaf in the arguments.
      shape: its shape.
      dtype: its type.
      absolute: largest |ours - JAX's|; where JAX has no gradient, the largest difference of a few directional
        derivatives from central differences.
      relative: `absolute` divided by the largest |reference|; 0 if both are zero.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Timing:
    """Median seconds of value and gradient together.

    Attributes:
      stage: "eager", "tracing", "compile" or "compiled".
      ours: seconds with diffprog's gradient.
      jax: seconds with JAX's; None where JAX has no gradient.
      num_runs: how often each was measured.
    """

    stage: str
    ours: float
    jax: float | None
    num_runs: int

    @property
    def ratio(self) -> float | None:
        """Our time divided by JAX's; None where JAX has no gradient."""
        return None if self.jax is None else self.ours / self.jax


@dataclass(frozen=True)
class Report:
    """Differences and times, which `print` shows as tables.

    Attributes:
      name: name of the function.
      leaves: difference of each gradient.
      timings: time of each stage.
      jax_error: class and first line of the error that JAX raised in place of a gradient; None if there was none.
      missed: slope per relative change of the inputs by finite differences, and by the gradients, where several steps
        agree and these do not, as of a bisection; else None.
    """

    name: str
    leaves: tuple[Leaf, ...]
    timings: tuple[Timing, ...]
    jax_error: str | None = None
    missed: tuple[float, float] | None = None

    @property
    def largest_relative(self) -> float:
        """The largest relative difference of all leaves."""
        return max((leaf.relative for leaf in self.leaves), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as numbers and strings, for `json`."""
        return asdict(self) | {"timings": [asdict(t) | {"ratio": t.ratio} for t in self.timings]}

    def __str__(self) -> str:
        lines = []
        if self.jax_error:
            lines = [f"jax raises {self.jax_error}", _about_differences({leaf.dtype for leaf in self.leaves})]
        if self.missed:
            lines.append(
                f"finite differences disagree with {'ours' if self.jax_error else 'both'}: per relative change of the "
                "inputs, the slope is {:.4g} by finite differences, {:.4g} by the gradients; ".format(*self.missed)
                + "see what dp.diagnose says"
            )
        differences = [["gradient of", "type", "largest difference", "relative"]]
        for leaf in self.leaves:
            kind = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
            differences.append([leaf.name, kind, f"{leaf.absolute:.2e}", f"{leaf.relative:.2e}"])
        times = [["time of", "", "diffprog ms", "jax ms", "ratio", "runs"]]
        for timing in self.timings:
            theirs = "-" if timing.jax is None else f"{timing.jax * 1e3:.3f}"
            ratio = "-" if timing.ratio is None else f"{timing.ratio:.2f}"
            ours = f"{timing.ours * 1e3:.3f}"
            times.append([timing.stage, _STAGES[timing.stage], ours, theirs, ratio, str(timing.num_runs)])
        lines += [*text_table(differences, "<<>"), *text_table(times, "<<>")]
        return "\n".join([self.name, *(f"  {line}" for line in lines)])


def _about_differences(dtypes: set[str]) -> str:
    """Say with which steps central differences are taken in these types, and how close they come."""
    steps = ", ".join(f"{_step(dtype):.0e} in {dtype}" for dtype in sorted(dtypes))
    error = max((_step(dtype) ** 2 for dtype in dtypes), default=0.0)
    return f"so against central differences, step {steps}; their own error is about {error:.0e} of the function's size"


def compare(fun: Callable, *args: Any, seconds: float = 2.0, name: str | None = None) -> Report:
    """Differentiate a function with diffprog and with JAX, and report differences and times.

    Ours and JAX's are measured in turn, so that both see the same machine. If JAX raises, its error and our times are
    reported, and our gradient g is compared with central differences: g.u with (f(x + h u) - f(x - h u)) / 2h in random
    directions u, with h the cube root of the precision times the largest |x|, at least 1. Their own error is about h^2
    of the size of f: 4e-11 in float64 (`jax.enable_x64`), 2e-5 in float32. They are no derivative where f jumps between
    the two points, as a loop that ends at a tolerance may.

    Where finite differences by several larger steps, to both sides, agree with each other and with neither gradient,
    the report says so: then the answer may be chosen by comparisons, as in a bisection, or by draws.

    Args:
      fun: function of arrays or pytrees. If its result isn't a scalar, both pull back one random cotangent.
      *args: where to evaluate it; every real or complex leaf gets a gradient.
      seconds: about how long each of the four stages is measured.
      name: name of the function in the report; its own unless given.

    Returns:
      The largest absolute and relative difference per input leaf, and the median time of an eager run, of tracing, of
      compiling and of a compiled run.
    """
    cotangent = _cotangent(fun, args)

    def gradient(vjp):
        def run(*args):
            value, pullback = vjp(fun, *args)
            return value, pullback(cotangent)

        return run

    ours, theirs, jax_error = gradient(reverse.vjp), gradient(jax.vjp), None
    gradients = ours(*args)[1]
    try:
        jax.eval_shape(theirs, *args)  # some programs JAX differentiates as they run, but not under jit
        leaves = _differences(args, gradients, theirs(*args)[1])
    except Exception as error:  # whatever it is, the report says it
        theirs, jax_error = None, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        leaves = _from_central_differences(fun, args, cotangent, gradients)

    timings = _timings(ours, theirs, args, seconds)
    missed = _missed(fun, args, cotangent, gradients)
    return Report(str(name or getattr(fun, "__name__", repr(fun))), tuple(leaves), tuple(timings), jax_error, missed)


def _cotangent(fun, args):
    shapes = jax.eval_shape(fun, *args)
    rng = np.random.default_rng(0)

    def draw(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return np.zeros(x.shape, float0)
        return jnp.ones((), x.dtype) if x.shape == () else jnp.asarray(rng.standard_normal(x.shape), x.dtype)

    return jax.tree.map(draw, shapes)


def _differences(args, ours, theirs):
    leaves = []
    for (name, x), a, b in zip(_inputs(args), jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if b.dtype != float0:
            leaves.append(_compare_leaf(name, x, _wide(a), _wide(b)))
    return leaves


def _compare_leaf(name, x, ours, reference) -> Leaf:
    absolute, scale = np.max(np.abs(ours - reference), initial=0.0), np.max(np.abs(reference), initial=0.0)
    relative = absolute / scale if scale else (0.0 if absolute == 0 else np.inf)
    return Leaf(name, np.shape(x), str(jnp.asarray(x).dtype), float(absolute), float(relative))


def _inputs(args):
    """List (name, value) of each leaf."""
    return [("args" + jax.tree_util.keystr(path), x) for path, x in jax.tree_util.tree_leaves_with_path(args)]


def _wide(x):
    return np.asarray(x, np.complex128 if jnp.iscomplexobj(x) else np.float64)


# ---------------------------------------------------------------- without JAX's gradient


def _step(dtype) -> float:
    """Choose the step of a central difference whose error, of the order of its square, equals the rounding error."""
    return float(jnp.finfo(dtype).eps) ** (1 / 3)


def _from_central_differences(fun, args, cotangent, ours):
    leaves, tree = jax.tree.flatten(args)
    rng = np.random.default_rng(0)

    def value(i, x):
        """Compute the differentiated scalar with the i-th leaf replaced."""
        return _weighted(fun(*jax.tree.unflatten(tree, [*leaves[:i], x, *leaves[i + 1 :]])), cotangent)

    def slope(i, x, direction):
        step = _step(x.dtype) * max(1.0, float(jnp.max(jnp.abs(x), initial=0)))
        above, below = (x + jnp.asarray(sign * step * direction, x.dtype) for sign in (1, -1))
        moved = np.linalg.norm(_wide(above) - _wide(below)) / np.linalg.norm(direction)  # 2h, but for rounding
        return (value(i, above) - value(i, below)) / moved

    compared = []
    for i, ((name, x), g) in enumerate(zip(_inputs(args), jax.tree.leaves(ours), strict=True)):
        if g.dtype == float0:
            continue
        x = jnp.asarray(x)
        directions = [_direction(rng, x) for _ in range(_NUM_DIRECTIONS)]
        reference = np.array([slope(i, x, u) for u in directions])
        compared.append(_compare_leaf(name, x, np.array([np.sum(_wide(g) * u).real for u in directions]), reference))
    return compared


def _weighted(results, cotangent) -> float:
    """Compute the differentiated scalar: the results times the cotangent."""
    pairs = zip(jax.tree.leaves(results), jax.tree.leaves(cotangent), strict=True)
    return float(sum(np.sum(_wide(y) * _wide(g)).real for y, g in pairs if g.dtype != float0))


_LARGE_STEPS = (0.01, 0.03)  # relative to the largest element of each leaf
_SPREAD = 0.35  # of slopes by these steps, relative to their distance from ours, up to which they agree


def _missed(fun, args, cotangent, gradients) -> tuple[float, float] | None:
    """Return (slope by finite differences, by the gradients) if the former agree with each other and not with these."""
    leaves, tree = jax.tree.flatten(args)
    wanted = [(i, g) for i, g in enumerate(jax.tree.leaves(gradients)) if g.dtype != float0]
    rng = np.random.default_rng(1)
    directions = {i: _signs(rng, leaves[i]) for i, _ in wanted}
    ours = float(sum(np.sum(_wide(g) * directions[i]).real for i, g in wanted))

    def value(step):
        moved = [
            jnp.asarray(jnp.asarray(x) + step * directions[i], jnp.asarray(x).dtype) if i in directions else x
            for i, x in enumerate(leaves)
        ]
        return _weighted(fun(*jax.tree.unflatten(tree, moved)), cotangent)

    try:
        here = value(0.0)
        slopes = np.array([(value(step) - here) / step for size in _LARGE_STEPS for step in (size, -size)])
    except Exception:  # the function may refuse other values
        return None
    mean = float(slopes.mean())
    distance = abs(mean - ours)
    agree = np.all(np.isfinite(slopes)) and np.max(np.abs(slopes - mean)) <= _SPREAD * distance
    return (mean, ours) if agree and distance > 0.1 * max(abs(mean), abs(ours)) else None


def _signs(rng, x):
    """Draw a direction whose every element is as large as the largest of an array."""
    signs = rng.choice([-1.0, 1.0], np.shape(x)) if np.size(x) > 1 else 1.0
    return (float(np.max(np.abs(x), initial=0)) or 1.0) * signs


def _direction(rng, x):
    """Draw a direction; longer the more entries there are, or rounding would hide what each contributes."""
    u = rng.standard_normal(x.shape)
    if jnp.iscomplexobj(x):
        u = u + 1j * rng.standard_normal(x.shape)
    return u * (x.size**0.25 / max(np.linalg.norm(u), np.finfo(float).tiny))


# ---------------------------------------------------------------- times


def _timings(ours, theirs, args, seconds):
    def both(prepare):
        return prepare(ours), theirs and prepare(theirs)

    compiled: dict = {}
    yield _alternate("eager", *both(lambda fun: _call(fun, args)), seconds)
    with jax.disable_jit(False):  # what is measured here is jit
        yield _alternate("tracing", *both(lambda fun: _trace(fun, args)), seconds)
        yield _alternate("compile", *both(lambda fun: _compile(fun, args, compiled)), seconds)
        yield _alternate("compiled", *both(lambda fun: _call(compiled[fun], args)), seconds)


def _call(fun, args):
    def measured():
        start = time.perf_counter()
        jax.block_until_ready(fun(*args))
        return time.perf_counter() - start

    return measured


def _trace(fun, args):
    def measured():
        jax.clear_caches()
        start = time.perf_counter()
        jax.jit(lambda *args: fun(*args)).trace(*args)
        return time.perf_counter() - start

    return measured


def _compile(fun, args, programs):
    def measured():
        jax.clear_caches()
        traced = jax.jit(lambda *args: fun(*args)).trace(*args)
        start = time.perf_counter()
        programs[fun] = traced.lower().compile()
        return time.perf_counter() - start

    return measured


def _alternate(stage, ours, theirs, seconds) -> Timing:
    """Time runs in turn, at least 3 of each and as many as fit, after one that isn't counted; take medians."""
    times: dict = {run: [] for run in (ours, theirs) if run is not None}
    if stage in ("eager", "compiled"):
        for run in times:
            run()
    started, turns = time.perf_counter(), list(times)
    while len(times[ours]) < 3 or (time.perf_counter() - started < seconds and len(times[ours]) < 200):
        for run in turns:
            times[run].append(run())
        turns.reverse()  # the one that goes first finds different caches
    medians = {run: float(np.median(durations)) for run, durations in times.items()}
    return Timing(stage, medians[ours], medians.get(theirs), len(times[ours]))
