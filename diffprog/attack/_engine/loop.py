"""The one loop behind every attack.

A batch has a fixed number of slots, on the device. In each slot runs the search for one row of the result: one image
at one budget, with its own step number and key. A round is one compiled program: it begins the searches of free slots,
and takes steps until enough slots are finished. Between rounds the host takes finished rows out, and the next of the
queue that are still due:

    queue of rows      slots on the device     findings on the host
    [9 8 7 6 5] ------> [4][.][2][3] --------> rows 0 and 1, the best over all restarts
                         ^---- round ----

No slot sees another, and a finished slot is frozen: what becomes of an image does not depend on what shares its batch.
So several budgets, restarts and the last, ragged batch are all one compiled program.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffprog._util.trees import strong_types, tree_where
from diffprog.attack._engine import answers
from diffprog.attack._engine.method import AttackSpec, Candidate, Example, smaller_norm
from diffprog.attack._engine.oracle import Oracle, all_finite
from diffprog.attack._engine.per_image import values_and_axes

BLOCKS = 20  # a search with a progress bar comes back so often


class Slots(NamedTuple):
    """The searches of a batch, on the device: one row of every leaf per slot."""

    state: Any
    best: Candidate
    step: jax.Array  # int32
    first_success: jax.Array  # int32, steps before it, or -1
    queries: jax.Array  # int32
    backward_passes: jax.Array  # int32
    had_gradient: jax.Array  # bool, in some step a gradient that was not 0
    met_nonfinite: jax.Array  # bool, at some point logits that were not finite
    finished: jax.Array  # bool


class Findings:
    """The best of all restarts so far, on the host: one row per image and budget."""

    def __init__(self, images: np.ndarray, spec: AttackSpec):
        rows = len(images)
        self.images, self._better = images.copy(), spec.better
        self.is_adversarial, self.first_success = np.zeros(rows, bool), np.full(rows, -1)
        self.value, self.size = np.full(rows, -np.inf, np.float32), np.full(rows, np.inf, np.float32)
        self.steps, self.queries, self.backward_passes = (np.zeros(rows, int) for _ in range(3))
        self.had_gradient, self.met_nonfinite = np.zeros(rows, bool), np.zeros(rows, bool)
        self.searches = np.zeros(rows, int)  # that have ended

    def add(self, rows: np.ndarray, slots: Slots) -> None:
        """Take in finished searches, in NumPy arrays, for these rows."""
        before = Candidate(None, self.value[rows], self.is_adversarial[rows], self.size[rows])
        better = np.asarray(self._better(before, slots.best))
        improved = rows[better]
        self.images[improved] = slots.best.point[better]
        self.value[improved] = slots.best.value[better]
        self.is_adversarial[improved] = slots.best.is_adversarial[better]
        self.size[improved] = slots.best.size[better]
        newly = (self.first_success[rows] < 0) & (slots.first_success >= 0)
        self.first_success[rows[newly]] = slots.first_success[newly]
        self.steps[rows] += slots.step
        self.queries[rows] += slots.queries
        self.backward_passes[rows] += slots.backward_passes
        self.had_gradient[rows] |= slots.had_gradient
        self.met_nonfinite[rows] |= slots.met_nonfinite
        self.searches[rows] += 1


class Placement(NamedTuple):
    """Where a batch lives: its number of slots, and how arrays are put on the devices, by rows or whole on each."""

    num_slots: int
    put: Callable[[Any], Any]
    put_whole: Callable[[Any], Any]


def placement(batch_size: int, devices: Sequence[jax.Device] | None = None) -> Placement:
    """Divide a batch over devices; its size is rounded up to a multiple of their number."""
    if not devices:  # programs take arrays of NumPy faster than any function puts them on the device
        return Placement(batch_size, lambda tree: tree, lambda tree: tree)
    mesh = Mesh(np.array(list(devices)), ("images",))
    by_rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["images"], []))
    return Placement(
        batch_size + -batch_size % len(devices),
        lambda tree: jax.device_put(tree, by_rows),
        lambda tree: jax.device_put(tree, whole),
    )


class BatchedModel:
    """The logits of a model for any number of images, from one compiled program.

    Keys come as their bits, of the generator `key_impl`: rows are gathered on the host, where NumPy holds no keys.

    Attributes:
      oracle: the model, as it was when it was last asked, unless it was lifted before.
    """

    def __init__(self, oracle: Oracle, placement: Placement, key_impl: str):
        self.oracle, self._placement, self._key_impl = oracle, placement, key_impl

    def __call__(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Compute the logits (n, classes), a batch at a time."""
        num_slots, logits, running = self._placement.num_slots, [], None
        lifted = self.oracle.lifted_model(images, num_slots, self._key_impl)._replace(criterion=None, loss=None)
        program = partial(_logits if lifted.can_be_kept else jax.jit(_logits_of, static_argnums=0), self._key_impl)
        oracle = self._placement.put_whole(lifted)
        for first in range(0, len(images), num_slots):
            rows = np.arange(first, min(first + num_slots, len(images)))
            rows = np.concatenate([rows, np.full(num_slots - len(rows), first)])
            running, previous = program(oracle, *self._placement.put((images[rows], keys[rows]))), running
            if previous is not None:  # waited for while the next batch is on its way
                logits.append(np.asarray(previous))
        return np.concatenate([*logits, np.asarray(running)])[: len(images)]


