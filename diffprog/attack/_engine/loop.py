"""The one loop behind every attack: rows of images go through compiled blocks of steps, and leave when they are done.

A batch has a fixed number of rows. Each row has its own image, budget, step number and key, and no row sees another:
what becomes of an image does not depend on what it shares a batch with. Finished rows are frozen, and taken by the next
images of the queue between blocks; so several budgets, restarts and the last, ragged batch are one compiled program.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffprog.attack._engine import border
from diffprog.attack._engine.method import Candidate, Example, Method, Oracle, smaller

BLOCKS = 20  # a search with a progress bar comes back so often


class Row(NamedTuple):
    """An image's search."""

    state: Any
    best: Candidate
    step: jax.Array  # int32
    first: jax.Array  # int32, steps before the first success, or -1
    queries: jax.Array  # int32
    gradients: jax.Array
    finished: jax.Array  # bool


class Trace:
    """What was found so far, on the host: one row per image and budget, the best over all restarts."""

    def __init__(self, images, method: Method):
        rows = len(images)
        self.images, self._better = images.copy(), method.better
        self.hit, self.first = np.zeros(rows, bool), np.full(rows, -1)
        self.value, self.size = np.full(rows, -np.inf, np.float32), np.full(rows, np.inf, np.float32)
        self.steps, self.queries, self.gradients = (np.zeros(rows, int) for _ in range(3))

    def add(self, places, row: Row):
        """Take in finished searches: `row`, in NumPy arrays, of the rows `places`."""
        kept = Candidate(None, self.value[places], self.hit[places], self.size[places])
        better = np.asarray(self._better(kept, row.best))
        into = places[better]
        for mine, found in (
            (self.images, row.best.point),
            (self.value, row.best.value),
            (self.hit, row.best.hit),
            (self.size, row.best.size),
        ):
            mine[into] = found[better]
        newly = (self.first[places] < 0) & (row.first >= 0)
        self.first[places[newly]] = row.first[newly]
        for mine, spent in ((self.steps, row.step), (self.queries, row.queries), (self.gradients, row.gradients)):
            mine[places] += spent


