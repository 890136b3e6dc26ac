"""Our gradient of a function beside JAX's: differences and times, in one run.

Where JAX has no gradient, ours is held against central differences.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._jax_internals import float0
from diffprog._transforms import reverse

_MEASURES = {
    "eager": "a run without jit",
    "tracing": "under jit, caches empty",
    "compile": "lowering and compiling",
    "compiled": "a run of the compiled",
}


_DIRECTIONS = 3  # in which each leaf is moved for central differences


@dataclass(frozen=True)
class Leaf:
    """The difference between our gradient of one input leaf and the reference.

    Attributes:
      absolute: largest |ours - JAX's|; without JAX's gradient that of the derivatives in a few random directions.
      relative: that, divided by the largest |reference| (0 if both are zero).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Timing:
    """Median seconds of value and gradient together; `ratio` is ours / JAX's. None where JAX has no gradient."""

    what: str
    ours: float
    jax: float | None
    runs: int

    @property
    def ratio(self) -> float | None:
        return None if self.jax is None else self.ours / self.jax


@dataclass(frozen=True)
class Report:
    """What `compare` found; `print` shows it as a table.

    Attributes:
      jax_error: what JAX raised instead of a gradient: the error's class and first line. None if it has one.
    """

    name: str
    leaves: tuple[Leaf, ...]
    timings: tuple[Timing, ...]
    jax_error: str | None = None

    @property
    def largest_relative(self) -> float:
        return max((leaf.relative for leaf in self.leaves), default=0.0)

    def as_dict(self) -> dict:
        """The report as numbers and strings, for `json`."""
        return asdict(self) | {"timings": [asdict(t) | {"ratio": t.ratio} for t in self.timings]}

    def __str__(self) -> str:
        width = max([len("gradient of"), *(len(leaf.name) for leaf in self.leaves)])
        lines = [f"{self.name}"]
        if self.jax_error:
            lines += [f"  jax raises {self.jax_error}", f"  {_of_differences({leaf.dtype for leaf in self.leaves})}"]
        lines.append(f"  {'gradient of':<{width}}  {'type':<22}{'largest difference':>20}{'relative':>12}")
        for leaf in self.leaves:
            kind = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
            lines.append(f"  {leaf.name:<{width}}  {kind:<22}{leaf.absolute:>20.2e}{leaf.relative:>12.2e}")
        lines.append(f"  {'time of':<{width}}  {'':<24}{'diffprog ms':>12}{'jax ms':>14}{'ratio':>8}{'runs':>6}")
        for timing in self.timings:
            theirs = "-" if timing.jax is None else f"{timing.jax * 1e3:.3f}"
            ratio = "-" if timing.ratio is None else f"{timing.ratio:.2f}"
            lines.append(
                f"  {timing.what:<{width}}  {_MEASURES[timing.what]:<24}"
                f"{timing.ours * 1e3:>12.3f}{theirs:>14}{ratio:>8}{timing.runs:>6}"
            )
        return "\n".join(lines)


def _of_differences(dtypes) -> str:
    """One line about central differences in these types: their steps, and how close they come."""
    steps = ", ".join(f"{_step(dtype):.0e} in {dtype}" for dtype in sorted(dtypes))
    reach = max((_step(dtype) ** 2 for dtype in dtypes), default=0.0)
    return f"so against central differences, step {steps}; errors of {reach:.0e} of the function's size are theirs"


def compare(fun: Callable, *args, seconds: float = 2.0, name: str | None = None) -> Report:
    """Differentiate `fun` with diffprog and with JAX and report differences and times.

    Args:
      fun: function of arrays or pytrees. If its result isn't a scalar, both pull back the same random cotangent.
      *args: where to evaluate it; every real or complex leaf gets a gradient.
      seconds: about how long each of the four measurements may take.
      name: what to call the function in the report.

    Returns:
      a `Report`: the largest absolute and relative difference per input leaf, and the median time of an eager run,
      of tracing, of compiling and of a compiled run, each measured alternately so that both see the same machine.
      If JAX raises, its error and our times are reported, and the differences are those from central differences,
      (f(x + h u) - f(x - h u)) / 2h in random directions u, with h the cube root of the precision times the largest
      |x|, at least 1. Their own error is about h^2 of the size of f: 4e-11 in float64 (`jax.enable_x64`), 2e-5 in
      float32. They are no derivative where f jumps between the two points, as a loop that ends at a tolerance may.
    """
    cotangent = _cotangent(fun, args)

    def gradient(vjp):
        def run(*args):
            value, pullback = vjp(fun, *args)
            return value, pullback(cotangent)

        return run

    ours, theirs, jax_error = gradient(reverse.vjp), gradient(jax.vjp), None
    found = ours(*args)[1]
    try:
        jax.eval_shape(theirs, *args)  # some programs JAX differentiates as they run, but not under jit
        leaves = _differences(args, found, theirs(*args)[1])
    except Exception as error:  # whatever it is, the report tells
        theirs, jax_error = None, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        leaves = _from_central_differences(fun, args, cotangent, found)

    timings = _timings(ours, theirs, args, seconds)
    return Report(name or getattr(fun, "__name__", repr(fun)), tuple(leaves), tuple(timings), jax_error)


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
    """(name, value) of each leaf."""
    return [("args" + jax.tree_util.keystr(path), x) for path, x in jax.tree_util.tree_leaves_with_path(args)]


def _wide(x):
    return np.asarray(x, np.complex128 if jnp.iscomplexobj(x) else np.float64)


# ---------------------------------------------------------------- without JAX's gradient


def _step(dtype) -> float:
    """The step of a central difference whose error, of the order of its square, equals that of rounding."""
    return float(jnp.finfo(dtype).eps) ** (1 / 3)


def _from_central_differences(fun, args, cotangent, ours):
    leaves, tree = jax.tree.flatten(args)
    rng = np.random.default_rng(0)

    def value(i, x):
        """What the gradient is that of: the result times the cotangent, with the i-th leaf replaced."""
        results = fun(*jax.tree.unflatten(tree, [*leaves[:i], x, *leaves[i + 1 :]]))
        pairs = zip(jax.tree.leaves(results), jax.tree.leaves(cotangent), strict=True)
        return sum(np.sum(_wide(y) * _wide(g)).real for y, g in pairs if g.dtype != float0)

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
        directions = [_direction(rng, x) for _ in range(_DIRECTIONS)]
        reference = np.array([slope(i, x, u) for u in directions])
        compared.append(_compare_leaf(name, x, np.array([np.sum(_wide(g) * u).real for u in directions]), reference))
    return compared


def _direction(rng, x):
    """Random; longer the more entries there are, or rounding would hide the little that each contributes."""
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


def _alternate(what, ours, theirs, seconds) -> Timing:
    """Medians of runs in turn, at least 3 of each and as many as fit, after one that isn't counted."""
    times: dict = {run: [] for run in (ours, theirs) if run is not None}
    if what in ("eager", "compiled"):
        for run in times:
            run()
    started, turns = time.perf_counter(), list(times)
    while len(times[ours]) < 3 or (time.perf_counter() - started < seconds and len(times[ours]) < 200):
        for run in turns:
            times[run].append(run())
        turns.reverse()  # the one that goes first finds different caches
    medians = {run: float(np.median(found)) for run, found in times.items()}
    return Timing(what, medians[ours], medians.get(theirs), len(times[ours]))
