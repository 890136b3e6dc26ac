"""`minimize` and `least_squares`: one protocol for what asks for values, gradients or second derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from diffprog._transforms.closures import Lifted
from diffprog._util.numbers import check_count
from diffprog._util.promotion import own_promotion
from diffprog._util.random_keys import random_key
from diffprog._util.spelling import answers_names
from diffprog.optimize._methods import defaults
from diffprog.optimize._search.flat import Unflatten
from diffprog.optimize._search.implicit import differentiable
from diffprog.optimize._search.loop import Found, Row, search, traced_search
from diffprog.optimize._search.oracle import Oracle
from diffprog.optimize._search.place import at_place
from diffprog.optimize._search.problem import prepare
from diffprog.optimize._search.result import Fitted, Minimum
from diffprog.optimize._search.spelling import MEANT
from diffprog.optimize._search.uncertainty import uncertainty


@answers_names(MEANT)
@own_promotion()
def minimize(
    function: Callable[[Any], Any],
    parameters: Any,
    optimizer: Any = None,
    *,
    bounds: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    at: Any = None,
    keeps_path: bool = False,
    progress: str | None = None,
    engine: str = "diffprog",
) -> Minimum:
    """Minimize a function of any parameters by any of the optimizers.

    Works under `jax.vmap`, where each row ends by itself, and under `jit`. The result has exact derivatives with
    respect to what the function closes over, by the implicit function theorem, in both modes.

    Args:
      function: `function(parameters)`, a real scalar.
      parameters: where to begin: a pytree. Float and complex arrays are optimized; integers, keys, functions and other
        leaves stay.
      optimizer: one of this package's (`lbfgs()`, `trust_region()`, `cma_es()`, ...), or an Optax transformation. By
        default `lbfgs()`, with bounds `lbfgsb()`.
      bounds: pair (lower, upper), each a number, None, or shaped like the parameters.
      max_steps: steps after which to end; by default the optimizer's own.
      key: random key, or a seed, of what an optimizer draws; 0 by default.
      at: selector (see `dp.graph`) of a value inside `function`. It is optimized in place of the parameters, which
        stay: the result's `parameters` is that value.
      keeps_path: keep the parameters after each step.
      progress: caption of a progress bar; None shows none.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      The best parameters found, the value there, why the search ended, and what was asked of the function.

    Raises:
      ValueError: an argument that cannot be used, or an optimizer that cannot do what is asked.
    """
    if at is not None:
        function, parameters = at_place(function, parameters, at)
    oracle, start, unflatten = prepare(function, parameters, bounds, engine, gives_residuals=False)
    optimizer = defaults.optimizer_for(optimizer, oracle, start, unflatten)
    found, rows = _search(oracle, optimizer, start, key, max_steps, keeps_path, progress)
    return Minimum(**_kept(found, rows, unflatten))


@answers_names(MEANT)
@own_promotion()
def least_squares(
    residuals: Callable[[Any], Any],
    parameters: Any,
    optimizer: Any = None,
    *,
    bounds: Any = None,
    max_steps: int | None = None,
    key: Any = None,
    at: Any = None,
    keeps_path: bool = False,
    progress: str | None = None,
    engine: str = "diffprog",
) -> Fitted:
    """Minimize half the sum of squared residuals, and say how sure the parameters are.

    Works under `jax.vmap` and `jit`, and has exact derivatives, as `minimize`.

    Args:
      residuals: `residuals(parameters)`, an array or a pytree of arrays: prediction minus observation, each over its
        standard deviation if these differ.
      parameters: where to begin: a pytree, as for `minimize`.
      optimizer: `levenberg_marquardt()` by default; `gauss_newton()`, or any that `minimize` takes.
      bounds: pair (lower, upper), each a number, None, or shaped like the parameters.
      max_steps: steps after which to end; by default the optimizer's own.
      key: random key, or a seed, of what an optimizer draws; 0 by default.
      at: selector of a value inside `residuals` to optimize in place of the parameters.
      keeps_path: keep the parameters after each step.
      progress: caption of a progress bar; None shows none.
      engine: whose gradients, "diffprog" or "jax".

    Returns:
      The best parameters found, with residuals, covariance and standard errors.

    Raises:
      ValueError: an argument that cannot be used, or an optimizer that cannot do what is asked.
    """
    if at is not None:
        residuals, parameters = at_place(residuals, parameters, at)
    oracle, start, unflatten = prepare(residuals, parameters, bounds, engine, gives_residuals=True)
    optimizer = defaults.optimizer_for(optimizer, oracle, start, unflatten)
    found, rows = _search(oracle, optimizer, start, key, max_steps, keeps_path, progress)
    if found.jacobian is None:
        found = _linearized(oracle, found)
    covariance, errors = uncertainty(found.residuals, found.jacobian)
    return Fitted(
        **_kept(found, rows, unflatten),
        residuals=found.residuals,
        covariance=covariance,
        standard_errors=unflatten(errors),
    )


def _search(oracle: Oracle, optimizer, start, key, max_steps, keeps_path, progress) -> tuple[Found, Row | None]:
    max_steps = type(optimizer).max_steps if max_steps is None else check_count(max_steps, "max_steps", least=0)
    key = random_key(0 if key is None else key)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((oracle, start, key, optimizer))):
        oracle, optimizer = jax.tree.map(_staged, (oracle, optimizer), is_leaf=_is_lifted)  # rules run later
        find = differentiable(partial(traced_search, max_steps=max_steps))
        return find(oracle, optimizer, start, key), None
    return search(oracle, optimizer, start, key, max_steps, keeps_path=keeps_path, progress=progress)


def _is_lifted(node: Any) -> bool:
    return isinstance(node, Lifted)


def _staged(node: Any) -> Any:
    return node.staged() if _is_lifted(node) else node


def _kept(found: Found, rows: Row | None, unflatten: Unflatten) -> dict[str, Any]:
    return {
        "parameters": unflatten(found.point),
        "value": found.value,
        "status": found.status,
        "num_steps": found.num_steps,
        "counts": found.counts,
        "rows": rows,
        "path": None if rows is None or rows.point is None else jax.vmap(unflatten)(rows.point),
    }


@jax.jit
def _linearized(oracle: Oracle, found: Found) -> Found:
    """Ask for residuals and Jacobian at the minimum, if the optimizer did not keep them."""
    residuals, counts = oracle.residuals(found.point, found.counts)
    jacobian, counts = oracle.jacobian(found.point, counts)
    return found._replace(residuals=residuals, jacobian=jacobian, counts=counts)
