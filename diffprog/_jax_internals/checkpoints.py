"""What `jax.checkpoint` takes from inside JAX: its primitive, and asking a policy which values to keep."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax._src import ad_checkpoint, core
from jax._src.interpreters import partial_eval

from diffprog._jax_internals import closed
from diffprog._jax_internals.jaxprs import write_out

__all__ = ["bind_checkpoint", "cut", "drop_unused_inputs", "keep_everything", "keep_nothing"]

keep_everything = ad_checkpoint.everything_saveable
keep_nothing = ad_checkpoint.nothing_saveable


def bind_checkpoint(jaxpr, args, *, prevent_cse, policy, differentiated: bool):
    """Run a closed jaxpr without constants as the body of a `jax.checkpoint`: who differentiates it recomputes.

    Args:
      jaxpr: the body.
      args: its arguments.
      prevent_cse: one flag, or one per argument: whether the compiler is kept from merging this run with another one
        on equal values. It matters for a run in the backward pass.
      policy: which values to keep, as for `jax.checkpoint`.
      differentiated: whether this is a run in the backward pass.
    """
    return ad_checkpoint.remat_p.bind(
        *args, jaxpr=jaxpr.jaxpr, prevent_cse=prevent_cse, policy=policy, differentiated=differentiated
    )


def cut(jaxpr, num_results: int, policy: Callable) -> tuple[Any, list[int], Any]:
    """Divide a closed jaxpr without constants, arguments -> results + others, at the values that the policy keeps.

    Returns:
      closed jaxpr, arguments -> results + values to keep; where among those outputs each kept value is; closed jaxpr,
      kept values + arguments -> others.
    """
    num_args, num_others = len(jaxpr.in_avals), len(jaxpr.out_avals) - num_results
    known, staged, _, again, num_kept = partial_eval.partial_eval_jaxpr_custom(
        jaxpr.jaxpr,
        [False] * num_args,
        [True] * num_args,
        [False] * (num_results + num_others),
        [False] * num_results + [True] * num_others,
        partial(_ask, policy),
    )
    is_other = [i >= num_results for i, recomputed in enumerate(again) if recomputed]
    staged, used = partial_eval.dce_jaxpr(staged, is_other, [False] * num_kept + [True] * num_args)

    same = _first_of_equal_outputs(known)
    saved = [same[i] for i, use in enumerate(used[:num_kept], num_results + num_others) if use]
    returned = sorted({*range(num_results), *saved})
    known, _ = partial_eval.dce_jaxpr(known, [i in returned for i in range(len(same))], True)
    if known.is_high:  # JAX before 0.11 cannot lower the call that it makes of a loop
        known = write_out(closed(known), ("closed_call",)).jaxpr
    positions = [returned.index(i) for i in saved]
    return closed(_rounding(known, positions)), positions, closed(staged)


def _rounding(jaxpr, saved: list[int]):
    """Round the values to keep to their dtype where the forward pass goes on with them.

    Compilers may compute on in more digits, and the backward pass would differentiate at another point.
    """
    results = jaxpr.outvars
    kept = [results[i] for i in dict.fromkeys(saved) if isinstance(results[i], core.Var)]
    rounded = ad_checkpoint._insert_reduce_precision(jaxpr.replace(outvars=[*results, *kept]), len(kept))
    return rounded.replace(outvars=results)


def _ask(policy, primitive, *avals, **params):
    """Ask the policy. It knows one primitive for `checkpoint_name`, which has another name under jax_remat3."""
    inner = params.get("_prim")
    if type(inner).__name__ in ("CheckpointName", "CheckpointNameFwd"):
        return policy(ad_checkpoint.name_p, *avals, name=inner.name)
    return policy(primitive, *avals, **params)


def _first_of_equal_outputs(jaxpr) -> list[int]:
    """Find for each output the first one of equal value: a checkpoint inside may return a value twice."""
    original: dict = {}
    for eqn in jaxpr.eqns:
        if eqn.primitive is ad_checkpoint.remat_p:
            outputs = zip(eqn.params["jaxpr"].outvars, eqn.outvars, strict=True)
            firsts: dict = {}
            original |= {id(outer): firsts.setdefault(id(inner), id(outer)) for inner, outer in outputs}
    firsts = {}
    return [firsts.setdefault(original.get(id(v), id(v)), i) for i, v in enumerate(jaxpr.outvars)]


def drop_unused_inputs(jaxpr) -> tuple:
    """Drop the inputs of a closed jaxpr that its outputs do not need; tell of each input whether it stayed."""
    smaller, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, True)
    return closed(smaller), tuple(used)
