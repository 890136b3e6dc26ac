"""What `minimize` and `least_squares` return."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.optimize._search.loop import Row
from diffprog.optimize._search.optimizer import CONVERGED, NOT_FINITE, REASONS, WENT_OFF
from diffprog.optimize._search.oracle import Counts


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["parameters", "value", "status", "num_steps", "counts", "rows", "path"],
    meta_fields=[],
)
@dataclass(frozen=True, repr=False)
class Minimum:
    """Where a search has ended, and what it took.

    Of a search under `vmap`, every array has the mapped axis first, and `reason` is a list of sentences.

    Attributes:
      parameters: the best parameters that were evaluated, of the structure, shapes and types of those to begin with.
      value: the function there; of residuals, half the sum of their squares.
      status: int32, why the search ended, as a number.
      num_steps: int32, steps that were taken.
      counts: what was asked of the function, int32 each.
      rows: values and counts at the start and after each step; None under a transformation.
      path: parameters at the start and after each step, along a new first axis; None unless asked for.
    """

    parameters: Any
    value: jax.Array
    status: jax.Array
    num_steps: jax.Array
    counts: Counts
    rows: Row | None = None
    path: Any = None

    def __repr__(self):
        if isinstance(self.status, jax.core.Tracer) or np.ndim(self.status):
            return f"{type(self).__name__}(of a transformed function)"
        asked = ", ".join(f"{name} {count}" for name, count in self.evaluations.items() if count)
        return f"{type(self).__name__}(value {float(self.value):.6g}: {self.reason}; {asked})"

    @property
    def converged(self) -> Any:
        """Whether the search ended where it could not do better: a bool, or an array of them."""
        converged = jnp.isin(jnp.asarray(self.status), jnp.array(CONVERGED, jnp.int32))
        return converged if isinstance(converged, jax.core.Tracer) or converged.ndim else bool(converged)

    @property
    def reason(self) -> Any:
        """Why the search ended: a sentence, or a list of them."""
        statuses, steps = np.asarray(self.status), np.asarray(self.num_steps)
        sentences = [_sentence(*pair) for pair in zip(statuses.reshape(-1), steps.reshape(-1), strict=True)]
        return sentences if statuses.ndim else sentences[0]

    @property
    def evaluations(self) -> Mapping[str, Any]:
        """How often each question was asked: `function`, `gradient`, `jacobian`, `hessian_vector`."""
        return {name: _number(count) for name, count in self.counts._asdict().items()}

    @property
    def history(self) -> list[dict[str, Any]]:
        """A mapping for the start and for each step: `step`, `value`, and the counts so far; empty if not kept."""
        if self.rows is None:
            return []
        counts = {name: column.tolist() for name, column in self.rows.counts._asdict().items()}
        values = self.rows.value.tolist()
        return [
            {"step": step, "value": value, **{name: column[step] for name, column in counts.items()}}
            for step, value in enumerate(values)
        ]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *["parameters", "value", "status", "num_steps", "counts", "rows", "path"],
        *["residuals", "covariance", "standard_errors"],
    ],
    meta_fields=[],
)
@dataclass(frozen=True, repr=False)
class Fitted(Minimum):
    """A `Minimum` of least squares, and how far it can be trusted.

    Attributes:
      residuals: (m,), at the parameters.
      covariance: (n, n), of the parameters as one vector: s^2 (J'J)^-1 with s^2 the sum of squares over m - n. NaN
        where m <= n, and infinite where the residuals do not decide a parameter.
      standard_errors: square roots of the covariance's diagonal, of the structure and shapes of the parameters.
    """

    residuals: Any = None
    covariance: Any = None
    standard_errors: Any = None


def _sentence(status, num_steps) -> str:
    steps = f"after {num_steps} step{'' if num_steps == 1 else 's'}"
    remedy = ": dp.diagnose says which operation makes it so" if status in (NOT_FINITE, WENT_OFF) else ""
    return f"{REASONS[status]}, {steps}{remedy}"


def _number(count):
    return int(count) if isinstance(count, np.ndarray | jax.Array) and not _is_many(count) else count


def _is_many(count):
    return isinstance(count, jax.core.Tracer) or count.ndim > 0
