"""Ways to run a `scan` whose backward pass keeps less: bodies run again, and stretches of steps run again."""

from collections.abc import Callable
from functools import partial
from math import isqrt

from jax import lax, typeof

from diffprog._jax_internals import bind_scan, scan_sizes, trace_to_closed_jaxpr
from diffprog._jax_internals.checkpoints import bind_checkpoint, keep_nothing
from diffprog._util.lists import split_list

_SHORTEST = 4  # steps for which it is worth it
_FAR = 10  # ratio to the root's square: further than that, slicing off a rest costs less


def can_vary(eqn) -> bool:
    """Whether an operation is a scan that `varied` knows to run otherwise."""
    return eqn.primitive.name == "scan" and not eqn.params["jaxpr"].consts and not eqn.params["jaxpr"].effects


def is_long(eqn) -> bool:
    """Whether a scan has so many steps that it is worth it, be they ever so small."""
    return eqn.params["length"] >= _SHORTEST


def varied(eqn, in_stretches: bool, body_again: bool, body=None) -> Callable:
    """Make a function that runs a scan so that its backward pass runs steps again.

    Args:
      eqn: the scan.
      in_stretches: whether only the carry before each of about sqrt(n) stretches is kept.
      body_again: whether each step keeps its arguments alone.
      body: closed jaxpr to run in the place of its body.
    """
    body, length = body or eqn.params["jaxpr"], eqn.params["length"]
    options = {"reverse": eqn.params["reverse"], "unroll": eqn.params["unroll"]}
    step = _run_again(body) if body_again else body
    num_stretches = _number_of_stretches(length)
    steps = length // num_stretches
    rest = length - num_stretches * steps  # run last, after the stretches
    run = lambda *args, length: bind_scan(step, *split_list(args, scan_sizes(eqn.params)), length=length, **options)

    def stretched(*operands):
        constants, carry, xs = split_list(operands, scan_sizes(eqn.params))
        first, last = zip(*(_divided(x, rest, options["reverse"]) for x in xs), strict=True) if xs else ((), ())
        first = [lax.reshape(x, (num_stretches, steps, *x.shape[1:])) for x in first]
        slices = [x.update(shape=x.shape[1:]) for x in map(typeof, first)]
        avals = [*body.in_avals[: len(constants) + len(carry)], *slices]
        inner = _run_again(trace_to_closed_jaxpr(partial(run, length=steps), avals, "stretch"))
        outputs = bind_scan(inner, constants, carry, first, length=num_stretches, reverse=options["reverse"], unroll=1)
        carry, ys = split_list(outputs, [len(carry)])
        ys = [lax.reshape(y, (num_stretches * steps, *y.shape[2:])) for y in ys]
        if rest:
            carry, others = split_list(run(*constants, *carry, *last, length=rest), [len(carry)])
            pairs = zip(others, ys, strict=True) if options["reverse"] else zip(ys, others, strict=True)
            ys = [lax.concatenate(pair, 0) for pair in pairs]
        return [*carry, *ys]

    return stretched if in_stretches else partial(run, length=length)


def _divided(x, rest: int, reverse: bool) -> tuple:
    """Divide an array of steps into those that run first, and the `rest`."""
    if not rest:
        return x, None
    if reverse:
        runs_last, runs_first = lax.split(x, (rest, len(x) - rest))
    else:
        runs_first, runs_last = lax.split(x, (len(x) - rest, rest))
    return runs_first, runs_last


def _run_again(jaxpr):
    """Make a closed jaxpr a checkpoint: its backward pass runs it again. In a loop nothing merges the two runs."""
    run = lambda *args: bind_checkpoint(jaxpr, args, prevent_cse=False, policy=keep_nothing, differentiated=False)
    return trace_to_closed_jaxpr(run, jaxpr.in_avals, "again")


def _number_of_stretches(length: int) -> int:
    """Find the divisor of a number that is nearest to its root; the root itself if none is near."""
    away = lambda k: max(k * k / length, length / (k * k))
    nearest = min((k for k in range(2, length) if length % k == 0), key=away, default=1)
    return nearest if away(nearest) <= _FAR else isqrt(length)
