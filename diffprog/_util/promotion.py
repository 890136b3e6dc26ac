"""Whose rules of promotion hold: those that a program of ours is written for, or those that the caller has set.

A caller may have JAX refuse implicit promotion of types (`jax_numpy_dtype_promotion=strict`) or ranks
(`jax_numpy_rank_promotion=raise`) to find slips in code of their own. Ours, and that of libraries, is written for JAX's
defaults; a caller's function that it calls runs under the caller's settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_callers: ContextVar[tuple[str, ...] | None] = ContextVar("the caller's promotion of types and ranks", default=None)


def _set() -> tuple[str, ...]:
    return tuple(getattr(jax.config, name) for name in ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion"))


@contextmanager
def own_promotion() -> Iterator[None]:
    """Run code of ours under JAX's defaults."""
    token = _callers.set(_set() if _callers.get() is None else _callers.get())
    try:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    finally:
        _callers.reset(token)


@contextmanager
def callers_promotion() -> Iterator[None]:
    """Run a function of the caller's under the caller's settings; outside of `own_promotion` these hold anyway."""
    types, ranks = _callers.get() or _set()
    with jax.numpy_dtype_promotion(types), jax.numpy_rank_promotion(ranks):
        yield
