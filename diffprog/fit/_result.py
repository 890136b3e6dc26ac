"""What a fit returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from diffprog.fit._history import Rows


@dataclass(frozen=True)
class Fit:
    """Fitted parameters, how they came about, and why the fit ended.

    Attributes:
      parameters: pytree as it was given, fitted. After an early stop those at which the watched value was best, after
        a loss that was not finite the last ones at which it was, otherwise the last.
      state: the model's state that belongs to them; None without one.
      averaged: the weighted mean of the parameters after each step; None where none was asked for.
      step: steps taken.
      reason: why the fit ended, a sentence.
      finished: whether it took all its steps or was stopped as it should be: neither interrupted nor broken off.
    """

    parameters: Any
    state: Any
    averaged: Any
    step: int
    reason: str
    finished: bool
    _rows: Rows = field(repr=False)
    _diagnose: Callable[[], Any] | None = field(default=None, repr=False)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Rows of the history, one a step or one in several.

        `step` counts the steps taken. `loss` and, in rows that have it, `gradient_norm` were measured in that step, on
        its batch and before its update; what begins with `validation_` or `averaged_validation_` was measured after
        it. `epoch` and `examples` say what was seen so far, `evaluations` how often loss and gradient were
        evaluated, those of Optax's line searches (`optax.lbfgs()`) among them, and `seconds` how long the fit ran, over
        all its runs.
        """
        return self._rows.as_list()

    def diagnose(self) -> Any:
        """Say where a loss or gradient that is not finite comes from.

        Returns:
          What `diffprog.diagnose` says of the loss at `parameters`, on the batch of the step that broke the fit off.

        Raises:
          ValueError: All was finite.
        """
        if self._diagnose is None:
            raise ValueError("there is nothing to diagnose: loss and gradient were finite in every step")
        return self._diagnose()

    def save_curves(self, path: str | Path) -> Path:
        """Draw loss, gradient norm and what was measured over the steps.

        Args:
          path: of the picture, a PNG.

        Returns:
          The path.
        """
        from diffprog.fit._curves import save_curves  # Matplotlib, which an extra brings

        return save_curves(self.history, path)
