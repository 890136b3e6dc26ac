"""When a fit has come far enough."""

from dataclasses import dataclass, replace
from typing import Any

from diffprog._util.numbers import check_count


@dataclass(frozen=True)
class EarlyStop:
    """Ends a fit when a measured value no longer gets better, and keeps the parameters it was best at.

    Attributes:
      name: of the value in the history's rows.
      patience: measurements without a better value after which the fit ends.
      min_change: by how much a value must be better to count.
      maximize: whether larger is better.
    """

    name: str
    patience: int
    min_change: float
    maximize: bool


def early_stop(
    name: str = "validation_loss", *, patience: int = 5, min_change: float = 0.0, maximize: bool = False
) -> EarlyStop:
    """Stop a fit when a value measured on the validation data no longer gets better.

    The result's parameters are those at which the value was best, whether or not the fit was stopped.

    Args:
      name: "validation_loss", or "validation_" and the name of a metric; "averaged_" before it for the mean weights.
      patience: number of measurements without a better value.
      min_change: by how much a value must be better to count, at least 0.
      maximize: whether larger is better, as of an accuracy.

    Returns:
      What `fit` takes as `stop`.

    Raises:
      ValueError: `patience` is no positive whole number, or `min_change` is negative.
    """
    if not min_change >= 0:
        raise ValueError(f"min_change must be a number of at least 0; found {min_change!r}")
    return EarlyStop(name, check_count(patience, "patience"), float(min_change), bool(maximize))


@dataclass(frozen=True)
class Best:
    """The best that was measured so far.

    Attributes:
      value: the watched value; None before the first that is a number.
      step: steps taken then.
      count: measurements since then.
      parameters: the trained leaves it was measured at.
      state: the model's state then.
    """

    value: float | None
    step: int
    count: int
    parameters: Any
    state: Any

    def after(self, stop: EarlyStop, value: float, step: int, parameters: Any, state: Any) -> "Best":
        """Take the next measurement into account."""
        if _is_better(stop, value, self.value):
            return Best(value, step, 0, parameters, state)
        return replace(self, count=self.count + 1)

    def reason(self, stop: EarlyStop) -> str | None:
        """Say why the fit ends now, if it does."""
        if self.count < stop.patience:
            return None
        if self.value is None:
            return f"{stop.name} was NaN in {self.count} measurements"
        return (
            f"{stop.name} was best, {self.value:.6g}, at step {self.step}, and not better in {self.count} measurements"
        )


def _is_better(stop: EarlyStop, value: float, best: float | None) -> bool:
    if best is None:
        return value == value  # not NaN
    return value > best + stop.min_change if stop.maximize else value < best - stop.min_change
