"""Steps of an optimizer, until it has found what it looks for: compiled, one row or many, each to its own end."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffprog._util.trees import strong_types
from diffprog._util.warning import warn
from diffprog.optimize._search.optimizer import INTERRUPTED, SEARCHING, Optimizer
from diffprog.optimize._search.oracle import Counts, Oracle

BLOCK_SIZE = 100  # steps per call of compiled code: how often a bar moves, nothing else


class Row(NamedTuple):
    """What is kept of a step.

    Attributes:
      value: of the function at the best point so far.
      counts: what was asked so far.
      point: the best point so far, (n,); None unless the path is kept.
    """

    value: jax.Array
    counts: Counts
    point: jax.Array | None


class Found(NamedTuple):
    """Where a search has ended.

    Attributes:
      point: (n,), the best point.
      value: of the function there.
      counts: what was asked.
      status: why it ended.
      num_steps: steps that were taken.
      residuals: (m,), at the point, if the optimizer's state has them.
      jacobian: (m, n), at the point, if the optimizer's state has it.
    """

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    num_steps: jax.Array
    residuals: jax.Array | None = None
    jacobian: jax.Array | None = None


def search(
    oracle: Oracle,
    optimizer: Optimizer,
    point: jax.Array,
    key: jax.Array,
    max_steps: int,
    *,
    keeps_path: bool = False,
    progress: str | None = None,
) -> tuple[Found, Row]:
    """Search from a point, outside of any transformation.

    An interrupt (Ctrl-C) ends the search with a warning; only the steps of the block that runs are lost.

    Returns:
      The end of the search, and NumPy rows for the start and after each step.
    """
    state = _begin(oracle, optimizer, point, key)
    rows = [jax.tree.map(lambda x: np.asarray(x)[None], _row(state, keeps_path))]
    num_steps = 0
    with tqdm(total=max_steps, desc=progress, disable=progress is None) as bar:
        try:
            while num_steps < max_steps and int(state.status) == SEARCHING:
                wanted = min(BLOCK_SIZE, max_steps - num_steps)
                after, block, taken = _block(oracle, optimizer, state, wanted, keeps_path)
                rows.append(jax.tree.map(lambda x: np.asarray(x)[: int(taken)], block))
                state, num_steps = after, num_steps + int(taken)
                bar.update(int(taken))
                bar.set_postfix(value=f"{float(state.value):.6g}")
        except KeyboardInterrupt:
            warn("the search was interrupted: its result is the best point so far, which has not converged")
            state = state._replace(status=jnp.int32(INTERRUPTED))
    return _found(state, jnp.int32(num_steps)), jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


def traced_search(oracle: Oracle, optimizer: Optimizer, point: jax.Array, key: jax.Array, max_steps: int) -> Found:
    """Search from a point inside `jit` or `vmap`, as one loop; residuals and Jacobian are not kept."""
    state, num_steps = _steps(oracle, optimizer, _begin(oracle, optimizer, point, key), max_steps)
    return _found(state, num_steps)._replace(residuals=None, jacobian=None)


def _found(state: Any, num_steps: jax.Array) -> Found:
    linear = (getattr(state, name, None) for name in ("residuals", "jacobian"))
    return Found(state.point, state.value, state.counts, state.status, num_steps, *linear)


@jax.jit
def _begin(oracle, optimizer, point, key):
    return strong_types(optimizer.init(oracle, oracle.clip(point), key))


@partial(jax.jit, static_argnums=4)
def _block(oracle, optimizer, state, max_steps, keeps_path):
    # The number of steps is an argument: a last, shorter block finds the same program, and rounds alike.
    empty = jax.tree.map(lambda x: jnp.zeros((BLOCK_SIZE, *x.shape), x.dtype), _row(state, keeps_path))

    def turn(carry):
        state, num_steps, rows = carry
        state = optimizer.update(oracle, state)
        rows = jax.tree.map(lambda rows, x: rows.at[num_steps].set(x), rows, _row(state, keeps_path))
        return state, num_steps + 1, rows

    state, num_steps, rows = jax.lax.while_loop(_goes_on(max_steps), turn, (state, jnp.int32(0), empty))
    return state, rows, num_steps


def _steps(oracle, optimizer, state, max_steps):
    def turn(carry):
        state, num_steps = carry
        return optimizer.update(oracle, state), num_steps + 1

    return jax.lax.while_loop(_goes_on(max_steps), turn, (state, jnp.int32(0)))


def _goes_on(max_steps):
    return lambda carry: (carry[0].status == SEARCHING) & (carry[1] < max_steps)


def _row(state: Any, keeps_path: bool) -> Row:
    return Row(state.value, state.counts, state.point if keeps_path else None)
