"""The largest eigenvalue of the Hessian along a run: how training comes to the edge of stability, and stays there."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog.optimize._curvature.lanczos import lanczos, vectors
from diffprog.optimize._search.problem import prepare


class Sharpness:
    """Measures the largest eigenvalue of an objective's Hessian as training goes on.

        sharpness = Sharpness(loss, data)
        loop.run(state, 1000, block_size=20, callback=sharpness)
        sharpness.steps, sharpness.values  # against 2 / alpha, or (2 + 2 beta) / alpha

    Full-batch gradient descent drives it up to 2 / alpha, where the quadratic would diverge, and goes on there: the
    edge of stability (Cohen, Kaur, Li, Kolter & Talwalkar 2021).

    Attributes:
      steps: steps after which it was measured.
      values: the largest eigenvalues.
      errors: each is within this of an eigenvalue, rounding aside.
    """

    def __init__(
        self,
        objective: Callable[..., Any],
        data: Any = None,
        *,
        tolerance: float = 1e-2,
        max_steps: int = 40,
        key: Any = 0,
        engine: str = "diffprog",
    ):
        """Prepare the measurement; each begins with the eigenvector of the last.

        Args:
          objective: `objective(parameters)`, or `objective(parameters, data)` with data.
          data: what the objective takes beside the parameters.
          tolerance: relative error to reach.
          max_steps: products of the Hessian with a vector at most, for one measurement.
          key: random key, or a seed.
          engine: whose gradients.
        """
        self._objective, self._data, self._engine = objective, data, engine
        self._tolerance, self._max_steps = tolerance, check_count(max_steps, "max_steps")
        self._key, self._vector = random_key(key), None
        self.steps: list[int] = []
        self.values: list[float] = []
        self.errors: list[float] = []

    def __call__(self, state: Any, history: Any = None) -> None:
        """Measure at a state's `parameters` and `num_steps`, as a callback of `Descent.run`."""
        self.measure(state.parameters, int(state.num_steps))

    @own_promotion()
    def measure(self, parameters: Any, step: int | None = None) -> float:
        """Measure at some parameters.

        Args:
          parameters: pytree.
          step: number to write down beside the value; the number of measurements by default.

        Returns:
          The largest eigenvalue.
        """
        objective, data = self._objective, self._data
        whole = objective if data is None else lambda parameters: objective(parameters, data)
        oracle, point, _ = prepare(whole, parameters, None, self._engine, gives_residuals=False)
        key = jax.random.fold_in(self._key, len(self.steps))
        start = self._vector
        if start is None or start.shape != point.shape:
            start = jax.random.normal(key, point.shape, point.dtype)
        krylov, found = lanczos(oracle, point, start, key, tolerance=self._tolerance, max_steps=self._max_steps)
        self._vector = vectors(krylov, found.coordinates[:, -1:])[0]
        self.steps.append(len(self.steps) if step is None else step)
        self.values.append(float(found.values[-1]))
        self.errors.append(float(found.errors[-1]))
        return self.values[-1]

    def over_border(self, alpha: float, beta: float = 0.0) -> np.ndarray:
        """Return the values over the border of stability of a quadratic, (2 + 2 beta) / alpha.

        Args:
          alpha: step size.
          beta: momentum.

        Returns:
          Ratios, about 1 at the edge of stability.
        """
        return np.asarray(self.values) * alpha / (2 + 2 * beta)
