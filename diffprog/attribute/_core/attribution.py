"""`Attribution`: what a method returns, with what one needs to trust it."""

from dataclasses import dataclass, field
from typing import Any

import jax


class AttributionWarning(UserWarning):
    """Says that a number of an attribution deserves less trust than it seems to."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Attribution:
    """Where a score comes from. A pytree of arrays with one row per example.

    Of several scores, all arrays have an axis of scores in front: (k, n, ...).

    Attributes:
      values: credit, shaped like the inputs (n, ...); None in the place of inputs that get none. With `at=`, a
        dict from selector to credit of the values that it means; a list where it means several.
      score: (n,), of the inputs.
      baseline_score: (n,), of the baseline; None for a method without one.
      gap: (n,), score - baseline_score - the sum of the values: what is missing to completeness. None where no axiom
        says what the sum is.
      error: standard error of the values, like them, where they are means over random draws; else None.
      evaluations: int (n,), how often the model was run for this example, with or without a backward pass.
      steps: int (n,), points on a path, or samples; None for a method that has none.
      converged: bool (n,), whether the gap that was asked for is met; None where none was asked for.
      per_feature: (n, features), credit of whole features, of methods that take `features=`; else None. Of methods that
        add up to a total, the values are a feature's credit divided evenly over its elements, so that they add up too;
        of others, each element has its feature's credit.
      per_feature_error: standard error of `per_feature`, like it.
      method: its name.
      unruled: operations that the backward rules did not cover, with their lines.
    """

    values: Any
    score: jax.Array
    baseline_score: jax.Array | None = None
    gap: jax.Array | None = None
    error: Any = None
    evaluations: Any = None
    steps: Any = None
    converged: Any = None
    per_feature: Any = None
    per_feature_error: Any = None
    method: str = field(default="", metadata={"static": True})
    unruled: tuple[str, ...] = field(default=(), metadata={"static": True})

    def __repr__(self) -> str:
        shapes = jax.tree.map(lambda x: tuple(x.shape), self.values)
        gap = "" if self.gap is None else f", largest gap {_largest(self.gap)}"
        unruled = f", no rule for {', '.join(self.unruled)}" if self.unruled else ""
        return f"Attribution({self.method}: values {shapes}{gap}{unruled})"

    def _repr_png_(self) -> bytes | None:
        """Show the maps of pictures in a notebook."""
        from diffprog.attribute._draw.draw import notebook_png

        return notebook_png(self)


def _largest(gap) -> str:
    if isinstance(gap, jax.core.Tracer) or not getattr(gap, "size", 0):
        return "not known"
    return f"{float(abs(gap).max()):.3g}"