class Loop:
    """An attack on a model in a number of slots: compiled once, for any number of images and any weights.

    Keys come as their bits, of the generator `key_impl`.
    """

    def __init__(
        self,
        spec: AttackSpec,
        oracle: Oracle,
        images: np.ndarray,
        labels: np.ndarray,
        placement: Placement,
        key_impl: str,
    ):
        self._placement = placement
        self._lifted = oracle._replace(loss=spec.loss).lifted(images, labels, placement.num_slots, key_impl)
        make = _kept_programs if self._lifted.can_be_kept else Programs
        self._programs = make(spec._replace(loss=None), key_impl)

    def run(
        self,
        data_of: Callable[[np.ndarray], tuple[Example, Any]],
        queue: np.ndarray,
        is_due: Callable[[np.ndarray], np.ndarray],
        findings: Findings,
        max_steps: int,
        early_stop: bool,
        bar: Any,
    ) -> None:
        """Search for every row of the queue that is due when its turn comes, and add the outcomes to the findings.

        Args:
          data_of: rows (num_slots,) -> their examples, and the hyperparameters of the attack.
          queue: rows to search for, in this order.
          is_due: rows (n,) -> bool (n,), which need a search, as far as is found by now.
          findings: what was found so far.
          max_steps: of each search.
          early_stop: end a search with its first success.
          bar: tqdm's.
        """
        bar.total += len(queue) * max_steps
        num_slots, put, put_whole = self._placement
        oracle = put_whole(self._lifted)
        slots = examples = hyperparameters = None
        row_of_slot = np.full(num_slots, -1)  # -1: the slot is free
        steps_shown = np.zeros(num_slots, int)  # by the bar
        while True:
            due = queue[is_due(queue)]
            bar.total -= (len(queue) - len(due)) * max_steps
            free = np.flatnonzero(row_of_slot < 0)[: len(due)]
            is_fresh = np.zeros(num_slots, bool)
            is_fresh[free] = True
            row_of_slot[free], queue = due[: len(free)], due[len(free) :]
            is_idle = row_of_slot < 0
            if is_idle.all():
                return
            if len(free):
                steps_shown = np.where(is_fresh, 0, steps_shown)
                rows = np.where(is_idle, row_of_slot[free[0]], row_of_slot)  # in idle slots any one
                examples, hyperparameters = data_of(rows)
                examples = put(examples)
            if slots is None:
                slots = self._programs.empty(examples, hyperparameters)
                is_fresh[:] = True
            block_steps = max_steps if bar.disable else -(-max_steps // BLOCKS)
            enough = -(-num_slots // 4) if len(queue) else num_slots  # come back when so many slots are finished
            counts = max_steps, block_steps, enough, early_stop
            slots = self._programs.round(oracle, slots, examples, hyperparameters, *put((is_fresh, is_idle)), *counts)
            finished, steps = jax.device_get((slots.finished, slots.step))
            bar.update(int((steps - steps_shown)[~is_idle].sum()))
            steps_shown = steps
            leaving = np.flatnonzero(finished & ~is_idle)
            if len(leaving):
                host = jax.device_get(slots._replace(state=None))
                findings.add(row_of_slot[leaving], jax.tree.map(lambda leaf: leaf[leaving], host))
                bar.total -= int((max_steps - steps[leaving]).sum())
                row_of_slot[leaving] = -1
                bar.set_postfix(successes=int(findings.is_adversarial.sum()))


class Programs:
    """The compiled parts of a search, on whole batches of slots."""

    def __init__(self, spec: AttackSpec, key_impl: str):
        self._spec, self._key_impl = spec, key_impl
        self.empty, self.round = jax.jit(self._empty), jax.jit(self._round)

    def _empty(self, examples, hyperparameters) -> Slots:
        """Make slots in which nothing has begun."""
        begun = jax.eval_shape(self._begun, examples, hyperparameters)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), begun)

    def _begun(self, examples, hyperparameters) -> Slots:
        """Begin a search in every slot."""
        count, examples = len(examples.label), self._with_keys(examples)
        values, axes = values_and_axes(hyperparameters)
        state = jax.vmap(self._spec.init, (0, axes))(examples, values)
        none, infinite = jnp.zeros(count, bool), jnp.full(count, jnp.inf, jnp.float32)
        image_itself = Candidate(examples.image, -infinite, none, infinite)
        zeros = jnp.zeros(count, jnp.int32)
        return Slots(strong_types(state), image_itself, zeros, zeros - 1, zeros, zeros, none, none, none)

    def _round(
        self,
        oracle: Oracle,
        slots: Slots,
        examples,
        hyperparameters,
        is_fresh,
        is_idle,
        max_steps,
        block_steps,
        enough,
        early_stop,
    ) -> Slots:
        """Begin the searches of fresh slots, and take up to `block_steps` steps, until `enough` slots are finished.

        Idle slots count as finished.
        """
        slots = tree_where(is_fresh, self._begun(examples, hyperparameters), slots)
        slots = slots._replace(finished=(slots.finished & ~is_fresh) | is_idle)
        examples = self._with_keys(examples)

        def goes_on(carry):
            steps, slots = carry
            return (steps < block_steps) & (jnp.sum(slots.finished) < enough)

        def body(carry):
            steps, slots = carry
            return steps + 1, self._step(oracle, slots, examples, hyperparameters, max_steps, early_stop)

        slots = jax.lax.while_loop(goes_on, body, (0, slots))[1]
        is_last = (slots.step == max_steps) | ~_can_afford(examples, slots.queries + self._spec.queries_per_step)
        ended = slots.finished & ~is_idle & is_last & _can_afford(examples, slots.queries + 1)
        conclude = partial(self._concluded, oracle, examples, ended)
        return jax.lax.cond(jnp.any(ended), conclude, lambda slots: slots, slots)

    def _step(self, oracle: Oracle, slots: Slots, examples, hyperparameters, max_steps, early_stop) -> Slots:
        """Query every slot's point, and move it on."""
        spec = self._spec
        keys = jax.vmap(jax.random.fold_in)(examples.key, slots.step)
        if examples.queries_left is not None:
            examples = examples._replace(queries_left=examples.queries_left - slots.queries)
        values, axes = values_and_axes(hyperparameters)
        view = spec.query(oracle, oracle.loss, slots.state, examples, values, keys)
        per_slot = lambda cost: jnp.broadcast_to(jnp.asarray(cost, jnp.int32), slots.step.shape)
        queries, backward_passes = per_slot(view.queries), per_slot(view.backward_passes)
        view = view._replace(step=slots.step, key=keys, queries=queries, backward_passes=backward_passes)
        had_gradient = slots.had_gradient | view.has_gradient
        view = view._replace(has_gradient=had_gradient)  # a row of every leaf per slot
        state = jax.vmap(spec.update, (0, axes, 0, 0))(examples, values, slots.state, view)
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, slots.state)
        step, is_adversarial = slots.step + 1, view.is_adversarial
        new = Slots(
            state=state,
            best=self._better_of(slots.best, self._candidate(examples, slots, view.value, is_adversarial)),
            step=step,
            first_success=jnp.where((slots.first_success < 0) & is_adversarial, slots.step, slots.first_success),
            queries=slots.queries + queries,
            backward_passes=slots.backward_passes + backward_passes,
            had_gradient=had_gradient,
            met_nonfinite=slots.met_nonfinite | ~all_finite(view.logits),
            finished=(step >= max_steps)
            | (early_stop & is_adversarial)
            | getattr(state, "done", False)
            | ~_can_afford(examples, queries + spec.queries_per_step),
        )
        return tree_where(slots.finished, slots, new)

    def _concluded(self, oracle: Oracle, examples, ended, slots: Slots) -> Slots:
        """Query the points that the last step led to, of slots that `ended`: no step has seen them."""
        keys = jax.vmap(jax.random.fold_in)(examples.key, slots.step)
        value, logits = oracle.evaluate(slots.state.point, examples, keys, oracle.loss)
        is_adversarial = oracle.is_adversarial(logits, examples.label)
        best = self._better_of(slots.best, self._candidate(examples, slots, value, is_adversarial))
        first_success = jnp.where((slots.first_success < 0) & is_adversarial, slots.step, slots.first_success)
        return slots._replace(
            best=tree_where(ended, best, slots.best),
            first_success=jnp.where(ended, first_success, slots.first_success),
            met_nonfinite=slots.met_nonfinite | (ended & ~all_finite(logits)),
            queries=slots.queries + ended,
        )

    def _candidate(self, examples, slots, value, is_adversarial) -> Candidate:
        points = slots.state.point
        measures = self._spec.better is smaller_norm
        nothing = jnp.zeros(len(points), jnp.float32)
        size = jax.vmap(self._spec.norm.size)(points - examples.image) if measures else nothing
        return Candidate(points, value, is_adversarial, size)

    def _better_of(self, best: Candidate, new: Candidate) -> Candidate:
        return tree_where(self._spec.better(best, new), new, best)

    def _with_keys(self, examples: Example) -> Example:
        return examples._replace(key=jax.random.wrap_key_data(examples.key, impl=self._key_impl))


def _can_afford(examples: Example, queries):
    """Tell which searches may spend so much."""
    return jnp.bool_(True) if examples.queries_left is None else queries <= examples.queries_left


# Without the loss, whose operations are the oracle's: programs are found again by what an attack does.
_kept_programs = lru_cache(maxsize=32)(Programs)


def _logits_of(key_impl: str, oracle: Oracle, images: jax.Array, key_bits: jax.Array) -> jax.Array:
    """Compute the logits (n, classes): one program for all the attacks on a model."""
    keys, no_class = jax.random.wrap_key_data(key_bits, impl=key_impl), jnp.zeros(len(images), jnp.int32)
    none: Any = None
    examples = Example(images, no_class, no_class, none, none, none, keys)
    no_loss = lambda logits, labels: jnp.zeros(len(images))
    return answers.check_answer(oracle.evaluate(images, examples, keys, no_loss)[1])


_logits = jax.jit(_logits_of, static_argnums=0)
