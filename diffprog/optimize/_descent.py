"""The descent loop that fitting a network, rendering an image and training a perturbation share.

    loop = Descent(objective, optax.adam(0.05), maximize=True)
    state = loop.init(image, key=jax.random.key(0))
    state, history = loop.run(state, max_steps=256, progress="rendering")

`objective(parameters, step)` is a pure function to a scalar. `step` carries everything that is new in a turn of the
loop: its number, its random key and the caller's data. So full batch, mini-batch and single-example training
(`step.data` and `step.num_steps`), an image under random transforms (`step.key`), and projected descent (`project`,
`track`) are one loop.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from diffprog._util.promotion import own_promotion
from diffprog._util.trees import strong_types
from diffprog.optimize._engine import value_and_grad


class Step(NamedTuple):
    """What a turn of the loop gives to the objective and to the projection.

    Attributes:
      num_steps: int32, steps taken before this one in the whole descent, resumed or not.
      key: the state's key folded with `num_steps`; None without one.
      data: the `data` of `Descent.run`, which stays equal from step to step.
    """

    num_steps: jax.Array
    key: jax.Array | None
    data: Any


class State(NamedTuple):
    """Everything besides the data that the next step depends on: store it, and a run can go on exactly.

    Attributes:
      parameters: pytree of arrays that is optimized.
      optimizer: Optax's state.
      tracked: the result of `track` so far; None without one.
      num_steps: int32, steps taken so far.
      key: random key, never consumed, only folded; None without one.
    """

    parameters: Any
    optimizer: Any
    tracked: Any
    num_steps: jax.Array
    key: jax.Array | None


class History(NamedTuple):
    """One row per step; row k was measured at the parameters *before* update k.

    Attributes:
      value: values of the objective.
      aux: the objective's auxiliary output, stacked; None without one.
    """

    value: np.ndarray
    aux: Any


@dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent (or ascent) on any pytree of float arrays, compiled in blocks of steps.

    Compilation belongs to the instance: runs of one `Descent` on equal shapes compile once.

    Attributes:
      objective: `objective(parameters, step) -> value`, or `-> (value, aux)` with `has_aux`.
      optimizer: an Optax gradient transformation; it always sees the gradient to walk *down*.
      project: `project(parameters, step) -> parameters`, applied after each update.
      track: `track(tracked, parameters, value, aux) -> tracked`, called with each measured iterate: keeps a best one
        so far, or a mean.
      maximize: walk up instead; `History.value` still holds the objective itself.
      has_aux: the objective returns an auxiliary output.
      engine: whose gradients, "diffprog" or "jax".
    """

    objective: Callable
    optimizer: optax.GradientTransformation
    project: Callable | None = None
    track: Callable | None = None
    maximize: bool = False
    has_aux: bool = False
    engine: str = "diffprog"

    def __post_init__(self):
        value_and_grad(self.engine)  # refuse an unknown name now, not in the middle of a trace

    def init(self, parameters: Any, *, key: jax.Array | None = None, tracked: Any = None) -> State:
        """Make the state before the first step.

        Args:
          parameters: pytree of float arrays to begin with.
          key: random key that the steps' keys are folded from.
          tracked: what `track` begins with.

        Returns:
          The state, of definite types: a Python number's weak type would change in the first step.
        """
        parameters, tracked = strong_types(jax.tree.map(jnp.asarray, (parameters, tracked)))
        return State(parameters, strong_types(self.optimizer.init(parameters)), tracked, jnp.int32(0), key)

    def run(
        self,
        state: State,
        max_steps: int,
        *,
        data: Any = None,
        block_size: int = 50,
        progress: str | tqdm | None = None,
        callback: Callable[[State, History], Any] | None = None,
    ) -> tuple[State, History]:
        """Take steps from a state.

        Two runs of m and n steps, the second from the first's state, give the bits of one run of m + n.

        Args:
          state: where to go on.
          max_steps: number of steps, unless `callback` ends the run.
          data: pytree of arrays that the objective finds in `step.data`.
          block_size: steps per call of compiled code: how often the bar moves and `callback` runs, nothing else. Runs
            of any length share the code of one block size.
          progress: a caption, which shows a progress bar with the objective; or a bar of yours, to be advanced.
          callback: called after each block with the state and the block's history; a true answer ends the run.

        Returns:
          The new state, and the history of all steps.

        Raises:
          ValueError: `max_steps` is negative or `block_size` is not positive.
        """
        if max_steps < 0 or block_size < 1:
            raise ValueError(
                f"max_steps must be at least 0 and block_size at least 1; found max_steps={max_steps}, "
                f"block_size={block_size}"
            )
        histories = []
        with nullcontext(progress) if isinstance(progress, tqdm) else _bar(max_steps, progress) as bar:
            for first in range(0, max(max_steps, 1), block_size):
                num_steps = min(block_size, max_steps - first)
                state, history = self._block(state, data, num_steps, block_size)
                histories.append(jax.tree.map(lambda rows: np.asarray(rows)[:num_steps], history))
                bar.update(num_steps)
                if num_steps == 0:
                    break
                bar.set_postfix(objective=f"{histories[-1].value[-1] + 0.0:.4g}")  # + 0.0: not -0
                if callback is not None and callback(state, histories[-1]):
                    break
        return state, jax.tree.map(lambda *rows: np.concatenate(rows), *histories)

    @cached_property
    def _block(self) -> Callable:
        # The number of turns is an argument, not a constant: the last, shorter block reuses the compiled code, and the
        # compiler cannot unroll a short loop into code that rounds differently.
        advance = jax.jit(self._advance)  # traced once, for its shapes and for the loop

        @partial(jax.jit, static_argnums=3)
        def block(state, data, num_steps, block_size):
            _, row = jax.eval_shape(advance, state, data)
            history = jax.tree.map(lambda r: jnp.zeros((block_size, *r.shape), r.dtype), row)

            def turn(index, carry):
                state, row = advance(carry[0], data)
                return state, jax.tree.map(lambda rows, r: rows.at[index].set(r), carry[1], row)

            return jax.lax.fori_loop(0, num_steps, turn, (state, history))

        return block

    def _advance(self, state: State, data: Any) -> tuple[State, History]:
        key = None if state.key is None else jax.random.fold_in(state.key, state.num_steps)
        step = Step(state.num_steps, key, data)
        measured, gradient = value_and_grad(self.engine)(self.objective, has_aux=self.has_aux)(state.parameters, step)
        value, aux = measured if self.has_aux else (measured, None)
        tracked = self.track(state.tracked, state.parameters, value, aux) if self.track else state.tracked
        if self.maximize:
            gradient = jax.tree.map(jnp.negative, gradient)
        with own_promotion():  # which Optax is written for
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.parameters)
            parameters = optax.apply_updates(state.parameters, updates)
        if self.project:
            parameters = self.project(parameters, step)
        return State(parameters, optimizer, tracked, state.num_steps + 1, state.key), History(value, aux)


def _bar(num_steps: int, caption: str | None) -> tqdm:
    return tqdm(total=num_steps, desc=caption, disable=caption is None)
