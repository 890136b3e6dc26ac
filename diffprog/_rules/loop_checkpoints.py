"""Running a loop of unknown length forward, and then backward, with a fixed number of stored states.

A loop with n iterations is reversed from its last iteration to its first, and each needs the state that the loop
had before it. Only K states are stored; the others are computed again from the nearest one before them. Two
questions decide how often: which states to keep on the way forward, when nobody knows how long that way will be
(online checkpointing: Stumm and Walther 2010, "New algorithms for optimal online checkpointing", SIAM J. Sci.
Comput. 32), and where to put states on the way back, when slots come free one by one and the distance is known
(Griewank and Walther 2000, algorithm 799, "revolve").

Forward. The state before every `stride`-th iteration is kept. When there is no room, the earliest state that lies
on no multiple of 2 * stride makes room; when there is none left, the stride doubles. So the gaps are largest at
the start, as in the optimal schedules, which end with the densest checkpoints because there the fewest slots are
free on the way back; for the same reason each doubling leaves one slot more unused, down to half of them.

Where a counter bounds the loop by no more than K iterations, all states are kept, and none of the following is needed.

Backward. The state before iteration `end - 1` is wanted. From the nearest one, L iterations before the end, the
loop is run again: with S slots free (that one's own included) a new state is put r / (S + r) of the way, where r is
the smallest number with binomial(S + r, S) >= L. This is revolve's split: no iteration of a stretch of L then runs
more than r times. Where all states of the stretch fit, all are stored.

Counting an iteration that runs forward as one evaluation of the body, and the one that is differentiated on the
way back as another, n <= K iterations cost 2 n. For longer loops and K >= 8 the number stays within a factor of
1.13 of the fewest possible for a known length, that of revolve (`tests/rules/test_loop_checkpoints.py` checks it to
56,000 iterations): at most about 3 n up to n = K^2 / 2 and 4 n up to n = K^3 / 6, with 64 states 2,000 and 44,000.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._jax_internals import add, instantiate, jaxpr_as_fun, trace_to_closed_jaxpr, weakref_lru_cache


class Loop(NamedTuple):
    """`while cond(constants, carry): carry = body(constants, carry)`.

    Attributes:
      body: closed jaxpr, constants + carry -> carry.
      cond: closed jaxpr, constants + carry -> whether to go on. It may be an array: then the loop is that of many
        examples, which the first axes of every carried array count, and one that is done stands still.
      num_consts: the number of constants.
      most: a number of iterations that it never exceeds, if one is known.
    """

    body: Any
    cond: Any
    num_consts: int
    most: int | None = None

    @property
    def num_args(self) -> int:
        return len(self.body.in_avals)

    @property
    def num_carry(self) -> int:
        return len(self.body.out_avals)

    @property
    def of_many(self) -> bool:
        return self.cond.out_avals[0].size > 1

    def fits(self, num_checkpoints: int) -> bool:
        """Whether as many checkpoints are enough for all states, so that none is computed again."""
        return self.most is not None and self.most <= num_checkpoints


class Checkpoints(NamedTuple):
    """A stack of states of a loop, the latest on top.

    Attributes:
      states: the loop's carry, each array with the slots along a new first axis.
      slots: int32 (number of slots,), in which slot the i-th checkpoint lies; beyond the top, the free slots.
      positions: int32 (number of slots,), how many iterations came before the i-th checkpoint.
      size: int32, how many checkpoints there are.
    """

    states: list
    slots: jax.Array
    positions: jax.Array
    size: jax.Array

    @classmethod
    def empty(cls, carry, num_slots: int):
        """Make room for states like `carry`."""
        states = [lax.broadcast(x, (num_slots,)) for x in carry]
        return cls(states, lax.iota(np.int32, num_slots), jnp.zeros(num_slots, np.int32), jnp.int32(0))

    def position(self):
        """Get the iteration number of the top checkpoint."""
        return _at(self.positions, self.size - 1)

    def state(self):
        """Get the state stored at the top checkpoint."""
        slot = _at(self.slots, self.size - 1)
        return [_at(x, slot) for x in self.states]

    def put(self, position, carry, stays):
        """Write a state above the top. Unless it `stays`, the next one takes its place."""
        slot = _at(self.slots, self.size)
        states = [_put(buffer, x, slot) for buffer, x in zip(self.states, carry, strict=True)]
        return Checkpoints(states, self.slots, _put(self.positions, position, self.size), self.size).grow(stays)

    def grow(self, flag):
        """Take what was put above the top onto the stack, if `flag`."""
        return self._replace(size=self.size + _int32(flag))


def _at(x, i):
    return lax.dynamic_index_in_dim(x, i, keepdims=False, allow_negative_indices=False)


def _put(x, part, i):
    return lax.dynamic_update_index_in_dim(x, part, i, 0, allow_negative_indices=False)


def _int32(x):
    return lax.convert_element_type(x, np.int32)


def _choose(flags, xs, ys):
    """Choose `xs` for the examples with a flag, and `ys` for the others."""
    per_example = lambda x: lax.broadcast_in_dim(flags, x.shape, range(flags.ndim))
    return [lax.select(per_example(x), x, y) for x, y in zip(xs, ys, strict=True)]


def _iteration(loop, consts, start):
    """Say what happens in one iteration.

    Returns:
      going: carry -> whether to go on, per example.
      step: (going, carry) -> carry after the iteration.
      body_input: (going, carry) -> the carry that the body gets. An example that is done may stand where the body or
        its derivative is not defined, and 0 * inf would spoil the gradient of what all examples share. So its body gets
        the state that the example started from (or another example, if it had nothing to do at all), and the result
        is not used.
    """
    is_going = lambda carry: jaxpr_as_fun(loop.cond)(*consts, *carry)[0]
    run = lambda carry: list(jaxpr_as_fun(loop.body)(*consts, *carry))
    if not loop.of_many:
        return is_going, lambda going, carry: run(carry), lambda going, carry: carry
    runs = is_going(start)
    first = lax.argmax(runs.reshape(-1), 0, np.int32)
    another = [_at(x.reshape(-1, *x.shape[runs.ndim :]), first) for x in start]
    defined = _choose(runs, start, [lax.broadcast(x, runs.shape) for x in another])
    body_input = lambda going, carry: _choose(going, carry, map(lax.stop_gradient, defined))
    return is_going, lambda going, carry: _choose(going, run(body_input(going, carry)), carry), body_input


# ---------------------------------------------------------------- forward


class _Progress(NamedTuple):
    """Where a loop stands on its way forward.

    Attributes:
      position: int32, how many iterations were run.
      carry: the state after them.
      going: whether to go on, per example.
    """

    position: jax.Array
    carry: list
    going: jax.Array


class _Schedule(NamedTuple):
    """Which states are kept on the way forward.

    Attributes:
      checkpoints: the checkpoints.
      stride: int32, the state before every `stride`-th iteration is kept.
      room: int32, how many checkpoints there may be.
      progress: where the loop stands.
    """

    checkpoints: Checkpoints
    stride: jax.Array
    room: jax.Array
    progress: _Progress


@weakref_lru_cache
def forward_program(body, cond, num_consts: int, most: int | None, num_checkpoints: int):
    """Stage the way forward of the loop of these parts.

    Returns:
      Closed jaxpr, constants + carry -> carry + what `backward_program` needs: `Checkpoints` and the number of
      iterations.
    """
    loop = Loop(body, cond, num_consts, most)

    def program(*args):
        consts, start = args[:num_consts], list(args[num_consts:])
        is_going, step, _ = _iteration(loop, consts, start)

        def run(now: _Progress):
            carry = step(now.going, now.carry)
            return _Progress(now.position + 1, carry, is_going(carry))

        def stretch(now: _Schedule):
            """Keep the state, after making room for it, and run to where the next one is to be kept."""
            checkpoints, stride, room, progress = now
            ints = *checkpoints[1:], stride, room
            thin = partial(_thin, min_room=num_checkpoints // 2 + 1)
            *ints, stride, room = lax.cond(checkpoints.size >= room, thin, lambda *ints: ints, *ints)
            checkpoints = Checkpoints(checkpoints.states, *ints)
            stays = (lax.rem(progress.position, stride) == 0) & (checkpoints.size < room)
            checkpoints = checkpoints.put(progress.position, progress.carry, stays)
            end = (lax.div(progress.position, stride) + 1) * stride
            runs = lambda now: jnp.any(now.going) & (now.position < end)
            return _Schedule(checkpoints, stride, room, lax.while_loop(runs, run, progress))

        def keep(now: _Schedule):
            """Keep the state, for which there is room, and run one iteration."""
            checkpoints = now.checkpoints.put(now.progress.position, now.progress.carry, True)
            return now._replace(checkpoints=checkpoints, progress=run(now.progress))

        # One slot more than is kept: there `put` writes what it does not keep, and the way back works.
        checkpoints = Checkpoints.empty(start, (most if loop.fits(num_checkpoints) else num_checkpoints) + 1)
        progress = _Progress(jnp.int32(0), start, is_going(start))
        first = _Schedule(checkpoints, jnp.int32(1), jnp.int32(num_checkpoints), progress)
        go_on = keep if loop.fits(num_checkpoints) else stretch
        last = lax.while_loop(lambda now: jnp.any(now.progress.going), go_on, first)
        return [*last.progress.carry, *last.checkpoints.states, *last.checkpoints[1:], last.progress.position]

    return trace_to_closed_jaxpr(program, body.in_avals, "while_forward")


def _thin(slots, positions, size, stride, room, min_room):
    """Remove the earliest checkpoint that lies on no multiple of 2 * stride; double the stride if there is none."""
    index = lax.iota(np.int32, len(slots))
    odd = lambda stride: (index < size) & (lax.rem(lax.div(positions, stride), np.int32(2)) == 1)
    double = ~jnp.any(odd(stride))
    stride = lax.select(double, stride * 2, stride)
    room = lax.select(double, lax.max(room - 1, np.int32(min_room)), room)
    removable = odd(stride)
    first, some = lax.argmax(removable, 0, np.int32), jnp.any(removable)
    # The checkpoints above it move down, and its slot becomes the first free one.
    source = jnp.where(index == size - 1, first, index + 1)
    source = jnp.where(some & (index >= first) & (index < size), source, index)
    return slots[source], positions[source], size - _int32(some), stride, room


# ---------------------------------------------------------------- backward


class _Replay(NamedTuple):
    """Where a loop is run again from a checkpoint.

    Attributes:
      steps: int32, how many iterations were run from there.
      carry: the state after them.
      checkpoints: the checkpoints.
    """

    steps: jax.Array
    carry: list
    checkpoints: Checkpoints


class _Reversal(NamedTuple):
    """Where a loop stands on its way back.

    Attributes:
      checkpoints: the checkpoints.
      end: int32, how many iterations are not reversed yet.
      sums: cotangents of the constants, summed so far.
      to_carry: cotangents of the carry after `end` iterations.
    """

    checkpoints: Checkpoints
    end: jax.Array
    sums: list
    to_carry: list


@weakref_lru_cache
def backward_program(body, cond, num_consts: int, most: int | None, num_checkpoints: int, pull):
    """Stage the way back of the loop of these parts.

    Args:
      body: of the loop.
      cond: of the loop.
      num_consts: of the loop.
      most: of the loop.
      num_checkpoints: as on the way forward.
      pull: the reverse of the body, a closed jaxpr: constants + carry + cotangents of some of the carry after the
        iteration -> cotangents of some constants + of that carry before it.

    Returns:
      Closed jaxpr, constants + carry at the start + saved + cotangents of that carry at the end
      -> cotangents of these constants + of that carry at the start.
    """
    loop = Loop(body, cond, num_consts, most)
    num_args, num_carry = loop.num_args, loop.num_carry
    saved_avals = forward_program(*loop, num_checkpoints).out_avals[num_carry:]
    cotangent_avals = pull.in_avals[num_args:]
    sum_avals = pull.out_avals[: len(pull.out_avals) - len(cotangent_avals)]

    def program(*args):
        consts, start = args[:num_consts], args[num_consts:num_args]
        *saved, end = args[num_args : num_args + len(saved_avals)]
        is_going, step, body_input = _iteration(loop, consts, start)
        flags = is_going if loop.of_many else lambda carry: None

        def fill(checkpoints: Checkpoints, end):
            """Run on from the top checkpoint, towards the last iteration that is not reversed yet."""
            position, carry = checkpoints.position(), checkpoints.state()
            length, free = end - position, num_checkpoints + 1 - checkpoints.size
            every = length - 1 <= free
            steps = lax.select(every, length - 1, _split(length, free))

            def run(now: _Replay):
                with jax.named_scope("rematted_computation"):  # as that of a checkpoint
                    carry = step(flags(now.carry), now.carry)
                return _Replay(now.steps + 1, carry, now.checkpoints.put(position + now.steps + 1, carry, every))

            replay = _Replay(jnp.int32(0), carry, checkpoints)
            return lax.while_loop(lambda now: now.steps < steps, run, replay).checkpoints.grow(~every)

        def reverse(now: _Reversal):
            """Reverse the iteration whose state is on top."""
            carry, to_carry = now.checkpoints.state(), now.to_carry
            going = flags(carry)
            if loop.of_many:
                carry, to_carry = body_input(going, carry), _choose(going, to_carry, map(jnp.zeros_like, to_carry))
            sent = list(jaxpr_as_fun(pull)(*consts, *carry, *to_carry))
            to_consts, before = sent[: len(now.sums)], sent[len(now.sums) :]
            sums = list(map(add, now.sums, to_consts))
            before = _choose(going, before, now.to_carry) if loop.of_many else before
            return _Reversal(now.checkpoints._replace(size=now.checkpoints.size - 1), now.end - 1, sums, before)

        def stretch(now: _Reversal):
            """Store states up to the last iteration, and reverse while there are states."""
            missing = lambda checkpoints: checkpoints.position() < now.end - 1
            checkpoints = lax.while_loop(missing, lambda checkpoints: fill(checkpoints, now.end), now.checkpoints)
            stored = lambda now: (now.end > 0) & (now.checkpoints.position() == now.end - 1)
            return lax.while_loop(stored, reverse, now._replace(checkpoints=checkpoints))

        checkpoints = Checkpoints(saved[:num_carry], *saved[num_carry:])
        cotangents = list(args[num_args + len(saved_avals) :])
        first = _Reversal(checkpoints, end, [instantiate(aval) for aval in sum_avals], cotangents)
        go_back = reverse if loop.fits(num_checkpoints) else stretch
        last = lax.while_loop(lambda now: now.end > 0, go_back, first)
        return [*last.sums, *last.to_carry]

    return trace_to_closed_jaxpr(program, [*body.in_avals, *saved_avals, *cotangent_avals], "while_backward")


class _Binomial(NamedTuple):
    """The number r, and binomial(slots + r, slots), as float32."""

    r: jax.Array
    value: jax.Array


def _split(length, free):
    """How far to run from a checkpoint to the next, with `free` slots and the last of `length` iterations not run."""
    real = lambda x: lax.convert_element_type(x, np.float32)
    slots = real(free)
    too_small = lambda now: (now.value < real(length)) & (free > 1)
    larger = lambda now: _Binomial(now.r + 1, now.value * (slots + now.r + 1) / (now.r + 1))
    r = lax.while_loop(too_small, larger, _Binomial(jnp.float32(0), jnp.float32(1))).r
    share = _int32(real(length) * r / (slots + r))
    return lax.select(free > 1, lax.clamp(np.int32(1), share, length - 1), length - 1)
