"""The descent loop that fitting a network, rendering an image and training a perturbation share.

    loop = Descent(objective, optax.adam(0.05), maximize=True)
    state = loop.init(image, key=jax.random.key(0))
    state, history = loop.run(state, max_steps=256, progress="rendering")

`objective(parameters, step)` is a pure function to a scalar. `step` carries everything that is new in a turn of the
loop: its number, its random key and the caller's data. So full batch, mini-batch and single-example training
(`step.data` and `step.num_steps`), an image under random transforms (`step.key`), and projected descent (`project`,
`track`) are one loop.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from diffprog._jax_internals import typeof
from diffprog._transforms.closures import Lifted, lift
from diffprog._util.promotion import own_promotion
from diffprog._util.trees import strong_types
from diffprog.optimize._engine import value_and_grad
from diffprog.optimize._gradients import downhill, num_trials, squared_norm, update
from diffprog.optimize._trainable import Train, split

BLOCK_SECONDS = 0.1  # what a block of steps takes where none is asked for: a bar that moves, and little of Python
SHARED_BLOCK = 64  # steps of a block that several processes run together
BLOCK_BYTES = 2**22  # of a block's history
MAX_ROWS = 8192
NOT_MEASURED = -1.0  # in place of NaN, at which `jax_debug_nans` would stop
MANY_OPERATIONS = (
    1000  # of a step, above which a program takes long to compile and the gradient's norm counts for little
)


class Step(NamedTuple):
    """What a turn of the loop gives to the objective and to the projection.

    Attributes:
      num_steps: int32, steps taken before this one in the whole descent, resumed or not.
      key: the state's key folded with `num_steps`; None without one.
      data: the `data` of `Descent.run`, which stays equal from step to step.
      tracked: the result of `track` so far; None without one.
    """

    num_steps: jax.Array
    key: jax.Array | None
    data: Any
    tracked: Any = None


class State(NamedTuple):
    """Everything besides the data that the next step depends on: store it, and a run can go on exactly.

    Attributes:
      parameters: pytree that is optimized, with the leaves that are kept.
      optimizer: Optax's state, of the leaves that are trained.
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
      gradient_norm: Euclidean norms of the gradient, NaN in steps in which it was not measured; None where infinity
        and NaN are allowed.
      evaluations: how often value and gradient were asked for, where Optax searches along a line; else None, for once.
    """

    value: Any
    aux: Any
    gradient_norm: Any = None
    evaluations: Any = None


class NotFiniteError(FloatingPointError):
    """Says that an objective or its gradient is NaN or infinite, and at which step first.

    Attributes:
      state: the loop's state before that step: the last good one.
      history: of the steps of this run, that one included.
      step: what the objective was given in that step.
    """

    def __init__(self, message: str, state: State, history: History, step: Step, objective: Callable):
        super().__init__(message)
        self.state, self.history, self.step, self._objective = state, history, step, objective

    def diagnose(self) -> Any:
        """Run that step once more with every value and gradient kept, and say where the first NaN is born.

        Returns:
          What `diffprog.diagnose` says of the objective there, a `Diagnosis`.
        """
        from diffprog.diagnosis import diagnose  # of the same floor, and needed only here

        trainable, join = split(self.state.parameters)

        def objective(parameters):
            result = self._objective(join(parameters), self.step)
            return result[0] if isinstance(result, tuple) else result

        return diagnose(objective)(trainable)


@dataclass
class _Program:
    """What is compiled for one type of state and data, and how many steps a block of it should have."""

    advance: Lifted
    norm_every: int
    join: Callable
    row_bytes: int
    block_size: int = 1

    def choose(self, num_steps: int, seconds: float) -> None:
        """Choose the size of the next block by how long one took: grown step by step, as the first one compiles."""
        wanted = int(num_steps * BLOCK_SECONDS / max(seconds, 1e-6))
        if jax.process_count() > 1:  # whose clocks differ, and which must run the same blocks
            wanted = min(2 * num_steps, SHARED_BLOCK)
        self.block_size = max(1, min(wanted, 16 * num_steps, self.max_rows))

    def run(self, carry: State, data: Any, num_steps: int, num_rows: int) -> tuple[State, History, Any]:
        """Run a block."""
        return _block(self.advance, carry, data, num_steps, num_rows, self.norm_every)

    @property
    def max_rows(self) -> int:
        return max(1, min(MAX_ROWS, BLOCK_BYTES // max(self.row_bytes, 1)))


@dataclass(frozen=True, eq=False)
class Descent:
    """Gradient descent (or ascent) on a pytree's arrays of floats or complex numbers, compiled in blocks of steps.

    Other leaves, like integers, random keys, functions and texts, are kept and not trained, so a model of Equinox goes
    in as it is. Compiled programs are found again by the operations in them: another `Descent` of the same objective
    on equal shapes compiles nothing. An instance reads what its objective refers to once for each type of state and
    data.

    Attributes:
      objective: `objective(parameters, step) -> value`, or `-> (value, aux)` with `has_aux`.
      optimizer: an Optax gradient transformation; it always sees the gradient to walk *down*, and where it asks for
        them `value`, `grad` and `value_fn` of the function to walk down, so `optax.lbfgs()` works.
      project: `project(parameters, step) -> parameters`, applied after each update.
      track: `track(tracked, parameters, value, aux) -> tracked`, called with each measured iterate: keeps a best one
        so far, or a mean.
      maximize: walk up instead; `History.value` still holds the objective itself.
      has_aux: the objective returns an auxiliary output.
      engine: whose gradients, "diffprog" or "jax".
      train: which of the trainable leaves to train: a glob for their paths, several, or a test (path, leaf); all by
        default.
      allow_nonfinite: whether to walk on where the objective or its gradient is NaN or infinite. Otherwise the run
        ends at the first such step with a `NotFiniteError`.
      differentiate: in place of `engine`, a transform with the signature of `jax.value_and_grad`, which is given the
        objective as a function of parameters and step.
      keep_aux: whether the history holds the auxiliary output.
      norm_every: steps between two in which the gradient's norm is measured, which takes as long as a step of a tiny
        network. A gradient that is not finite is found at the latest at the end of its block, and its step is named
        all the same. A program of many operations is not compiled twice for it: it measures in every step.
    """

    objective: Callable
    optimizer: optax.GradientTransformation
    project: Callable | None = None
    track: Callable | None = None
    maximize: bool = False
    has_aux: bool = False
    engine: str = "diffprog"
    train: Train = None
    allow_nonfinite: bool = False
    differentiate: Callable | None = None
    keep_aux: bool = True
    norm_every: int = 1
    _programs: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        value_and_grad(self.engine)  # refuse an unknown name now, not in the middle of a trace
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            raise TypeError(
                f"optimizer must be an Optax gradient transformation, as optax.sgd(0.1); found {self.optimizer!r:.60}"
            )

    def init(self, parameters: Any, *, key: jax.Array | None = None, tracked: Any = None) -> State:
        """Make the state before the first step.

        Args:
          parameters: pytree to begin with.
          key: random key that the steps' keys are folded from.
          tracked: what `track` begins with.

        Returns:
          The state, of definite types: a Python number's weak type would change in the first step.

        Raises:
          ValueError: `parameters` hold nothing that can be trained.
        """
        trainable, join = split(parameters, self.train)
        if not jax.tree.leaves(trainable):
            raise ValueError(
                "parameters must hold an array of floats or complex numbers to train; found none: convert integers "
                "by jnp.float32"
            )
        trainable, tracked = strong_types(jax.tree.map(jnp.asarray, (trainable, tracked)))
        optimizer = strong_types(downhill(self.optimizer, trainable).init(trainable))
        return State(join(trainable), optimizer, tracked, jnp.int32(0), key)

    def run(
        self,
        state: State,
        max_steps: int,
        *,
        data: Any = None,
        block_size: int | None = None,
        progress: str | tqdm | None = None,
        callback: Callable[[State, History], Any] | None = None,
    ) -> tuple[State, History]:
        """Take steps from a state.

        Two runs of m and n steps, the second from the first's state, give the bits of one run of m + n.

        Args:
          state: where to go on.
          max_steps: number of steps, unless `callback` ends the run.
          data: pytree of arrays that the objective finds in `step.data`.
          block_size: steps per call of compiled code: how often the bar moves and `callback` runs, nothing else. By
            default it grows until a block takes about 0.1 s. Runs of any length share the code of one block size.
          progress: a caption, which shows a progress bar with the objective; or a bar of yours, to be advanced.
          callback: called after each block with the state and the block's history; a true answer ends the run.

        Returns:
          The new state, and the history of all steps.

        Raises:
          ValueError: `max_steps` is negative or `block_size` is not positive.
          NotFiniteError: the objective or its gradient is NaN or infinite, and that is not allowed.
        """
        if max_steps < 0 or (block_size is not None and block_size < 1):
            raise ValueError(
                f"max_steps must be at least 0 and block_size at least 1; found max_steps={max_steps}, "
                f"block_size={block_size}"
            )
        program = self._program(state, data)
        carry = state._replace(parameters=split(state.parameters, self.train)[0])
        histories: list[History] = []
        num_rows, taken = block_size or program.max_rows, 0
        with nullcontext(progress) if isinstance(progress, tqdm) else _bar(max_steps, progress) as bar:
            while taken < max_steps or not histories:
                num_steps = min(block_size or program.block_size, max_steps - taken)
                started, before = time.perf_counter(), carry
                carry, rows, done = program.run(carry, data, num_steps, num_rows)
                count = num_steps if done is None else int(done[0])
                histories.append(_on_host(rows, count))
                if done is not None and not done[1]:
                    self._stop(program, before, data, count, num_steps, num_rows, histories)
                if num_steps:
                    program.choose(num_steps, time.perf_counter() - started)
                    bar.update(num_steps)
                    bar.set_postfix(objective=f"{histories[-1].value[-1] + 0.0:.4g}")  # + 0.0: not -0
                taken += num_steps
                if num_steps == 0 or (callback is not None and callback(_joined(carry, program.join), histories[-1])):
                    break
        return _joined(carry, program.join), _concatenated(histories)

    def _program(self, state: State, data: Any) -> _Program:
        """Find or make the program for a state's types. What is kept in it is part of the program."""
        trainable, join = split(state.parameters, self.train)
        carry = state._replace(parameters=trainable)
        leaves, tree = jax.tree.flatten((carry, data))
        key = (tuple(map(typeof, leaves)), tree, tuple(map(id, join.kept)))
        if key not in self._programs:
            while len(self._programs) >= 8:
                self._programs.pop(next(iter(self._programs)))
            every = 0 if self.allow_nonfinite else self.norm_every
            advance = lift(partial(self._advance, join, every > 0), carry, data)
            if advance.num_operations > MANY_OPERATIONS:
                every = min(every, 1)
            row = jax.tree.leaves(advance.result[1])
            row_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in row) + 4
            self._programs[key] = _Program(advance, every, join, row_bytes)
        return self._programs[key]

    def _advance(self, join: Callable, measures: bool, state: State, data: Any) -> tuple[State, History, jax.Array]:
        key = None if state.key is None else jax.random.fold_in(state.key, state.num_steps)
        step = Step(state.num_steps, key, data, state.tracked)
        objective = lambda parameters, step: self.objective(join(parameters), step)
        transform = self.differentiate or value_and_grad(self.engine)
        differentiated = lambda parameters: transform(objective, has_aux=self.has_aux)(parameters, step)
        measured, gradient = differentiated(state.parameters)
        value, aux = measured if self.has_aux else (measured, None)
        tracked = self.track(state.tracked, join(state.parameters), value, aux) if self.track else state.tracked
        with own_promotion():  # which Optax is written for
            norm = jnp.sqrt(squared_norm(gradient)) if measures else None
            is_finite = jnp.isfinite(value) if norm is None else _is_finite(value, norm, gradient)
            parameters, optimizer = update(
                self.optimizer, state.parameters, state.optimizer, value, gradient, differentiated, self.maximize
            )
        if self.project:
            parameters = split(self.project(join(parameters), step), self.train)[0]
        state = State(parameters, optimizer, tracked, state.num_steps + 1, state.key)
        trials = num_trials(optimizer)
        evaluations = None if trials is None else trials + 1
        return state, History(value, aux if self.keep_aux else None, norm, evaluations), is_finite

    def _stop(self, program, before, data, count, num_steps, num_rows, histories):
        """Take the block's good steps once more, which gives the same bits, and say which one was bad."""
        if program.norm_every > 1:  # look at each gradient
            _, rows, (looked, is_finite) = _block(program.advance, before, data, num_steps, num_rows, 1)
            good = np.isfinite(histories[-1].value)
            if bool(is_finite) and good.all():
                return  # the last update overflowed, which the next step will tell; or the norm alone did
            count = int(np.argmin(good)) + 1 if bool(is_finite) else int(looked)
            histories[-1] = _on_host(rows, count)
        carry, _, _ = program.run(before, data, count - 1, num_rows)
        state, history = _joined(carry, program.join), _concatenated(histories)
        number, value, norm = int(state.num_steps), history.value[-1], history.gradient_norm[-1]
        key = None if state.key is None else jax.random.fold_in(state.key, number)
        if np.isfinite(value):
            what = f"the gradient of the objective, which is {value:.4g}, has NaN or infinity in it (norm {norm})"
        else:
            what = f"the objective is {value}"
        raise NotFiniteError(
            f"{what} in step {number + 1}: this error's `state` is the one before it, and its `diagnose()` says where "
            "that comes from",
            state,
            history,
            Step(state.num_steps, key, data, state.tracked),
            self.objective,
        )


