"""How long a call took, and how much of that went into compiling."""

from time import perf_counter

import jax

_listening = []  # intervals of compilation of the call that is timed, no two of which overlap


def timed(call):
    """(what `call()` returns, seconds without compilation, seconds of compilation). The result is to be on the host."""
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_heard)
        _listening.append(None)
    del _listening[1:]
    begin = perf_counter()
    found = call()
    whole = perf_counter() - begin
    compiling = sum(end - max(start, begin) for start, end in _listening[1:])
    return found, whole - compiling, compiling


def _heard(event, seconds, **_):
    """JAX reports each trace, lowering and compilation as it ends; one inside another is counted once."""
    if not event.startswith("/jax/core/compile/"):
        return
    end = perf_counter()
    start = end - seconds
    while len(_listening) > 1 and _listening[-1][0] >= start:
        _listening.pop()
    _listening.append((max(start, _listening[-1][1]) if len(_listening) > 1 else start, end))
