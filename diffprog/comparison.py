"""Our gradient of a function beside JAX's: differences and times, in one run."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.jax_internals import float0
from diffprog.transforms import reverse

_MEASURES = {
    "eager": "a run without jit",
    "tracing": "under jit, caches empty",
    "compile": "lowering and compiling",
    "compiled": "a run of the compiled",
}


@dataclass(frozen=True)
class Leaf:
    """The difference between the two gradients of one input leaf.

    Attributes:
      absolute: largest |ours - JAX's|.
      relative: that, divided by the largest |JAX's| (0 if both are zero).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class Timing:
    """Median seconds of value and gradient together; `ratio` is ours / JAX's."""

    what: str
    ours: float
    jax: float
    runs: int

    @property
    def ratio(self) -> float:
        return self.ours / self.jax


@dataclass(frozen=True)
class Report:
    """What `compare` found; `print` shows it as a table."""

    name: str
    leaves: tuple[Leaf, ...]
    timings: tuple[Timing, ...]

    @property
    def largest_relative(self) -> float:
        return max((leaf.relative for leaf in self.leaves), default=0.0)

    def as_dict(self) -> dict:
        """The report as numbers and strings, for `json`."""
        return asdict(self) | {"timings": [asdict(t) | {"ratio": t.ratio} for t in self.timings]}

    def __str__(self) -> str:
        width = max([len("gradient of"), *(len(leaf.name) for leaf in self.leaves)])
        lines = [f"{self.name}", f"  {'gradient of':<{width}}  {'type':<22}{'largest difference':>20}{'relative':>12}"]
        for leaf in self.leaves:
            kind = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
            lines.append(f"  {leaf.name:<{width}}  {kind:<22}{leaf.absolute:>20.2e}{leaf.relative:>12.2e}")
        lines.append(f"  {'time of':<{width}}  {'':<24}{'diffprog ms':>12}{'jax ms':>14}{'ratio':>8}{'runs':>6}")
        for timing in self.timings:
            lines.append(
                f"  {timing.what:<{width}}  {_MEASURES[timing.what]:<24}"
                f"{timing.ours * 1e3:>12.3f}{timing.jax * 1e3:>14.3f}{timing.ratio:>8.2f}{timing.runs:>6}"
            )
        return "\n".join(lines)


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
    """
    cotangent = _cotangent(fun, args)

    def gradient(vjp):
        def run(*args):
            value, pullback = vjp(fun, *args)
            return value, pullback(cotangent)

        return run

    ours, theirs = gradient(reverse.vjp), gradient(jax.vjp)
    leaves = _differences(args, ours(*args)[1], theirs(*args)[1])
    timings = [_alternate("eager", _call(ours, args), _call(theirs, args), seconds)]

    timings.append(_alternate("tracing", _trace(ours, args), _trace(theirs, args), seconds))
    compiled: list = [None, None]
    timings.append(
        _alternate("compile", _compile(ours, args, compiled, 0), _compile(theirs, args, compiled, 1), seconds)
    )
    timings.append(_alternate("compiled", _call(compiled[0], args), _call(compiled[1], args), seconds))
    return Report(name or getattr(fun, "__name__", repr(fun)), tuple(leaves), tuple(timings))


def _cotangent(fun, args):
    shapes = jax.eval_shape(fun, *args)
    rng = np.random.default_rng(0)

    def draw(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return np.zeros(x.shape, float0)
        return jnp.ones((), x.dtype) if x.shape == () else jnp.asarray(rng.standard_normal(x.shape), x.dtype)

    return jax.tree.map(draw, shapes)


def _differences(args, ours, theirs):
    inputs = jax.tree_util.tree_leaves_with_path(args)
    for (path, x), a, b in zip(inputs, jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if b.dtype == float0:
            continue
        wide = np.complex128 if jnp.iscomplexobj(b) else np.float64
        a, b = np.asarray(a, wide), np.asarray(b, wide)
        absolute, scale = np.max(np.abs(a - b), initial=0.0), np.max(np.abs(b), initial=0.0)
        relative = absolute / scale if scale else (0.0 if absolute == 0 else np.inf)
        name = "args" + jax.tree_util.keystr(path)
        yield Leaf(name, a.shape, str(jnp.asarray(x).dtype), float(absolute), float(relative))


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


def _compile(fun, args, results, place):
    def measured():
        jax.clear_caches()
        traced = jax.jit(lambda *args: fun(*args)).trace(*args)
        start = time.perf_counter()
        results[place] = traced.lower().compile()
        return time.perf_counter() - start

    return measured


def _alternate(what, ours, theirs, seconds) -> Timing:
    """Medians of runs in turn, at least 3 of each and as many as fit, after one that isn't counted."""
    warm = what in ("eager", "compiled")
    if warm:
        ours(), theirs()
    first, second, started = [], [], time.perf_counter()
    while len(first) < 3 or (time.perf_counter() - started < seconds and len(first) < 200):
        # The one that goes first finds different caches: they take turns.
        for run, times in ((ours, first), (theirs, second))[:: 1 if len(first) % 2 else -1]:
            times.append(run())
    return Timing(what, float(np.median(first)), float(np.median(second)), len(first))