@partial(jax.jit, static_argnums=(4, 5))
def _block(
    advance: Lifted, state: State, data: Any, num_steps: int, num_rows: int, norm_every: int
) -> tuple[State, History, Any]:
    # The number of turns is an argument, not a constant: the last, shorter block reuses the compiled code, and the
    # compiler cannot unroll a short loop into code that rounds differently.
    _, row, _ = jax.eval_shape(advance, state, data)
    rows = lambda fill: lambda r: jnp.full((num_rows, *r.shape), fill, r.dtype)
    history = jax.tree.map(rows(0), row._replace(gradient_norm=None))
    history = history._replace(gradient_norm=jax.tree.map(rows(NOT_MEASURED), row.gradient_norm))

    def turn(measures, index, state, history):
        state, row, is_finite = advance(state, data)
        if not measures:  # nobody asks for the norm, and the compiler drops it
            row = row._replace(gradient_norm=None)
        kept = history.gradient_norm if row.gradient_norm is None else None
        history = history if kept is None else history._replace(gradient_norm=None)
        history = jax.tree.map(lambda rows, r: rows.at[index].set(r), history, row)
        return index + 1, state, history if kept is None else history._replace(gradient_norm=kept), is_finite

    if norm_every == 0:
        state, history = jax.lax.fori_loop(
            0, num_steps, lambda index, carry: turn(True, index, *carry)[1:3], (state, history)
        )
        return state, history, None

    if norm_every == 1:
        goes_on = lambda carry: (carry[0] < num_steps) & carry[3]
        body = lambda carry: turn(True, *carry[:3])
        start = (jnp.int32(0), state, history, jnp.bool(True))
        index, state, history, is_finite = jax.lax.while_loop(goes_on, body, start)
        return state, history, (index, is_finite)

    def chunk(carry):  # steps without the norm, which look at nothing, up to one with it
        end = jnp.minimum(carry[0] + -carry[1].num_steps % norm_every, num_steps)
        carry = jax.lax.while_loop(lambda carry: carry[0] < end, lambda carry: turn(False, *carry)[:3], carry)
        return jax.lax.cond(carry[0] < num_steps, lambda carry: turn(True, *carry)[:3], lambda carry: carry, carry)

    carry = (jnp.int32(0), state, history)
    index, state, history = jax.lax.while_loop(lambda carry: carry[0] < num_steps, chunk, carry)
    # To look at each value in its step would take a tenth of a tiny network's time.
    seen = [history.value, history.gradient_norm, *jax.tree.leaves(state.parameters)]
    return state, history, (index, jnp.stack([jnp.isfinite(leaf).all() for leaf in seen]).all())


def _is_finite(value: jax.Array, norm: jax.Array, gradient: Any) -> jax.Array:
    """Whether value and gradient are finite: the norm tells, but it may overflow where no element does."""
    each = lambda: jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)]).all()
    return jnp.isfinite(value) & jax.lax.cond(jnp.isfinite(norm), lambda: jnp.bool(True), each)


def _on_host(rows: History, count: int) -> History:
    history = jax.tree.map(lambda rows: np.asarray(rows)[:count], rows)
    norm = history.gradient_norm
    return history if norm is None else history._replace(gradient_norm=np.where(norm < 0, np.float32(np.nan), norm))


def _joined(carry: State, join: Callable) -> State:
    return carry._replace(parameters=join(carry.parameters))


def _concatenated(histories: list[History]) -> History:
    return histories[0] if len(histories) == 1 else jax.tree.map(lambda *rows: np.concatenate(rows), *histories)


def _bar(num_steps: int, caption: str | None) -> tqdm:
    return tqdm(total=num_steps, desc=caption, disable=caption is None)
