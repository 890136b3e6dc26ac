"""A loop of unknown length as one operation, and its reverse as another.

Both are primitives, because two things are better said of the whole than of the loops inside:

Under `vmap`, examples that want different numbers of iterations share one schedule of checkpoints.

And the reverse of the reverse is no differentiation through checkpoints. With z for constants and initial carry,
and J(z) for the Jacobian of the loop, the reverse is V(z, g) = J(z)^T g. As <v, V(z, g)> = <J(z) v, g>, its
derivative with respect to g is J(z) v: the loop, run with tangents. Its derivative with respect to z is the reverse
of the loop with tangents, at the cotangent g of the tangents. So in every order a loop is run and reversed with the
same number of checkpoints; only its carry doubles.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax, typeof

from diffprog._jax_internals import instantiate, jaxpr_as_fun, trace_to_closed_jaxpr, weakref_lru_cache
from diffprog._jax_internals.jaxprs import used_inputs
from diffprog._jax_internals.operations import batch_jaxpr, new_operation
from diffprog._rules.calls import call
from diffprog._rules.loop_checkpoints import Loop, backward_program, forward_program
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.parts import Part, settle_part
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import liveness, settle, stage
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select, split_list

# ---------------------------------------------------------------- the two operations


@dataclass(frozen=True)
class Forward:
    """constants + carry -> carry + saved."""

    loop: Loop
    checkpoints: int

    @cached_property
    def program(self):
        return forward_program(*self.loop, self.checkpoints)

    def batch(self, axis, args, dims):
        loop, mapped = _batch(self.loop, axis, dims)
        results = _forward_p(_bring_forward(args, dims, mapped, axis.size), Forward(loop, self.checkpoints))
        return results, _forward_dims(mapped[loop.num_consts :])


@dataclass(frozen=True)
class Backward:
    """constants + carry at the start + saved + cotangents of the wanted carry at the end
    -> cotangents of the wanted constants + of the wanted carry at the start.

    What was saved is how the result is found, not what it depends on.

    Attributes:
      pull: the reverse of the loop's body (see `backward_program`).
    """

    loop: Loop
    checkpoints: int
    pull: object

    @cached_property
    def program(self):
        return backward_program(*self.loop, self.checkpoints, self.pull)

    def split(self, args):
        """(constants and carry, saved, cotangents)."""
        return split_list(args, [self.loop.num_args, self.loop.num_carry + 4])

    def batch(self, axis, args, dims):
        (args, saved, given), (dims, saved_dims, given_dims) = self.split(args), self.split(dims)
        loop, mapped = _batch(self.loop, axis, dims)
        args = _bring_forward(args, dims, mapped, axis.size)
        expected = _forward_dims(mapped[loop.num_consts :])[loop.num_carry :]
        if [d is None for d in saved_dims] == [d is None for d in expected]:
            saved = [x if d is None else jnp.moveaxis(x, d, 1) for x, d in zip(saved, saved_dims, strict=True)]
        else:  # the examples come with schedules of their own, from another `vmap`
            saved = _forward_p(args, Forward(loop, self.checkpoints))[loop.num_carry :]
        pull, sums_mapped, given_mapped = _batch_pull(self.pull, axis, mapped, given_dims, loop.of_many)
        given = _bring_forward(given, given_dims, given_mapped, axis.size)
        results = _backward_p([*args, *saved, *given], Backward(loop, self.checkpoints, pull))
        return results, [0 if m else None for m in [*sums_mapped, *given_mapped]]


_forward_p = new_operation("checkpointed_while")
_backward_p = new_operation("checkpointed_while_backward")


# ---------------------------------------------------------------- under vmap


def _batch(loop, axis, dims):
    """The loop of many examples, and which constants and which part of the carry are mapped in it."""
    consts, carry = split_list([d is not None for d in dims], [loop.num_consts])
    while True:
        body, after = batch_jaxpr(loop.body, axis, [*consts, *carry], carry)
        cond, (of_many,) = batch_jaxpr(loop.cond, axis, [*consts, *carry], [loop.of_many])
        if of_many:  # examples that stop on their own carry everything on their own
            after = [True] * len(carry)
        if after == carry:
            return Loop(body, cond, loop.num_consts), [*consts, *carry]
        carry = after


def _batch_pull(pull, axis, mapped, given_dims, of_many):
    """(pull of many examples, which of its sums are mapped, which of its cotangents)."""
    given = [of_many or d is not None for d in given_dims]
    num_sums = len(pull.out_avals) - len(given)
    while True:
        batched, after = batch_jaxpr(pull, axis, [*mapped, *given], [of_many] * num_sums + given)
        if after[num_sums:] == given:
            return batched, after[:num_sums], given
        given = after[num_sums:]


def _forward_dims(carry_mapped):
    """Where the results of the forward operation are mapped: the slots of the states come first."""
    return [0 if m else None for m in carry_mapped] + [1 if m else None for m in carry_mapped] + [None] * 4


def _bring_forward(args, dims, mapped, size):
    def one(x, dim, wanted):
        if not wanted:
            return x
        return lax.broadcast(x, (size,)) if dim is None else jnp.moveaxis(x, dim, 0)

    return list(map(one, args, dims, mapped))


# ---------------------------------------------------------------- their derivatives


def settled(loop, wanted):
    """`wanted`, extended by the carried values that come to depend on it."""
    return settle(lambda w: liveness(loop.body, w), wanted, loop.num_consts, loop.num_carry)


def differentiate(loop, wanted, args, checkpoints):
    """Run a loop forward: its results, what it saved, which results depend on what is wanted, the backward pass."""
    wanted_at_start, wanted, body = wanted, settled(loop, wanted), loop.body
    loop = loop._replace(body=_stage_body(body, wanted))
    results, saved = split_list(_forward_p(args, Forward(loop, checkpoints)), [loop.num_carry])
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        reverse = Reverse.of(body, loop.num_consts, wanted, tuple(g is not None for g in cotangents))
        given = fill_zeros(cotangents, avals, reverse.carry)
        how = Backward(loop, checkpoints, _stage_pull(body, loop.num_consts, wanted, tuple(reverse.carry)))
        found = expand(_backward_p([*args, *saved, *given], how), [*reverse.consts, *reverse.carry])
        return [g if want else None for g, want in zip(found, wanted_at_start, strict=True)]

    return results, saved, wanted[loop.num_consts :], pull


class Reverse(NamedTuple):
    """The backward pass of one iteration.

    Attributes:
      part: its program.
      wanted: which constants and which of the carry it was staged for.
      consts: which constants get a cotangent.
      carry: which of the carry have one in some iteration. Zeros for the others would be more than a waste: of a norm
        that a loop carries to know when to stop, and that is zero at the end, the slope is infinite.
    """

    part: Part
    wanted: tuple[bool, ...]
    consts: list[bool]
    carry: list[bool]

    @classmethod
    def of(cls, body, num_consts, wanted, given):
        """Args: given: which of the carry has a cotangent at the end."""
        part, carry = settle_part(stage(body, wanted), body, wanted, num_consts, len(body.out_avals), given)
        consts = [bool(there) for there in expand(part.reached, wanted)[:num_consts]]
        return cls(part, wanted, consts, carry)

    def run(self, residuals, given) -> tuple[list, list]:
        """Cotangents of `carry` after the iteration -> those of `consts`, those of `carry` before it."""
        given = select(expand(given, self.carry), self.part.given)
        found = jaxpr_as_fun(self.part.backward)(*self.part.collect(residuals), *given)
        to_consts, to_carry = split_list(expand(found, expand(self.part.reached, self.wanted)), [len(self.consts)])
        return select(to_consts, self.consts), to_carry


@weakref_lru_cache
def _stage_body(body, wanted):
    """The body as it runs where it is differentiated: a `custom_vjp` by its forward function."""

    def run(*args):
        return jaxpr_as_fun(stage(body, wanted).forward)(*args)[: len(body.out_avals)]

    return trace_to_closed_jaxpr(run, body.in_avals, "while_body")


@weakref_lru_cache
def _stage_pull(body, num_consts, wanted, given):
    """The reverse of the body, which runs it once more: arguments + cotangents of the given carry -> of constants and
    of that carry."""
    step, reverse = stage(body, wanted), Reverse.of(body, num_consts, wanted, given)

    def pull(*operands):
        args, given = split_list(operands, [len(wanted)])
        residuals = step.collect(args, jaxpr_as_fun(step.forward)(*args))
        to_consts, to_carry = reverse.run(residuals, given)
        return [*to_consts, *fill_zeros(to_carry, body.out_avals, reverse.carry)]

    given_avals = [aval.to_tangent_aval() for aval in select(body.out_avals, reverse.carry)]
    return trace_to_closed_jaxpr(pull, [*body.in_avals, *given_avals], "while_pull")


@rule("checkpointed_while")
def _forward(primitive, wanted, args, params):
    how = params["how"]
    results, saved, live, pull = differentiate(how.loop, wanted, args, how.checkpoints)
    return [*results, *saved], [*live, *[False] * len(saved)], lambda cotangents: pull(cotangents[: len(results)])


@rule("checkpointed_while_backward")
def _backward(primitive, wanted, args, params):
    """The reverse of the reverse, by the loop with tangents."""
    how = params["how"]
    (args, saved, given), (args_wanted, _, given_wanted) = how.split(args), how.split(wanted)
    pushed, is_linear = _with_tangents(how.pull, *how.loop)
    if not is_linear:
        program = _both_ways(how.pull, *how.loop, how.checkpoints)
        results, live, send = call(program, (*args_wanted, *given_wanted), [*args, *given])
        return results, live, lambda cotangents: _insert(send(cotangents), len(args), len(saved))
    results = primitive.bind(*args, *saved, *given, how=how)
    avals = [typeof(x) for x in results]
    num_consts, num_carry, num_sums = how.loop.num_consts, how.loop.num_carry, len(results) - len(given)

    def pull(cotangents):
        tangents = fill_zeros(cotangents, avals, [True] * len(avals))
        operands = _join(args, tangents, num_consts, num_sums)
        flags = tuple(_join(args_wanted, [False] * len(tangents), num_consts, num_sums))
        ended, _, _, reverse = differentiate(pushed, flags, operands, how.checkpoints)
        found = reverse([None] * num_carry + given) if any(flags) else [None] * len(flags)
        consts, _, carry, _ = split_list(found, [num_consts, num_sums, num_carry])
        return _insert([*consts, *carry, *ended[num_carry:]], len(args), len(saved))

    return results, [True] * len(results), pull


def _insert(found, place, count):
    return [*found[:place], *[None] * count, *found[place:]]


def _join(args, tangents, num_consts, num_sums):
    """constants + tangents of the wanted ones + carry + tangents of the wanted part"""
    return [*args[:num_consts], *tangents[:num_sums], *args[num_consts:], *tangents[num_sums:]]


@weakref_lru_cache
def _with_tangents(pull, body, cond, num_consts):
    """The loop that carries tangents of what is wanted, and whether `pull` is linear in the cotangents.

    It is, unless a `custom_vjp` in the body has a backward function that is not, such as one that clips.
    """
    num_args, num_carry = len(body.in_avals), len(body.out_avals)
    given_avals = pull.in_avals[num_args:]
    num_sums = len(pull.out_avals) - len(given_avals)

    def push(*operands):
        """(arguments, cotangents, tangents) -> tangents after the iteration: the transpose of `pull`, which is the
        reverse pass over it, the same at all cotangents."""
        args, given, tangents = split_list(operands, [num_args, len(given_avals)])
        _, taped = run_taped(lambda *given: jaxpr_as_fun(pull)(*args, *given), given, [True] * len(given))
        found = taped.pull(tangents)
        return [instantiate(aval) if t is None else t for t, aval in zip(found, given_avals, strict=True)]

    def separate(operands):
        consts, dots, carry, carry_dots = split_list(operands, [num_consts, num_sums, num_carry])
        return [*consts, *carry], [*dots, *carry_dots]

    def step(*operands):
        args, tangents = separate(operands)
        return [*jaxpr_as_fun(body)(*args), *push(*args, *map(instantiate, given_avals), *tangents)]

    def go_on(*operands):
        return jaxpr_as_fun(cond)(*separate(operands)[0])

    avals = _join(body.in_avals, pull.out_avals, num_consts, num_sums)
    loop = Loop(
        trace_to_closed_jaxpr(step, avals, "while_with_tangents"),
        trace_to_closed_jaxpr(go_on, avals, "while_condition"),
        num_consts + num_sums,
    )
    used = used_inputs(trace_to_closed_jaxpr(push, [*pull.in_avals, *pull.out_avals], "while_push"))
    return loop, not any(used[num_args : num_args + len(given_avals)])


@weakref_lru_cache
def _both_ways(pull, body, cond, num_consts, checkpoints):
    """What the backward operation computes, as a program that can be differentiated as any other, at the price of
    checkpoints of checkpoints: constants + carry at the start + cotangents at the end -> its results."""
    num_args, num_carry = len(body.in_avals), len(body.out_avals)

    def program(*operands):
        args, given = split_list(operands, [num_args])
        saved = jaxpr_as_fun(forward_program(body, cond, num_consts, checkpoints))(*args)[num_carry:]
        return jaxpr_as_fun(backward_program(body, cond, num_consts, checkpoints, pull))(*args, *saved, *given)

    return trace_to_closed_jaxpr(program, pull.in_avals, "while_both_ways")
