"""How long a call took, and how much of that went into compiling."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

import jax

R = TypeVar("R")

_compilations: list[tuple[float, float]] = []  # start and end, of the call that is timed; no two overlap
_listener: list[Callable[..., None]] = []  # JAX cannot forget one: it is registered once


def timed(call: Callable[[], R]) -> tuple[R, float, float]:
    """Time a call whose result is on the host when it returns.

    Args:
        call: A function without arguments.

    Returns:
        Its result, seconds without compilation, and seconds of compilation.
    """
    if not _listener:
        jax.monitoring.register_event_duration_secs_listener(_note_compilation)
        _listener.append(_note_compilation)
    _compilations.clear()
    begin = perf_counter()
    result = call()
    total = perf_counter() - begin
    compiling = sum(end - max(start, begin) for start, end in _compilations)
    return result, total - compiling, compiling


def _note_compilation(event: str, duration_secs: float, **_: Any) -> None:
    """Note a trace, lowering or compilation, which JAX reports at its end; count one inside another once."""
    if not event.startswith("/jax/core/compile/"):
        return
    end = perf_counter()
    start = end - duration_secs
    while _compilations and _compilations[-1][0] >= start:
        _compilations.pop()
    _compilations.append((max(start, _compilations[-1][1]) if _compilations else start, end))