class Loop:
    """A method, a model and a number of rows: compiled once, for any number of images.

    rows are rounded up to a multiple of the number of devices. Keys come and go as their bits, of the generator `impl`.
    """

    def __init__(self, method: Method, oracle: Oracle, rows: int, devices=None, impl: str = "threefry2x32"):
        devices = list(devices or [])
        self.oracle, self._rows = oracle, rows + -rows % max(len(devices), 1)
        kept = _hashable((method, oracle))
        self._programs = (_programs if kept else _programs.__wrapped__)(method, oracle, impl)
        self._ask = (_logits if kept else _logits.__wrapped__)(oracle.model, impl)
        self._place = jax.device_put
        if devices:
            sharding = NamedSharding(Mesh(np.array(devices), ("images",)), PartitionSpec("images"))
            self._place = lambda tree: jax.device_put(tree, sharding)

    def logits(self, images, keys) -> np.ndarray:
        """The model's logits of any number of images, a batch at a time."""
        found, asked = [], None
        for first in range(0, len(images), self._rows):
            chosen = self._padded(np.arange(first, min(first + self._rows, len(images))))
            asked, before = self._ask(*self._place((images[chosen], keys[chosen]))), asked
            if before is not None:  # waited for while the next batch is on its way
                found.append(np.asarray(before))
        return np.concatenate([*found, np.asarray(asked)])[: len(images)]

    def run(self, example, queue, trace: Trace, given, max_steps: int, early_stop: bool, bar):
        """Search for the rows of `queue`, whose examples `example(rows)` are, and add what is found to `trace`."""
        if not len(queue):
            return
        bar.total += len(queue) * max_steps
        rows = examples = None
        taken = np.zeros(self._rows, int)  # steps of each row, as the bar knows them
        owner = np.full(self._rows, -1)  # which row of the trace a row of the batch works for
        while len(queue) or (owner >= 0).any():
            free = np.flatnonzero(owner < 0)[: len(queue)]
            if len(free):
                owner[free], queue = queue[: len(free)], queue[len(free) :]
                fresh = np.isin(np.arange(self._rows), free)
                taken = np.where(fresh, 0, taken)
                chosen = np.where(owner >= 0, owner, owner[free[0]])  # a row without an owner copies one, and rests
                examples = self._place(example(chosen))
                rows = self._programs.admit(rows, examples, given, *self._place((fresh, owner < 0)))
            turns = max_steps if bar.disable else -(-max_steps // BLOCKS)
            enough = -(-self._rows // 4) if len(queue) else self._rows  # come back when so many rows are free
            rows = self._programs.block(rows, examples, given, max_steps, turns, enough, early_stop)
            rows = self._programs.conclude(rows, examples, max_steps)
            host = jax.device_get(rows._replace(state=None))
            done = host.finished & (owner >= 0)
            bar.update(int((host.step - taken)[owner >= 0].sum()))
            taken = host.step
            if done.any():
                leaving = np.flatnonzero(done)
                trace.add(owner[leaving], jax.tree.map(lambda leaf: leaf[leaving], host))
                bar.total -= int((max_steps - host.step[leaving]).sum())
                owner[leaving] = -1
                bar.set_postfix(successes=int(trace.hit.sum()))

    def _padded(self, chosen):
        return np.concatenate([chosen, np.full(self._rows - len(chosen), chosen[0])])


class Programs(NamedTuple):
    """The compiled parts of a search, on whole batches."""

    admit: Any  # (rows or None, examples, given, fresh, resting) -> rows
    block: Any  # (rows, examples, given, steps, turns, enough, early_stop) -> rows
    conclude: Any  # (rows, examples, steps) -> rows


@lru_cache(maxsize=32)
def _programs(method: Method, oracle: Oracle, impl: str) -> Programs:
    def opened(examples):
        return examples._replace(key=jax.random.wrap_key_data(examples.key, impl=impl))

    def candidate(examples, points, value, hit):
        seek = method.better is smaller
        size = jax.vmap(method.norm.size)(points - examples.image) if seek else jnp.zeros(len(points))
        return Candidate(points, value, hit, size)

    def admit(rows, examples, given, fresh, resting):
        count, examples = len(fresh), opened(examples)
        state = jax.vmap(method.start, (0, None))(examples, given)
        nothing = Candidate(examples.image, jnp.full(count, -jnp.inf), jnp.zeros(count, bool), jnp.full(count, jnp.inf))
        zeros = jnp.zeros(count, jnp.int32)
        new = Row(jax.tree.map(_strong, state), nothing, zeros, zeros - 1, zeros, zeros, jnp.zeros(count, bool))
        rows = new if rows is None else _choose(fresh, new, rows)
        return rows._replace(finished=(rows.finished & ~fresh) | resting)

    def turn(rows, examples, given, max_steps, early_stop):
        keys = jax.vmap(jax.random.fold_in)(examples.key, rows.step)
        view = method.look(oracle, method.loss, rows.state, examples, given, keys)
        view = view._replace(
            number=rows.step,
            key=keys,
            queries=_each(view.queries, rows.step),
            gradients=_each(view.gradients, rows.step),
        )
        best = _keep(rows.best, candidate(examples, rows.state.point, view.value, view.hit), method.better)
        state = jax.vmap(method.learn, (0, None, 0, 0))(examples, given, rows.state, view)
        step = rows.step + 1
        first = jnp.where((rows.first < 0) & view.hit, rows.step, rows.first)
        finished = (step >= max_steps) | (early_stop & view.hit) | getattr(state, "done", False)
        new = Row(state, best, step, first, rows.queries + view.queries, rows.gradients + view.gradients, finished)
        return _choose(rows.finished, rows, new)

    def block(rows, examples, given, max_steps, turns, enough, early_stop):
        examples = opened(examples)

        def go_on(carry):
            return (carry[0] < turns) & (jnp.sum(carry[1].finished) < enough)

        def body(carry):
            return carry[0] + 1, turn(carry[1], examples, given, max_steps, early_stop)

        return jax.lax.while_loop(go_on, body, (0, rows))[1]

    def conclude(rows, examples, max_steps):
        """The point that the last step led to has not been looked at yet."""
        ended = rows.finished & (rows.step == max_steps)

        def look(rows):
            own = opened(examples)
            keys = jax.vmap(jax.random.fold_in)(own.key, rows.step)
            value, logits = oracle.ask(rows.state.point, own, keys, method.loss)
            hit = oracle.hit(logits, own)
            best = _keep(rows.best, candidate(own, rows.state.point, value, hit), method.better)
            first = jnp.where((rows.first < 0) & hit, rows.step, rows.first)
            return rows._replace(
                best=_choose(ended, best, rows.best),
                first=jnp.where(ended, first, rows.first),
                queries=rows.queries + ended,
            )

        return jax.lax.cond(jnp.any(ended), look, lambda rows: rows, rows)

    return Programs(jax.jit(admit), jax.jit(block), jax.jit(conclude))


@lru_cache(maxsize=32)
def _logits(model, impl: str):
    """(images, bits of keys) -> [n, classes], compiled: one program for all the attacks on a model."""
    oracle = Oracle(model, False, None, "jax")

    def logits(images, keys):
        keys, nobody = jax.random.wrap_key_data(keys, impl=impl), jnp.zeros(len(images), jnp.int32)
        examples = Example(images, nobody, nobody, None, None, None, keys)
        found = oracle.ask(images, examples, keys, lambda logits, labels, target_classes: jnp.zeros(len(images)))[1]
        return border.checked_answer(found)

    return jax.jit(logits)


def _keep(kept: Candidate, new: Candidate, better) -> Candidate:
    return _choose(better(kept, new), new, kept)


def _choose(where, yes, no):
    """Rows of one pytree or the other."""

    def leaf(y, n):
        if jax.dtypes.issubdtype(n.dtype, jax.dtypes.prng_key):
            data = leaf(jax.random.key_data(y), jax.random.key_data(n))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(n))
        return jnp.where(where.reshape(-1, *[1] * (n.ndim - 1)), y, n)

    return jax.tree.map(leaf, yes, no)


def _each(cost, rows):
    return jnp.broadcast_to(jnp.asarray(cost, jnp.int32), rows.shape)


def _strong(leaf):
    return jax.lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf


def _hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True
