"""Does a program keep the rows of a batch apart? Asked of the program itself, traced for two numbers of rows."""

from jax._src import core
from jax._src.interpreters import partial_eval

from diffprog._jax_internals.binding import scan_sizes
from diffprog._jax_internals.jaxprs import jaxprs_in

__all__ = ["may_mix_rows"]

_RANDOM = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")
_CALLS = tuple("jit closed_call call_apart remat2 checkpoint custom_jvp_call custom_vjp_call custom_vmap_call".split())


def may_mix_rows(few, more, num_constant: int) -> bool:
    """Say whether a row of the results may depend on other rows, or on its place among them.

    It may if a value that depends on the rows is as large for few of them as for more, as a mean over all of them is,
    or if random numbers are drawn.

    Args:
      few: a closed jaxpr.
      more: the same function's for more rows.
      num_constant: how many of the arguments are no rows; they come first.
    """
    few, more = (partial_eval.dce_jaxpr(jaxpr.jaxpr, True, True)[0] for jaxpr in (few, more))
    return _walk(few, more, [i >= num_constant for i in range(len(few.invars))])[0]


def _walk(few, more, from_rows):
    """Find out whether rows may mix, and which results depend on rows."""
    depends = {v for v, flag in zip(few.invars, from_rows, strict=True) if flag}
    mixing = True, [True] * len(few.outvars)
    if len(few.eqns) != len(more.eqns):
        return mixing
    for ours, theirs in zip(few.eqns, more.eqns, strict=True):
        name = ours.primitive.name
        if name != theirs.primitive.name or name in _RANDOM:
            return mixing
        mixes, results = _operation(name, ours, theirs, [x in depends for x in map(_variable, ours.invars)])
        alike = [a.aval.shape == b.aval.shape for a, b in zip(ours.outvars, theirs.outvars, strict=True)]
        if mixes or any(flag and same for flag, same in zip(results, alike, strict=True)):
            return mixing
        depends.update(v for v, flag in zip(ours.outvars, results, strict=True) if flag)
    return False, [x in depends for x in map(_variable, few.outvars)]


def _variable(atom):
    return None if isinstance(atom, core.Literal) else atom


def _operation(name, ours, theirs, flags):
    """Look into an operation; those that have no program, or loop over the rows, keep them apart."""
    programs = [(a.jaxpr, b.jaxpr) for a, b in zip(jaxprs_in(ours.params), jaxprs_in(theirs.params), strict=True)]
    if name in _CALLS and len(programs) == 1 and len(programs[0][0].invars) == len(flags):
        return _walk(*programs[0], flags)
    if name == "cond":
        found = [_walk(*pair, flags[1:]) for pair in programs]
        return any(mixes for mixes, _ in found), list(map(any, zip(*(results for _, results in found), strict=True)))
    if name == "scan" and ours.params["length"] == theirs.params["length"]:
        constants, carried = scan_sizes(ours.params)
        while True:  # until no more of what is carried depends on rows
            mixes, results = _walk(*programs[0], flags)
            changed = [a or b for a, b in zip(flags[constants : constants + carried], results[:carried], strict=True)]
            now = [*flags[:constants], *changed, *flags[constants + carried :]]
            if mixes or now == flags:
                return mixes, results
            flags = now
    return False, [any(flags)] * len(ours.outvars)
