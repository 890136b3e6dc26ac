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
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax, typeof

from diffprog._jax_internals import instantiate, jaxpr_as_fun, trace_to_closed_jaxpr, weakref_lru_cache
from diffprog._jax_internals.jaxprs import used_inputs
from diffprog._jax_internals.operations import batch_jaxpr, new_operation
from diffprog._rules.calls import call
from diffprog._rules.loop_checkpoints import Loop, backward_program, forward_program
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Mask, PartialBackward, ct_in_fixpoint, needs_grad_fixpoint, stage
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand, select, split_list

# ---------------------------------------------------------------- the two operations


@dataclass(frozen=True)
class Forward:
    """The operation that runs a loop: constants + carry -> carry + saved."""

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
    """The operation that reverses a loop.

    constants + carry at the start + saved + cotangents of the carry at the end
    -> cotangents of constants + of the carry at the start.

    What was saved is how the result is found, not what it depends on.

    Attributes:
      loop: the loop.
      checkpoints: how many states it kept.
      pull: the reverse of the loop's body (see `backward_program`), which says which constants and which of the carry
        have cotangents.
    """

    loop: Loop
    checkpoints: int
    pull: Any

    @cached_property
    def program(self):
        return backward_program(*self.loop, self.checkpoints, self.pull)

    def split(self, args):
        """(constants and carry, saved, cotangents)."""
        return split_list(args, [self.loop.num_args, self.loop.num_carry + 4])

    def batch(self, axis, args, dims):
        (args, saved, cotangents), (dims, saved_dims, cotangent_dims) = self.split(args), self.split(dims)
        loop, mapped = _batch(self.loop, axis, dims)
        args = _bring_forward(args, dims, mapped, axis.size)
        expected = _forward_dims(mapped[loop.num_consts :])[loop.num_carry :]
        if [d is None for d in saved_dims] == [d is None for d in expected]:
            saved = [x if d is None else jnp.moveaxis(x, d, 1) for x, d in zip(saved, saved_dims, strict=True)]
        else:  # the examples come with schedules of their own, from another `vmap`
            saved = _forward_p(args, Forward(loop, self.checkpoints))[loop.num_carry :]
        pull, sums_mapped, carry_mapped = _batch_pull(self.pull, axis, mapped, cotangent_dims, loop.of_many)
        cotangents = _bring_forward(cotangents, cotangent_dims, carry_mapped, axis.size)
        results = _backward_p([*args, *saved, *cotangents], Backward(loop, self.checkpoints, pull))
        return results, [0 if m else None for m in [*sums_mapped, *carry_mapped]]


_forward_p = new_operation("checkpointed_while")
_backward_p = new_operation("checkpointed_while_backward")


# ---------------------------------------------------------------- under vmap


def _batch(loop, axis, dims):
    """Make the loop of many examples; tell which constants and which part of the carry are mapped in it."""
    consts, carry = split_list([d is not None for d in dims], [loop.num_consts])
    while True:
        body, after = batch_jaxpr(loop.body, axis, [*consts, *carry], carry)
        cond, (of_many,) = batch_jaxpr(loop.cond, axis, [*consts, *carry], [loop.of_many])
        if of_many:  # examples that stop on their own carry everything on their own
            after = [True] * len(carry)
        if after == carry:
            return Loop(body, cond, loop.num_consts, loop.most), [*consts, *carry]
        carry = after


def _batch_pull(pull, axis, mapped, cotangent_dims, of_many):
    """Make the pull of many examples; tell which of its sums and of its cotangents of the carry are mapped."""
    carry = [of_many or d is not None for d in cotangent_dims]
    num_sums = len(pull.out_avals) - len(carry)
    while True:
        batched, after = batch_jaxpr(pull, axis, [*mapped, *carry], [of_many] * num_sums + carry)
        if after[num_sums:] == carry:
            return batched, after[:num_sums], carry
        carry = after[num_sums:]


def _forward_dims(carry_mapped):
    """Say where the results of the forward operation are mapped: the slots of the states come first."""
    return [0 if m else None for m in carry_mapped] + [1 if m else None for m in carry_mapped] + [None] * 4


def _bring_forward(args, dims, mapped, size):
    """Bring the mapped axis of each argument to the front, broadcast where it has to be."""

    def one(x, dim, is_mapped):
        if not is_mapped:
            return x
        return lax.broadcast(x, (size,)) if dim is None else jnp.moveaxis(x, dim, 0)

    return list(map(one, args, dims, mapped))


# ---------------------------------------------------------------- their derivatives


