"""Ways to run a `scan` whose backward pass keeps less: bodies run again, and stretches of steps run again."""

from collections.abc import Callable, Iterator

from jax import lax, typeof

from diffprog._jax_internals import bind_scan, scan_sizes, trace_to_closed_jaxpr
from diffprog._jax_internals.checkpoints import bind_checkpoint, keep_nothing
from diffprog._jax_internals.jaxprs import replaced
from diffprog._util.lists import split_list

_SHORTEST = 4  # steps for which it is worth it


def variants(jaxpr) -> Iterator:
    """Iterate over programs, equal to a closed jaxpr, in which every scan keeps less for its backward pass."""
    scans = [eqn for eqn in jaxpr.eqns if _can_vary(eqn)]
    if not scans:
        return
    for in_stretches, body_again in ((False, True), (True, False), (True, True)):
        instead = lambda eqn, options=(in_stretches, body_again): _varied(eqn, *options) if _can_vary(eqn) else None
        yield replaced(jaxpr, instead)


def _can_vary(eqn) -> bool:
    is_long = eqn.primitive.name == "scan" and eqn.params["length"] >= _SHORTEST
    return is_long and not eqn.params["jaxpr"].consts and not eqn.params["jaxpr"].effects


def _varied(eqn, in_stretches: bool, body_again: bool) -> Callable:
    """Make a function that runs a scan so that its backward pass runs steps again.

    Args:
      eqn: the scan.
      in_stretches: whether only the carry before each of about sqrt(n) stretches is kept.
      body_again: whether each step keeps its arguments alone.
    """
    body, length = eqn.params["jaxpr"], eqn.params["length"]
    options = {"reverse": eqn.params["reverse"], "unroll": eqn.params["unroll"]}
    step = _run_again(body) if body_again else body
    num_stretches = _divisor_near_root(length)

    def whole(*operands):
        return bind_scan(step, *split_list(operands, scan_sizes(eqn.params)), length=length, **options)

    def stretched(*operands):
        constants, carry, xs = split_list(operands, scan_sizes(eqn.params))
        steps = length // num_stretches
        xs = [lax.reshape(x, (num_stretches, steps, *x.shape[1:])) for x in xs]

        def stretch(*args):
            return bind_scan(step, *split_list(args, scan_sizes(eqn.params)), length=steps, **options)

        slices = [x.update(shape=x.shape[1:]) for x in map(typeof, xs)]
        avals = [*body.in_avals[: len(constants) + len(carry)], *slices]
        inner = _run_again(trace_to_closed_jaxpr(stretch, avals, "stretch"))
        outputs = bind_scan(inner, constants, carry, xs, length=num_stretches, reverse=options["reverse"], unroll=1)
        carry, ys = split_list(outputs, [len(carry)])
        return [*carry, *(lax.reshape(y, (length, *y.shape[2:])) for y in ys)]

    return stretched if in_stretches and num_stretches > 1 else whole


def _run_again(jaxpr):
    """Make a closed jaxpr a checkpoint: its backward pass runs it again. In a loop nothing merges the two runs."""
    run = lambda *args: bind_checkpoint(jaxpr, args, prevent_cse=False, policy=keep_nothing, differentiated=False)
    return trace_to_closed_jaxpr(run, jaxpr.in_avals, "again")


def _divisor_near_root(length: int) -> int:
    """Find the divisor of a number that is nearest to its root, by ratio; 1 for a prime."""
    divisors = [k for k in range(2, length) if length % k == 0]
    return min(divisors, key=lambda k: max(k * k / length, length / (k * k)), default=1)
