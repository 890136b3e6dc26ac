"""A fit under way: blocks of steps, what is noted beside them, and how it ends."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from diffprog._util.warning import warn
from diffprog.diagnosis import diagnose
from diffprog.fit._averaging import averaged
from diffprog.fit._directory import Directory
from diffprog.fit._history import COLUMNS, Rows
from diffprog.fit._measuring import Measure
from diffprog.fit._result import Fit
from diffprog.fit._stopping import Best, EarlyStop
from diffprog.optimize import Descent, History, NotFiniteError, State
from diffprog.optimize._trainable import split

Block = dict[str, np.ndarray]


class Moment(NamedTuple):
    """How far a fit has come: replaced as a whole, so that an interrupt finds all of one moment.

    Attributes:
      step: steps taken.
      state: the loop's state after them.
      evaluations: how often the loss and its gradient were asked for in them.
      mark: how many rows the history has.
      waiting: rows of the last block, whose last step is still to be measured; None if it was.
      best: the best that was measured, where that is watched.
      ended: why the fit is over; None if it is not.
    """

    step: int
    state: State
    evaluations: int
    mark: tuple[int, int]
    waiting: Block | None
    best: Best | None
    ended: str | None


class Run:
    """A fit under way.

    Attributes:
      directory: where it is stored; None for nowhere.
      rows: its history.
    """

    def __init__(
        self,
        descent: Descent,
        batches: Any,
        start: State,
        total: int,
        measure: Measure | None,
        validate_every: int,
        stop: EarlyStop | Callable | None,
        callbacks: Sequence[Callable],
        history_every: int,
        average: float | None,
        key: jax.Array,
    ):
        self._descent, self._batches, self._total, self._measure = descent, batches, total, measure
        self._validate_every, self._stop, self._callbacks = validate_every, stop, callbacks
        self._history_every, self._average, self._key = history_every, average, key
        self._pauses = bool(measure or stop or callbacks)
        self.directory: Directory | None = None
        self.rows, self._seconds, self._first, self._goal = Rows(), 0.0, 0, 0
        best = Best(None, 0, 0, self._trainable(start), start.tracked) if isinstance(stop, EarlyStop) else None
        self.at = Moment(0, start, 0, self.rows.mark(), None, best, None)

    def resume(self, directory: Directory) -> None:
        """Go on where the directory's newest checkpoint is."""
        self.directory, self.rows = directory, directory.rows
        found = directory.read(self._tree())
        if found is None:
            self.at = self.at._replace(mark=self.rows.mark())
            return
        tree, notes = found
        self._seconds, best, waiting = notes["seconds"], self.at.best, notes["waiting"]
        state = self.at.state._replace(
            parameters=self._join(tree["parameters"]),
            optimizer=tree["optimizer"],
            tracked=tree["state"],
            num_steps=tree["step"],
        )
        if best is not None:
            value, step, count = notes["best"]
            best = Best(value, step, count, tree["best"]["parameters"], tree["best"]["state"])
        if waiting is not None:
            waiting = {name: np.array(column) for name, column in waiting.items()}
        step, evaluations = notes["step"], notes["evaluations"]
        self.at = Moment(step, state, evaluations, self.rows.mark(), waiting, best, notes["ended"])
        self._batches.restore(notes["step"], notes["position"])

    def go(self, bar: tqdm, rebuild: Callable[[Any, Any], Any]) -> Fit:
        """Run to the end.

        Args:
          bar: to be advanced.
          rebuild: makes what the user gave of parameters and state.

        Returns:
          The result, which says how the fit ended.
        """
        self._started, look, finished = time.perf_counter() - self._seconds, None, True
        try:
            reason = self._loop(bar) or f"took all {self._total} steps"
        except KeyboardInterrupt:
            self.rows.cut(self.at.mark)
            reason, finished = f"interrupted after step {self.at.step}", False
        except NotFiniteError as error:
            look, finished = self._broken_off(error), False
            what = str(error).partition(": this error's")[0].replace("the objective", "the loss")
            reason = (
                f"{what}; the parameters are those before it, and diagnose() of the result says where it comes from"
            )
            warn(f"fit ended: {reason}")
        if self.directory is not None and self.directory.saved != self.at.step:
            self._save()
        if self.directory is not None and finished:
            self.directory.close()
        if self.at.waiting is not None:
            self.rows.add(self.at.waiting)
        return self._result(reason, finished, rebuild, look)

    def _loop(self, bar: tqdm) -> str | None:
        if self.at.waiting is not None:
            self._pause()
        while self.at.ended is None and self.at.step < self._total:
            step, self._goal = self.at.step, self._total if self._pauses else -1
            if self._pauses:
                self._goal = min(self._total, (step // self._validate_every + 1) * self._validate_every)
            data, count = self._batches.segment(step, (self._goal if self._pauses else self._total) - step)
            if count == 0:
                return f"the data ended after step {step}"
            self._first = step
            self._descent.run(self.at.state, count, data=data, progress=bar, callback=self._after_block)
            if self.at.waiting is not None:
                self._pause()
        return self.at.ended

    def _after_block(self, state: State, history: History) -> None:
        """Note a block's rows. Those of a step that is measured wait for that."""
        last = self.at.step + len(history.value)
        block, evaluations = self._block(last, history)
        if last == self._goal:
            self.at = self.at._replace(step=last, state=state, evaluations=evaluations, waiting=block)
            return
        self.rows.add(block)
        self.at = self.at._replace(step=last, state=state, evaluations=evaluations, mark=self.rows.mark())
        if self.directory is not None and self.directory.is_due():
            self._save()

    def _block(self, last: int, history: History) -> tuple[Block, int]:
        """Make the rows of a block of steps, and count what was evaluated up to its end."""
        count = len(history.value)
        asked = np.ones(count, np.int64) if history.evaluations is None else history.evaluations.astype(np.int64)
        asked = self.at.evaluations + np.cumsum(asked)
        steps, now = np.arange(last - count + 1, last + 1), time.perf_counter() - self._started
        chosen = (steps % self._history_every == 0) | (steps == self._goal) | (steps == self._total)
        steps = steps[chosen]
        epochs, examples = self._batches.seen(steps)
        norms = np.full(count, np.nan) if history.gradient_norm is None else history.gradient_norm
        seconds, self._seconds = np.linspace(self._seconds, now, count + 1)[1:], now
        columns = (steps, history.value[chosen], norms[chosen], epochs, examples, asked[chosen], seconds[chosen])
        return dict(zip(COLUMNS, columns, strict=True)), int(asked[-1])

    def _pause(self) -> None:
        """Measure, and ask whoever may end the fit."""
        step, state, best, ended = self.at.step, self.at.state, self.at.best, None
        measured = self._measured()
        assert self.at.waiting is not None
        self.rows.add(self.at.waiting, measured)
        row = self.rows.last()
        if isinstance(self._stop, EarlyStop) and best is not None:
            if self._stop.name not in row:
                names = ", ".join(measured)
                raise ValueError(f"early_stop watches {self._stop.name!r}, which is not measured; there are {names}")
            best = best.after(self._stop, row[self._stop.name], step, self._trainable(state), state.tracked)
            ended = best.reason(self._stop)
        elif callable(self._stop) and self._stop(row):
            ended = f"stop ended it after step {step}"
        for callback in self._callbacks:
            if callback(row, state.parameters):
                ended = ended or f"a callback ended it after step {step}"
        self.at = Moment(step, state, self.at.evaluations, self.rows.mark(), None, best, ended)
        if self.directory is not None and (ended or self.directory.is_due()):
            self._save()

    def _measured(self) -> dict[str, float]:
        if self._measure is None:
            return {}
        sets = {"": self._trainable(self.at.state)} | ({} if self._average is None else {"averaged_": self._averaged()})
        return {
            f"{prefix}validation_{name}": value
            for prefix, trainable in sets.items()
            for name, value in self._measure(trainable, self._join, self._key, self.at.state.tracked).items()
        }

    def _trainable(self, state: State) -> Any:
        return split(state.parameters, self._descent.train)[0]

    def _join(self, trainable: Any) -> Any:
        return split(self.at.state.parameters, self._descent.train)[1](trainable)

    def _averaged(self) -> Any:
        return averaged(self.at.state.optimizer[-1], self._average or 0.0, self._trainable(self.at.state))

    def _tree(self) -> Any:
        state, best = self.at.state, self.at.best
        tree = {
            "parameters": self._trainable(state),
            "optimizer": state.optimizer,
            "state": state.tracked,
            "step": state.num_steps,
        }
        return tree if best is None else tree | {"best": {"parameters": best.parameters, "state": best.state}}

    def _save(self) -> None:
        """Write a checkpoint of this moment."""
        at = self.at
        notes = {
            "step": at.step,
            "evaluations": at.evaluations,
            "seconds": self._seconds,
            "ended": at.ended,
            "position": self._batches.position(at.step),
            "best": None if at.best is None else [at.best.value, at.best.step, at.best.count],
            "waiting": None if at.waiting is None else {name: c.tolist() for name, c in at.waiting.items()},
        }
        if self.directory is not None:
            self.directory.write(self._tree(), notes)

    def _broken_off(self, error: NotFiniteError) -> Callable[[], Any]:
        """Keep the good steps of the block that was broken off, and how to look at the bad one."""
        good = jax.tree.map(lambda rows: rows[self.at.step - self._first : -1], error.history)
        last, evaluations = self.at.step + len(good.value), self.at.evaluations
        if len(good.value):
            block, evaluations = self._block(last, good)
            self.rows.add(block)
        self.at = self.at._replace(step=last, state=error.state, evaluations=evaluations, mark=self.rows.mark())
        is_short = len(self._batches.sizes) == 2 and bool(self._batches.is_short(error.step))
        batch = self._batches.batch(error.step, self._batches.sizes[-1 if is_short else 0])

        def loss(parameters, batch):
            result = self._descent.objective(self._join(parameters), error.step._replace(data=batch))
            return result[0] if isinstance(result, tuple) else result

        return lambda: diagnose(loss)(self._trainable(error.state), batch)

    def _result(self, reason: str, finished: bool, rebuild: Callable, look: Callable | None) -> Fit:
        state, best = self.at.state, self.at.best
        parameters, tracked = state.parameters, state.tracked
        if best is not None and best.value is not None:
            parameters, tracked = self._join(best.parameters), best.state
        mean = None if self._average is None else rebuild(self._join(self._averaged()), state.tracked)
        step = self.at.step
        return Fit(rebuild(parameters, tracked), tracked, mean, step, reason, finished, self.rows, look)
