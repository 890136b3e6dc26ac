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

Backward. The state before iteration `end - 1` is wanted. From the nearest one, L iterations before the end, the
loop is run again: with S slots free (that one's own included) a new state is put r / (S + r) of the way, where r is
the smallest number with binomial(S + r, S) >= L. This is revolve's split: no iteration of a stretch of L then runs
more than r times. Where all states of the stretch fit, all are stored.

Counting an iteration that runs forward as one evaluation of the body, and the one that is differentiated on the
way back as another, n <= K iterations cost 2 n. For longer loops and K >= 8 the number stays within a factor of
1.13 of the fewest possible for a known length, that of revolve (`tests/rules/test_loop_checkpoints.py` checks it to
56,000 iterations): at most about 3 n up to n = K^2 / 2 and 4 n up to n = K^3 / 6, with 64 states 2,000 and 44,000.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from diffprog._jax_internals import instantiate, jaxpr_as_fun, trace_to_closed_jaxpr, weakref_lru_cache


class Loop(NamedTuple):
    """`while cond(constants, carry): carry = body(constants, carry)`.

    Attributes:
      body: closed jaxpr, constants + carry -> carry.
      cond: closed jaxpr, constants + carry -> whether to go on. It may be an array: then the loop is that of many
        examples, which the first axes of every carried array count, and one that is done stands still.
      num_consts: the number of constants.
    """

    body: object
    cond: object
    num_consts: int

    @property
    def num_args(self) -> int:
        return len(self.body.in_avals)

    @property
    def num_carry(self) -> int:
        return len(self.body.out_avals)

    @property
    def of_many(self) -> bool:
        return self.cond.out_avals[0].size > 1


class Checkpoints(NamedTuple):
    """A stack of states of a loop, the latest on top.

    Attributes:
      states: the loop's carry, each array with the slots along a new first axis.
      slots: in which slot the i-th checkpoint lies; beyond the top, the free slots.
      positions: how many iterations came before it.
      size: how many checkpoints there are.
    """

    states: list
    slots: object
    positions: object
    size: object

    @classmethod
    def empty(cls, carry, count):
        """Room for `count` states like `carry`."""
        states = [lax.broadcast(x, (count,)) for x in carry]
        return cls(states, lax.iota(np.int32, count), jnp.zeros(count, np.int32), jnp.int32(0))

    def position(self):
        """That of the top."""
        return _at(self.positions, self.size - 1)

    def state(self):
        """That of the top."""
        slot = _at(self.slots, self.size - 1)
        return [_at(x, slot) for x in self.states]

    def put(self, position, carry, stays):
        """Write a state above the top. Unless it `stays`, the next one takes its place."""
        slot = _at(self.slots, self.size)
        states = [_put(buffer, x, slot) for buffer, x in zip(self.states, carry, strict=True)]
        return Checkpoints(states, self.slots, _put(self.positions, position, self.size), self.size).grow(stays)

    def grow(self, flag):
        """With what was put above the top, if `flag`."""
        return self._replace(size=self.size + _int32(flag))


def _at(x, i):
    return lax.dynamic_index_in_dim(x, i, keepdims=False, allow_negative_indices=False)


def _put(x, part, i):
    return lax.dynamic_update_index_in_dim(x, part, i, 0, allow_negative_indices=False)


def _int32(x):
    return lax.convert_element_type(x, np.int32)


def _choose(flags, xs, ys):
    """Those of `xs` for the examples with a flag, and of `ys` for the others."""
    spread = lambda x: lax.broadcast_in_dim(flags, x.shape, range(flags.ndim))
    return [lax.select(spread(x), x, y) for x, y in zip(xs, ys, strict=True)]


def _iteration(loop, consts, start):
    """What happens in one iteration.

    Returns:
      going: carry -> whether to go on.
      step: (that, carry) -> carry after the iteration.
      body_input: (that, carry) -> what the body is given. An example that is done may stand where the body or its
        derivative is not defined, and 0 * inf would spoil the gradient of what all examples share. So its body gets
        the state that the example started from (or another example, if it had nothing to do at all), and the result
        is not used.
    """
    going = lambda carry: jaxpr_as_fun(loop.cond)(*consts, *carry)[0]
    run = lambda carry: list(jaxpr_as_fun(loop.body)(*consts, *carry))
    if not loop.of_many:
        return going, lambda active, carry: run(carry), lambda active, carry: carry
    runs = going(start)
    first = lax.argmax(runs.reshape(-1), 0, np.int32)
    another = [_at(x.reshape(-1, *x.shape[runs.ndim :]), first) for x in start]
    defined = _choose(runs, start, [lax.broadcast(x, runs.shape) for x in another])
    body_input = lambda active, carry: _choose(active, carry, map(lax.stop_gradient, defined))
    return going, lambda active, carry: _choose(active, run(body_input(active, carry)), carry), body_input


# ---------------------------------------------------------------- forward


@weakref_lru_cache
def forward_program(body, cond, num_consts: int, count: int):
    """The way forward of the loop of these parts, with `count` checkpoints.

    Returns:
      closed jaxpr, constants + carry -> carry + what `backward_program` needs: `Checkpoints` and the number of
      iterations.
    """
    loop = Loop(body, cond, num_consts)

    def program(*args):
        consts, start = args[:num_consts], list(args[num_consts:])
        going, step, _ = _iteration(loop, consts, start)

        def run(at):
            n, carry, active = at
            carry = step(active, carry)
            return n + 1, carry, going(carry)

        def stretch(at):
            kept, stride, room, (n, carry, _) = at
            ints = *kept[1:], stride, room
            thin = lambda *ints: _thin(*ints, least=count // 2 + 1)
            *ints, stride, room = lax.cond(kept.size >= room, thin, lambda *ints: ints, *ints)
            kept = Checkpoints(kept.states, *ints)
            kept = kept.put(n, carry, (lax.rem(n, stride) == 0) & (kept.size < room))
            until = (lax.div(n, stride) + 1) * stride
            return kept, stride, room, lax.while_loop(lambda at: jnp.any(at[2]) & (at[0] < until), run, at[3])

        # One slot more than is kept: there `put` writes what it does not keep, and the way back works.
        kept = Checkpoints.empty(start, count + 1)
        at = kept, jnp.int32(1), jnp.int32(count), (jnp.int32(0), start, going(start))
        kept, _, _, (n, carry, _) = lax.while_loop(lambda at: jnp.any(at[3][2]), stretch, at)
        return [*carry, *kept.states, *kept[1:], n]

    return trace_to_closed_jaxpr(program, body.in_avals, "while_forward")


def _thin(slots, positions, size, stride, room, least):
    """Remove the earliest checkpoint that lies on no multiple of 2 * stride; double the stride if there is none."""
    index = lax.iota(np.int32, len(slots))
    odd = lambda stride: (index < size) & (lax.rem(lax.div(positions, stride), np.int32(2)) == 1)
    double = ~jnp.any(odd(stride))
    stride = lax.select(double, stride * 2, stride)
    room = lax.select(double, lax.max(room - 1, np.int32(least)), room)
    removable = odd(stride)
    first, some = lax.argmax(removable, 0, np.int32), jnp.any(removable)
    # The checkpoints above it move down, and its slot becomes the first free one.
    source = jnp.where(index == size - 1, first, index + 1)
    source = jnp.where(some & (index >= first) & (index < size), source, index)
    return slots[source], positions[source], size - _int32(some), stride, room


# ---------------------------------------------------------------- backward


@weakref_lru_cache
def backward_program(body, cond, num_consts: int, count: int, pull):
    """The way back of the loop of these parts.

    Args:
      pull: the reverse of the body, a closed jaxpr: constants + carry + cotangents of the wanted carry after the
        iteration -> cotangents of the wanted constants + of the wanted carry before it.

    Returns:
      closed jaxpr, constants + carry at the start + saved + cotangents of the wanted carry at the end
      -> cotangents of the wanted constants + of the wanted carry at the start.
    """
    loop = Loop(body, cond, num_consts)
    num_args, num_carry = loop.num_args, loop.num_carry
    saved_avals = forward_program(*loop, count).out_avals[num_carry:]
    given_avals = pull.in_avals[num_args:]
    sum_avals = pull.out_avals[: len(pull.out_avals) - len(given_avals)]

    def program(*args):
        consts, start = args[:num_consts], args[num_consts:num_args]
        *saved, end = args[num_args : num_args + len(saved_avals)]
        given = list(args[num_args + len(saved_avals) :])
        going, step, body_input = _iteration(loop, consts, start)
        flags = going if loop.of_many else lambda carry: None

        def fill(kept, end):
            """Run on from the top checkpoint, towards the last iteration that is not reversed yet."""
            position, carry = kept.position(), kept.state()
            length, free = end - position, count + 1 - kept.size
            every = length - 1 <= free
            steps = lax.select(every, length - 1, _split(length, free))

            def run(at):
                i, carry, kept = at
                carry = step(flags(carry), carry)
                return i + 1, carry, kept.put(position + i + 1, carry, every)

            _, _, kept = lax.while_loop(lambda at: at[0] < steps, run, (jnp.int32(0), carry, kept))
            return kept.grow(~every)

        def reverse(at):
            kept, end, sums, given = at
            carry = kept.state()
            sent, active = given, flags(carry)
            if loop.of_many:
                carry, sent = body_input(active, carry), _choose(active, given, map(jnp.zeros_like, given))
            found = list(jaxpr_as_fun(pull)(*consts, *carry, *sent))
            parts, before = found[: len(sums)], found[len(sums) :]
            sums = [lax.add(total, part) for total, part in zip(sums, parts, strict=True)]
            before = _choose(active, before, given) if loop.of_many else before
            return kept._replace(size=kept.size - 1), end - 1, sums, before

        def stretch(at):
            kept, end, sums, given = at
            kept = lax.while_loop(lambda kept: kept.position() < end - 1, lambda kept: fill(kept, end), kept)
            there = lambda at: (at[1] > 0) & (at[0].position() == at[1] - 1)
            return lax.while_loop(there, reverse, (kept, end, sums, given))

        kept = Checkpoints(saved[:num_carry], *saved[num_carry:])
        at = kept, end, [instantiate(aval) for aval in sum_avals], given
        _, _, sums, given = lax.while_loop(lambda at: at[1] > 0, stretch, at)
        return [*sums, *given]

    return trace_to_closed_jaxpr(program, [*body.in_avals, *saved_avals, *given_avals], "while_backward")


def _split(length, free):
    """How far to run from a checkpoint to the next, with `free` slots and the last of `length` iterations not run."""
    real = lambda x: lax.convert_element_type(x, np.float32)
    slots = real(free)
    enough = lambda at: (at[1] < real(length)) & (free > 1)
    more = lambda at: (at[0] + 1, at[1] * (slots + at[0] + 1) / (at[0] + 1))
    r, _ = lax.while_loop(enough, more, (jnp.float32(0), jnp.float32(1)))
    share = _int32(real(length) * r / (slots + r))
    return lax.select(free > 1, lax.clamp(np.int32(1), share, length - 1), length - 1)
