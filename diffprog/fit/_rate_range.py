"""The learning-rate range test: which rates make a loss fall, and from which on it rises."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optax

from diffprog._util.numbers import check_count, check_positive
from diffprog.fit._fit import fit

SMOOTHING = 0.9  # of the losses' running mean
WINDOW = 10  # steps that it reaches back, about
RISEN = 4.0  # times the lowest smoothed loss: where the test ends


@dataclass(frozen=True)
class RateRange:
    """Losses along a run whose learning rate grows; printed, a sentence.

    Attributes:
      rates: (steps,), learning rates, a geometric sequence. It ends before a loss that is not finite.
      losses: (steps,), of each step's batch, before its update.
      smoothed: (steps,), their running mean without its bias at the start.
      steepest: the rate at which the smoothed loss falls fastest per decade.
      lowest_at: the rate at which the smoothed loss is lowest: from there on it rises.
      suggestion: a tenth of `lowest_at`: where a run is fast and far from the border.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    lowest_at: float
    suggestion: float

    def __str__(self):
        return (
            f"the loss falls fastest at a learning rate of {self.steepest:.2g} and rises from {self.lowest_at:.2g} on: "
            f"try {self.suggestion:.2g}"
        )

    def save_curve(self, path: str | Path) -> Path:
        """Draw the losses over the rates.

        Args:
          path: of the picture, a PNG.

        Returns:
          The path.
        """
        from diffprog.fit._curves import save_rates  # Matplotlib, which an extra brings

        return save_rates(self, path)


def learning_rate_range(
    loss: Callable,
    parameters: Any,
    data: Any,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    **options: Any,
) -> RateRange:
    """Fit with a learning rate that grows geometrically, and see where the loss falls and where it rises.

    The fit begins at the given parameters, and what it ends with is thrown away.

    Args:
      loss: as `fit` takes it.
      parameters: as `fit` takes them.
      data: as `fit` takes them.
      optimizer: makes an Optax transformation of a schedule: `optax.sgd`, `optax.adam`, or a function of yours.
      lowest: first learning rate.
      highest: last learning rate, if the loss is finite till then.
      steps: number of steps.
      **options: of `fit`: `batch_size`, `key`, `state`, `train` and others.

    Returns:
      Rates and losses, and a suggestion.

    Raises:
      ValueError: rates that do not grow, or losses that are not finite from the start.

    References:
      L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.
    """
    steps = check_count(steps, "steps", least=10)
    if check_positive(lowest, "lowest") >= check_positive(highest, "highest"):
        raise ValueError(f"lowest must be below highest; found {lowest} and {highest}")
    growth = (highest / lowest) ** (1 / (steps - 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit ended")  # which is what it is to find
        fitted = fit(loss, parameters, data, optimizer(lambda count: lowest * growth**count), steps=steps, **options)
    losses = np.array([row["loss"] for row in fitted.history])
    if len(losses) < 3:
        raise ValueError(f"the loss must be finite for a few steps at least; found that {fitted.reason}")
    weights = SMOOTHING ** np.arange(len(losses))
    smoothed = np.array([losses[i::-1] @ weights[: i + 1] / weights[: i + 1].sum() for i in range(len(losses))])
    risen = np.flatnonzero(smoothed > RISEN * np.minimum.accumulate(smoothed))
    end = max(3, risen[0] if len(risen) else len(losses))
    losses, smoothed = losses[:end], smoothed[:end]
    rates = lowest * growth ** np.arange(end)
    lowest_at = int(np.argmin(smoothed))
    slopes = np.gradient(smoothed, np.log(rates))
    settled = min(WINDOW, lowest_at)  # before, the running mean is that of a few batches
    steepest = settled + int(np.argmin(slopes[settled : lowest_at + 1]))
    return RateRange(
        rates,
        losses,
        smoothed,
        float(rates[steepest]),
        float(rates[lowest_at]),
        float(rates[lowest_at] / 10),
    )
