"""The one descent loop: fitting, rendering an image and attacking a network differ only in what they hand to it.

    loop = Descent(objective, optax.adam(0.05), maximize=True)
    state = loop.start(image, key=jax.random.key(0))
    state, history = loop.run(state, steps=256, progress="rendering")

`objective(parameters, step)` is a pure function to a scalar. `step` carries everything that is new in a turn of the
loop: its number, its random key and the caller's data. So full batch, mini-batch and single-example training
(`step.data` and `step.number`), an image under random transforms (`step.key`), and a projected attack (`project`,
`keep`) are one loop.
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

from diffprog.optimize._engine import value_and_grad


class Step(NamedTuple):
    """What a turn of the loop gives to the objective and to the projection."""

    number: jax.Array  # int32, counted from 0 over the whole descent, resumed or not
    key: jax.Array | None  # the state's key folded with `number`
    data: Any  # what the caller handed to `run`: arrays that stay the same from step to step


class State(NamedTuple):
    """Everything that the next step depends on, besides the data: keep it, and a run can go on exactly."""

    parameters: Any
    optimizer: Any  # Optax's state
    kept: Any  # what `keep` carries along; None without one
    number: jax.Array  # int32, steps taken so far
    key: jax.Array | None  # never consumed, only folded


class History(NamedTuple):
    """One row per step, NumPy arrays; row k was measured at the parameters *before* update k."""

    value: np.ndarray
    aux: Any  # the objective's auxiliary output, stacked; None without one


@dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent (or ascent) on any pytree of float arrays, compiled in blocks of steps.

    objective:  `objective(parameters, step) -> value`, or `-> (value, aux)` with `has_aux`.
    optimizer:  an Optax gradient transformation; it always sees the gradient to walk *down*.
    project:    `project(parameters, step) -> parameters`, applied after each update.
    keep:       `keep(kept, parameters, value, aux) -> kept`, called with each measured iterate: a best so far, a mean.
    maximize:   walk up instead; `History.value` still holds the objective itself.
    engine:     whose gradients, "diffprog" or "jax".

    Compilation belongs to the instance: runs of one `Descent` on equal shapes compile once.
    """

    objective: Callable
    optimizer: optax.GradientTransformation
    project: Callable | None = None
    keep: Callable | None = None
    maximize: bool = False
    has_aux: bool = False
    engine: str = "diffprog"

    def __post_init__(self):
        value_and_grad(self.engine)  # refuse an unknown name now, not in the middle of a trace

    def start(self, parameters, *, key=None, kept=None) -> State:
        """The state before the first step."""
        parameters, kept = jax.tree.map(_strong, (parameters, kept))
        return State(parameters, jax.tree.map(_strong, self.optimizer.init(parameters)), kept, jnp.int32(0), key)

    def run(
        self,
        state: State,
        steps: int,
        *,
        data=None,
        block: int = 50,
        progress: str | tqdm | None = None,
        callback: Callable | None = None,
    ) -> tuple[State, History]:
        """Take `steps` steps from `state`; return the new state and what was measured on the way.

        block:     steps per call of compiled code: how often the bar moves and `callback` runs, nothing else. Runs of
                   any length share the code of one `block`.
        progress:  a caption, which switches on a progress bar showing the objective; or a bar of yours, to be advanced.
        callback:  `callback(state, history)` after each block, with that block's history; a true answer ends the run.

        Two runs of m and n steps, the second from the first's state, give the bits of one run of m + n.
        """
        if steps < 0 or block < 1:
            raise ValueError(f"steps must be at least 0 and block at least 1; found steps={steps}, block={block}")
        histories = []
        with nullcontext(progress) if isinstance(progress, tqdm) else _bar(steps, progress) as bar:
            for first in range(0, max(steps, 1), block):
                count = min(block, steps - first)
                state, history = self._block(state, data, count, block)
                histories.append(jax.tree.map(lambda rows: np.asarray(rows)[:count], history))
                bar.update(count)
                if count == 0:
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
        def block(state, data, count, size):
            _, row = jax.eval_shape(advance, state, data)
            history = jax.tree.map(lambda r: jnp.zeros((size, *r.shape), r.dtype), row)

            def turn(index, carry):
                state, row = advance(carry[0], data)
                return state, jax.tree.map(lambda rows, r: rows.at[index].set(r), carry[1], row)

            return jax.lax.fori_loop(0, count, turn, (state, history))

        return block

    def _advance(self, state: State, data) -> tuple[State, History]:
        key = None if state.key is None else jax.random.fold_in(state.key, state.number)
        step = Step(state.number, key, data)
        measured, gradient = value_and_grad(self.engine)(self.objective, has_aux=self.has_aux)(state.parameters, step)
        value, aux = measured if self.has_aux else (measured, None)
        kept = self.keep(state.kept, state.parameters, value, aux) if self.keep else state.kept
        if self.maximize:
            gradient = jax.tree.map(jnp.negative, gradient)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        if self.project:
            parameters = self.project(parameters, step)
        return State(parameters, optimizer, kept, state.number + 1, state.key), History(value, aux)


def _bar(steps, caption):
    return tqdm(total=steps, desc=caption, disable=caption is None)


def _strong(leaf):
    """An array of definite type: a Python number's weak type would change in the first step, and stop the loop."""
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, leaf.dtype) if leaf.weak_type else leaf
