"""Which optimizer a caller means."""

from typing import Any

import jax
import optax

from diffprog.optimize._methods.lbfgs import lbfgs
from diffprog.optimize._methods.lbfgsb import lbfgsb
from diffprog.optimize._methods.levenberg_marquardt import levenberg_marquardt
from diffprog.optimize._methods.transformation import Transformation
from diffprog.optimize._search.flat import Unflatten
from diffprog.optimize._search.optimizer import Optimizer
from diffprog.optimize._search.oracle import Oracle


def optimizer_for(optimizer: Any, oracle: Oracle, start: jax.Array, unflatten: Unflatten) -> Optimizer:
    """Read the argument `optimizer`.

    Args:
      optimizer: None, one of ours, or an Optax transformation.
      oracle: what it will ask.
      start: where it will begin, (n,).
      unflatten: makes the caller's parameters of a vector.

    Returns:
      One that the loop can run.

    Raises:
      ValueError: it is something else, or cannot do what is asked.
    """
    if optimizer is None:
        optimizer = _default(oracle)
    if isinstance(optimizer, optax.GradientTransformation) or hasattr(optimizer, "gradient_transformation"):
        return Transformation.of(optimizer, oracle, start, unflatten)
    if not all(hasattr(optimizer, name) for name in ("init", "update", "asks", "takes_bounds", "max_steps")):
        hint = ": call it, as optimize.lbfgs()" if callable(optimizer) else ""
        raise ValueError(
            f"optimizer must be one of diffprog.optimize, as lbfgs(), or an Optax transformation; found "
            f"{optimizer!r:.60}{hint}"
        )
    name = type(optimizer).__name__
    if optimizer.asks == "residuals" and not oracle.gives_residuals:
        raise ValueError(f"{name} needs residuals, and minimize gives it a scalar alone: call least_squares with it")
    if oracle.is_bounded and not optimizer.takes_bounds:
        raise ValueError(f"{name} knows no bounds: take lbfgsb(), or leave bounds out")
    return optimizer


def _default(oracle: Oracle) -> Any:
    if oracle.gives_residuals:
        return levenberg_marquardt()
    return lbfgsb() if oracle.is_bounded else lbfgs()
