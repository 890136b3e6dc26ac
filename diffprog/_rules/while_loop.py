"""`while_loop` and `fori_loop` with a trip count that is known only while they run."""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax
from jax import lax, typeof

from diffprog._jax_internals import concrete, jaxpr_as_fun, trace_to_closed_jaxpr, user_line, weakref_lru_cache
from diffprog._jax_internals.equal_jaxprs import first_equal
from diffprog._jax_internals.jaxprs import passed_on, repeatable, used_inputs
from diffprog._rules.loop_bounds import most_iterations
from diffprog._rules.loop_checkpoints import Loop
from diffprog._rules.loops import Reverse, differentiate
from diffprog._tracer import cotangents
from diffprog._tracer.cotangents import fill_zeros
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import rule
from diffprog._tracer.staging import Mask, needs_grad_fixpoint, stage
from diffprog._util.lists import expand, select, split_list

_checkpoints = jax.make_user_context(64)


def while_loop_memory(*, checkpoints: int) -> AbstractContextManager[None]:
    """Bound the memory of gradients of `while_loop`: `with dp.while_loop_memory(checkpoints=16): ...`.

    However many iterations a loop takes, its gradient stores at most `checkpoints` + 1 copies of what the loop carries
    and changes, and computes the other states again: about once each up to checkpoints^2 / 2 iterations, about twice
    up to checkpoints^3 / 6. A loop that a counter bounds by fewer iterations stores no more than these. Outside of
    `jit`, where iterations are run one by one, the first `checkpoints` of them keep their residuals instead and are not
    repeated.

    The default is 64. The setting holds where the derivative is taken, or traced by `jit`, not where the loop is
    defined. It is part of the keys of JAX's caches: under another one a jitted function is traced again.

    Args:
      checkpoints: number of states to store, from 1 on.

    Returns:
      The context manager under which the setting holds.

    Raises:
      ValueError: `checkpoints` is not a whole number from 1 on.
    """
    if isinstance(checkpoints, bool) or not isinstance(checkpoints, int) or checkpoints < 1:
        raise ValueError(f"checkpoints must be a whole number from 1 on; found {checkpoints!r}")
    return _checkpoints(checkpoints)


def states_of_while_loops() -> int:
    """Get the number of states that the gradient of a loop of unknown length stores here."""
    return _checkpoints.value


@rule("while")
def _while(primitive, needs_grad, args, params):
    """Differentiate a loop. What the body passes on as it is becomes a constant: no checkpoint needs a copy."""
    counts = params["cond_nconsts"], params["body_nconsts"]
    num_consts = sum(counts)
    body, cond = first_equal(params["body_jaxpr"]), first_equal(params["cond_jaxpr"])
    loop, order, changing = _arrange(body, cond, *counts)
    changed, active, pull_changed = _run(loop, tuple(needs_grad[i] for i in order), [args[i] for i in order])
    changed, active = iter(changed), iter(active)
    carry = list(zip(args[num_consts:], needs_grad[num_consts:], changing, strict=True))
    results = [next(changed) if changes else x for x, _, changes in carry]
    active = [next(active) if changes else want for _, want, changes in carry]

    def pull(to_carry, _in_use=(body, cond)):  # what is staged of them is there for equal loops until then
        sent = dict(zip(order, pull_changed(select(to_carry, changing)), strict=True))
        for i, (g, changes) in enumerate(zip(to_carry, changing, strict=True), num_consts):
            if not changes:
                sent[i] = cotangents.add(sent[i], g)
        return [sent[i] for i in range(len(order))]

    return results, active, pull


class _Arranged(NamedTuple):
    """A `while` as a `Loop`.

    Attributes:
      order: the positions of the loop's constants and carry among the arguments of the `while`.
      changing: which of what the `while` carries the loop carries.
    """

    loop: Loop
    order: tuple[int, ...]
    changing: Mask


@weakref_lru_cache
def _arrange(body, cond, num_cond_consts, num_body_consts) -> _Arranged:
    in_cond, in_body = range(num_cond_consts), range(num_cond_consts, num_cond_consts + num_body_consts)
    in_carry = range(num_cond_consts + num_body_consts, num_cond_consts + len(body.in_avals))
    changing = tuple(source != num_body_consts + k for k, source in enumerate(passed_on(body)))
    order = [*in_cond, *in_body, *select(in_carry, [not c for c in changing]), *select(in_carry, changing)]
    avals = [*cond.in_avals[:num_cond_consts], *body.in_avals]

    def place(operands):
        return [x for _, x in sorted(zip(order, operands, strict=True), key=lambda pair: pair[0])]

    def run_body(*operands):
        return select(jaxpr_as_fun(body)(*place(operands)[num_cond_consts:]), changing)

    def run_cond(*operands):
        operands = place(operands)
        return jaxpr_as_fun(cond)(*operands[:num_cond_consts], *operands[in_carry.start :])

    avals = [avals[i] for i in order]
    loop = Loop(
        trace_to_closed_jaxpr(run_body, avals, "while_body"),
        trace_to_closed_jaxpr(run_cond, avals, "while_cond"),
        len(order) - sum(changing),
    )
    return _Arranged(loop, tuple(order), changing)


# ---------------------------------------------------------------- running it