def differentiate(loop, needs_grad, args, checkpoints):
    """Run a loop forward.

    Args:
      loop: the loop.
      needs_grad: which constants and which of the carry need a cotangent.
      args: constants and carry at the start.
      checkpoints: how many states to keep.

    Returns:
      Its results, what it saved, which results are active, and the map from their cotangents to those of `args`.
    """
    at_start, body, num_consts = needs_grad, loop.body, loop.num_consts
    needs_grad = needs_grad_fixpoint(body, needs_grad, num_consts, loop.num_carry)
    loop = loop._replace(body=_stage_body(body, needs_grad))
    results, saved = split_list(_forward_p(args, Forward(loop, checkpoints)), [loop.num_carry])
    avals = [typeof(x) for x in results]

    def pull(cotangents):
        reverse = Reverse.stage(body, num_consts, needs_grad, tuple(g is not None for g in cotangents))
        operation = Backward(loop, checkpoints, _stage_pull(body, num_consts, needs_grad, tuple(reverse.carry)))
        sent = _backward_p([*args, *saved, *fill_zeros(cotangents, avals, reverse.carry)], operation)
        sent = expand(sent, [*reverse.consts, *reverse.carry])
        return [g if want else None for g, want in zip(sent, at_start, strict=True)]

    return results, saved, needs_grad[num_consts:], pull


class Reverse(NamedTuple):
    """The backward pass of one iteration.

    Attributes:
      partial: its program.
      consts: which constants get a cotangent.
      carry: which of the carry have one in some iteration. Zeros for the others would be more than a waste: of a norm
        that a loop carries to know when to stop, and that is zero at the end, the slope is infinite.
    """

    partial: PartialBackward
    consts: list[bool]
    carry: list[bool]

    @classmethod
    def stage(cls, body, num_consts: int, needs_grad: Mask, ct_in: Mask):
        """Find it for the carry in `ct_in`, which has a cotangent at the end."""
        staged, num_carry = stage(body, needs_grad), len(body.out_avals)
        partial, carry = ct_in_fixpoint(staged, body, needs_grad, num_consts, num_carry, ct_in)
        return cls(partial, list(partial.ct_out[:num_consts]), carry)

    def run(self, residuals, cotangents) -> tuple[list, list]:
        """Send cotangents of the carry after an iteration, one for each in `carry`, back.

        Returns:
          Cotangents of the constants in `consts`; one for each of the carry before the iteration, None for zero.
        """
        cotangents = select(expand(cotangents, self.carry), self.partial.ct_in)
        to_consts, to_carry = split_list(self.partial.run(residuals, cotangents), [len(self.consts)])
        return select(to_consts, self.consts), to_carry


@weakref_lru_cache
def _stage_body(body, needs_grad):
    """Stage the body as it runs where it is differentiated: a `custom_vjp` by its forward function."""

    def run(*args):
        return jaxpr_as_fun(stage(body, needs_grad).forward)(*args)[: len(body.out_avals)]

    return trace_to_closed_jaxpr(run, body.in_avals, "while_body")


@weakref_lru_cache
def _stage_pull(body, num_consts, needs_grad, ct_in):
    """Stage the reverse of the body, which runs it once more.

    Returns:
      Closed jaxpr, arguments + cotangents of the carry in `ct_in` -> cotangents of constants + of that carry.
    """
    step, reverse = stage(body, needs_grad), Reverse.stage(body, num_consts, needs_grad, ct_in)

    def pull(*operands):
        args, cotangents = split_list(operands, [len(needs_grad)])
        residuals = step.collect(args, jaxpr_as_fun(step.forward)(*args))
        to_consts, to_carry = reverse.run(residuals, cotangents)
        return [*to_consts, *fill_zeros(to_carry, body.out_avals, reverse.carry)]

    cotangent_avals = [aval.to_ct_aval() for aval in select(body.out_avals, reverse.carry)]
    return trace_to_closed_jaxpr(pull, [*body.in_avals, *cotangent_avals], "while_pull")


@rule("checkpointed_while")
def _forward(primitive, needs_grad, args, params):
    operation = params["operation"]
    results, saved, active, pull = differentiate(operation.loop, needs_grad, args, operation.checkpoints)
    num_carry = operation.loop.num_carry
    return [*results, *saved], [*active, *[False] * len(saved)], lambda cotangents: pull(cotangents[:num_carry])


