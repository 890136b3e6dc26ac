"""`optimizable`: which objectives are differentiable, which will be hard to optimize, and by what family of methods."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import callers_promotion, own_promotion
from diffprog._util.random_keys import random_key
from diffprog.optimize._curvature.advice import BEYOND_MOMENTUM, Advice
from diffprog.optimize._hardness import evidence, noise
from diffprog.optimize._hardness.evidence import Difficulty, Landmarks
from diffprog.optimize._hardness.kinds import KINDS
from diffprog.optimize._hardness.structure import structure
from diffprog.optimize._search.flat import flatten
from diffprog.optimize._search.problem import prepare
from diffprog.optimize._trainable import split


@dataclass(frozen=True)
class Hardness:
    """What makes an objective hard to optimize; printed, a few lines.

    Attributes:
      kind: the main difficulty, one of `optimize.HARDNESS`.
      verdict: what it is and what to do, in one sentence.
      family: the family of methods to use, "black box", "first order" or "second order".
      optimizers: names to begin with.
      difficulties: all that was found, the verdict's first.
      advice: step sizes and rates at the lowest point that was found; None where there is no gradient.
      parameters: the lowest point that was found, a rough minimum.
      value: the objective there.
    """

    kind: str
    verdict: str
    family: str
    optimizers: tuple[str, ...]
    difficulties: tuple[Difficulty, ...]
    advice: Advice | None
    parameters: Any
    value: float

    def __str__(self):
        lines = [self.verdict, f"  use: {self.family}, as {', '.join(self.optimizers)}"]
        lines += [f"  {difficulty.kind}: {difficulty.evidence}" for difficulty in self.difficulties]
        if self.advice is not None and self.advice.kind == "convex":
            lines += ["", "at the lowest point that was found:", str(self.advice)]
        return "\n".join(lines)


@own_promotion()
def optimizable(
    objective: Callable[..., Any],
    parameters: Any,
    *,
    reach: Any = None,
    num_starts: int = 24,
    key: Any = 0,
) -> Hardness:
    """Say whether an objective can be optimized from a point, what will be hard, and which family of methods to use.

    Looks at the program's structure (is the gradient cut off, and where), at values and slopes along lines (jumps,
    kinks, plateaus, cliffs), at the curvature (condition, saddles, how it changes), at noise if the objective takes
    `key=`, and at where descents from many starts end.

    Args:
      objective: `objective(parameters)`, a real scalar; or `objective(parameters, key=key)` if it is random.
      parameters: where a search would begin: a pytree.
      reach: how far each parameter may sensibly move: a number, or a pytree like the parameters. By default as far as
        it is large, in arrays of similar numbers as far as these are.
      num_starts: starts for the search for basins, around the parameters within reach.
      key: random key, or a seed.

    Returns:
      The verdict, with the evidence.

    Raises:
      ValueError: an argument that cannot be used.
    """
    num_starts = check_count(num_starts, "num_starts", least=2)
    noise_key, probe_key = jax.random.split(random_key(key))
    is_random = takes_key(objective)
    fixed = (lambda p: objective(p, key=noise_key)) if is_random else objective
    with callers_promotion():
        program = structure(fixed, parameters)
    vector, unflatten = flatten(parameters)
    difficulties = list(evidence.of_structure(program))
    marks: Landmarks | None = None
    if program.broken is None:
        oracle, point, _ = prepare(fixed, parameters, None, "diffprog", gives_residuals=False)
        marks = evidence.survey(oracle, point, _reach(reach, parameters, vector), num_starts, probe_key)
        difficulties += evidence.of_landmarks(marks, program)
        if is_random and not program.is_cut_off:
            difficulties += noise.evidence(objective, parameters, marks, noise_key)
    order = list(KINDS)
    difficulties.sort(key=lambda difficulty: order.index(difficulty.kind) if difficulty.kind in order else len(order))
    kind = next((d.kind for d in difficulties if d.kind in KINDS), "well conditioned")
    chosen = KINDS[kind]
    told = next((f" ({d.evidence})" for d in difficulties if d.kind == kind), "")
    family, optimizers = chosen.family, chosen.optimizers
    if kind == "ill-conditioned" and marks is not None and not marks.condition < BEYOND_MOMENTUM:
        family, optimizers = "second order", ("trust_region", "newton_cg", "lbfgs")
    return Hardness(
        kind=kind,
        verdict=f"{kind}: {chosen.means}{told}; {chosen.remedy}",
        family=family,
        optimizers=optimizers,
        difficulties=tuple(difficulties),
        advice=None if marks is None or program.is_cut_off else marks.advice,
        parameters=parameters if marks is None else unflatten(marks.end),
        value=float("nan") if marks is None else float(marks.value),
    )


def takes_key(objective: Callable[..., Any]) -> bool:
    """Whether an objective asks for a random key, by a parameter of that name."""
    try:
        return "key" in inspect.signature(objective).parameters
    except (TypeError, ValueError):
        return False


def _reach(reach: Any, parameters: Any, vector: jax.Array) -> jax.Array:
    """Read how far each parameter may move, as a vector."""
    trainable, _ = split(parameters)
    if reach is None:
        sizes = jax.tree.map(_sizes, trainable)
    else:
        try:
            full = jax.tree.broadcast(reach, trainable)
            sizes = jax.tree.map(lambda r, x: jnp.broadcast_to(jnp.asarray(r), jnp.shape(x)), full, trainable)
        except (ValueError, TypeError):
            raise ValueError(
                f"reach must be a positive number, or shaped like the parameters; found {reach!r:.60}"
            ) from None
    parts = [
        jnp.concatenate([jnp.ravel(r)] * 2) if jnp.iscomplexobj(x) else jnp.ravel(r)
        for r, x in zip(jax.tree.leaves(sizes), jax.tree.leaves(trainable), strict=True)
    ]
    found = jnp.concatenate(parts).astype(vector.dtype)
    if not bool(jnp.all(found > 0)):
        raise ValueError(f"reach must be positive; found {reach!r:.60}")
    return found


SPREAD, FEW = 1e4, 16  # quantities of different units: few numbers, of very different size


def _sizes(leaf: Any) -> jax.Array:
    """Say how large a leaf's elements are: each by itself in a vector of quantities, else together."""
    size = jnp.abs(jnp.asarray(leaf))
    together = jnp.sqrt(jnp.mean(size**2)) if size.size else jnp.ones(())
    nonzero = np.asarray(size)[np.asarray(size) > 0]
    few = size.ndim <= 1 and size.size <= FEW and nonzero.size == size.size
    apart = few and nonzero.max(initial=0) > SPREAD * nonzero.min(initial=1)
    return jnp.where(together > 0, size if apart else jnp.full_like(size, together), 1)