def _run(loop, needs_grad, args):
    """Run and differentiate a loop: its results, which of them are active, and its backward pass.

    As long as the condition is known, iterations are run and differentiated one by one, up to as many as there may be
    checkpoints. Then, or under `jit` from the start, the loop is one operation that keeps checkpoints.
    """
    checkpoints, num_consts = states_of_while_loops(), loop.num_consts
    needs_grad = needs_grad_fixpoint(loop.body, needs_grad, num_consts, loop.num_carry)
    carry, going, step, iterations = _run_iterations(loop, needs_grad, args, checkpoints)
    pull_rest = None
    if going is None:  # else its numbers are data, and each bound of that data would be another program
        bounded = loop._replace(most=most_iterations(loop, [*args[:num_consts], *carry]))
        loop = bounded if bounded.fits(checkpoints) else loop
    if going is None or going:
        carry, _, _, pull_rest = differentiate(loop, needs_grad, [*args[:num_consts], *carry], checkpoints)
        pull_rest = pull_rest if _repeatable(loop) else _refuse(user_line())
    avals = [typeof(x) for x in (*args[:num_consts], *carry)]

    def pull(to_carry):
        sent = [*[None] * num_consts, *to_carry] if pull_rest is None else pull_rest(to_carry)
        if not iterations:
            return sent
        sums, to_carry = split_list(sent, [num_consts])
        ct_in = tuple(g is not None for g in to_carry)
        reverse, run = step.stage_reverse(loop.body, num_consts, needs_grad, ct_in)
        sums = fill_zeros(sums, avals[:num_consts], reverse.consts)
        to_carry = fill_zeros(to_carry, avals[num_consts:], reverse.carry)
        for residuals in reversed(iterations):
            sums, to_carry = split_list(run(sums, to_carry, residuals), [len(sums)])
        return expand([*sums, *to_carry], [*reverse.consts, *reverse.carry])

    return carry, needs_grad[num_consts:], pull


def _repeatable(loop):
    return repeatable(loop.body) and repeatable(loop.cond)


def _refuse(line):
    def pull(cotangents):
        raise MissingDerivative(
            "the gradient of a while_loop under jit runs its iterations again, which would repeat the side effects of "
            "the one",
            line,
            "take them out of the loop, or differentiate it without jit",
        )

    return pull


def _run_iterations(loop, needs_grad, args, max_iterations):
    """Run what can be run one by one.

    Returns:
      The carry, whether the loop goes on from there (None if that is unknown), what one iteration is (None if none
      was run), and the residuals of each.
    """
    consts, carry = split_list(args, [loop.num_consts])
    asked = zip(args, used_inputs(loop.cond), strict=True)
    if loop.of_many or any(used and concrete(x) is None for x, used in asked):
        return carry, None, None, []
    # A loop over fresh closures is never seen again: compiling it would take longer than running it op by op.
    stage_step = _stage_step if next(_sightings(loop.body)) == 0 else _compile_step
    step = stage_step(loop.body, loop.cond, loop.num_consts, needs_grad)
    going, iterations = concrete(step.cond(*args)), []
    while going and (len(iterations) < max_iterations or not _repeatable(loop)):
        inputs = [*consts, *carry]
        going, *outputs = step.forward(*inputs)
        iterations.append(step.collect(inputs, outputs))
        carry, going = outputs[: loop.num_carry], concrete(going)
    return carry, going, step, iterations


@weakref_lru_cache
def _sightings(body):
    return itertools.count()


class _Step(NamedTuple):
    """An iteration.

    Attributes:
      cond: constants + carry -> whether to go on.
      forward: constants + carry -> whether to go on after it + carry + saved residuals.
      collect: (arguments, results of `forward` but the first) -> residuals.
      stage_reverse: as `_stage_reverse`.
    """

    cond: Callable
    forward: Callable
    collect: Callable
    stage_reverse: Callable


@weakref_lru_cache
def _stage_step(body, cond, num_consts, needs_grad) -> _Step:
    staged = stage(body, needs_grad)
    num_carry = len(body.out_avals)

    def go_on(*args):
        return jaxpr_as_fun(cond)(*args)[0]

    def forward(*args):
        outputs = jaxpr_as_fun(staged.forward)(*args)
        return [go_on(*args[:num_consts], *outputs[:num_carry]), *outputs]

    return _Step(go_on, forward, staged.collect, _stage_reverse)


@weakref_lru_cache
def _compile_step(*loop_and_mask) -> _Step:
    step = _stage_step(*loop_and_mask)
    return _Step(jax.jit(step.cond), jax.jit(step.forward), step.collect, _compile_reverse)


@weakref_lru_cache
def _stage_reverse(body, num_consts, needs_grad, ct_in) -> tuple[Reverse, Callable]:
    """Stage the reverse of an iteration.

    Returns:
      It; and its program: sums of cotangents of the constants, cotangents of the carry, residuals -> both before the
      iteration.
    """
    reverse = Reverse.stage(body, num_consts, needs_grad, ct_in)

    def run(sums, to_carry, residuals):
        to_consts, to_carry = reverse.run(residuals, to_carry)
        return [*map(lax.add, sums, to_consts), *fill_zeros(to_carry, body.out_avals, reverse.carry)]

    return reverse, run


@weakref_lru_cache
def _compile_reverse(*body_and_masks):
    reverse, run = _stage_reverse(*body_and_masks)
    return reverse, jax.jit(run)