@rule("checkpointed_while_backward")
def _backward(primitive, needs_grad, args, params):
    """Reverse the reverse, by the loop with tangents."""
    operation = params["operation"]
    (args, saved, cts), (args_need_grad, _, cts_need_grad) = operation.split(args), operation.split(needs_grad)
    num_args, num_saved = len(args), len(saved)
    pushed, is_linear = _with_tangents(operation.pull, *operation.loop)
    if not is_linear:
        program = _both_ways(operation.pull, *operation.loop, operation.checkpoints)
        results, active, send = call(program, (*args_need_grad, *cts_need_grad), [*args, *cts])
        return results, active, lambda cotangents: _insert(send(cotangents), num_args, num_saved)
    results = primitive.bind(*args, *saved, *cts, operation=operation)
    avals = [typeof(x) for x in results]
    num_consts, num_carry, num_sums = operation.loop.num_consts, operation.loop.num_carry, len(results) - len(cts)

    def pull(cotangents):
        tangents = fill_zeros(cotangents, avals)
        operands = _join(args, tangents, num_consts, num_sums)
        flags = tuple(_join(args_need_grad, [False] * len(tangents), num_consts, num_sums))
        ended, _, _, reverse = differentiate(pushed, flags, operands, operation.checkpoints)
        sent = reverse([None] * num_carry + cts) if any(flags) else [None] * len(flags)
        consts, _, carry, _ = split_list(sent, [num_consts, num_sums, num_carry])
        return _insert([*consts, *carry, *ended[num_carry:]], num_args, num_saved)

    return results, [True] * len(results), pull


def _insert(sent, index, num_saved):
    """Insert None for each saved value, which has no cotangent."""
    return [*sent[:index], *[None] * num_saved, *sent[index:]]


def _join(args, tangents, num_consts, num_sums):
    """Order operands: constants, tangents of some, carry, tangents of some of it."""
    return [*args[:num_consts], *tangents[:num_sums], *args[num_consts:], *tangents[num_sums:]]


@weakref_lru_cache
def _with_tangents(pull, body, cond, num_consts, most):
    """Make the loop that carries tangents too.

    Returns:
      The loop; and whether `pull` is linear in the cotangents. It is, unless a `custom_vjp` in the body has a backward
      function that is not, such as one that clips.
    """
    num_args, num_carry = len(body.in_avals), len(body.out_avals)
    cotangent_avals = pull.in_avals[num_args:]
    num_sums = len(pull.out_avals) - len(cotangent_avals)

    def push(*operands):
        """(arguments, cotangents, tangents) -> tangents after the iteration.

        It is the transpose of `pull`: the reverse pass over it, which is equal at all cotangents.
        """
        args, cts, tangents = split_list(operands, [num_args, len(cotangent_avals)])
        _, taped = run_taped(lambda *cts: jaxpr_as_fun(pull)(*args, *cts), cts, [True] * len(cts))
        pushed = zip(taped.pull(tangents), cotangent_avals, strict=True)
        return [instantiate(aval) if t is None else t for t, aval in pushed]

    def separate(operands):
        consts, const_dots, carry, carry_dots = split_list(operands, [num_consts, num_sums, num_carry])
        return [*consts, *carry], [*const_dots, *carry_dots]

    def step(*operands):
        args, tangents = separate(operands)
        return [*jaxpr_as_fun(body)(*args), *push(*args, *map(instantiate, cotangent_avals), *tangents)]

    def go_on(*operands):
        return jaxpr_as_fun(cond)(*separate(operands)[0])

    avals = _join(body.in_avals, pull.out_avals, num_consts, num_sums)
    loop = Loop(
        trace_to_closed_jaxpr(step, avals, "while_with_tangents"),
        trace_to_closed_jaxpr(go_on, avals, "while_condition"),
        num_consts + num_sums,
        most,
    )
    used = used_inputs(trace_to_closed_jaxpr(push, [*pull.in_avals, *pull.out_avals], "while_push"))
    return loop, not any(used[num_args : num_args + len(cotangent_avals)])


@weakref_lru_cache
def _both_ways(pull, body, cond, num_consts, most, checkpoints):
    """Make a program that computes what the backward operation does, and is differentiated as any other is.

    Its price is checkpoints of checkpoints.

    Returns:
      Closed jaxpr, constants + carry at the start + cotangents at the end -> the operation's results.
    """
    num_args, num_carry = len(body.in_avals), len(body.out_avals)

    def program(*operands):
        args, cts = split_list(operands, [num_args])
        saved = jaxpr_as_fun(forward_program(body, cond, num_consts, most, checkpoints))(*args)[num_carry:]
        return jaxpr_as_fun(backward_program(body, cond, num_consts, most, checkpoints, pull))(*args, *saved, *cts)

    return trace_to_closed_jaxpr(program, pull.in_avals, "while_both_ways")
