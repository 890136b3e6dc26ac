"""Judge our derivatives, and JAX's, at the corners of functions."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diffprog as dp
from tests.corners import oracle

RTOL, ATOL = 1e-6, 1e-9


class Finding(NamedTuple):
    """What came out at one corner: along which arguments, the true number (None if there is none), ours, JAX's."""

    name: str
    corner: tuple
    along: tuple
    truth: float | None
    ours: float
    theirs: float
    value_right: bool

    @property
    def verdict(self) -> str:
        if not self.value_right:
            return "value"
        if self.truth is None:
            same = np.isfinite(self.ours) and _close(self.ours, self.theirs)
            return "as JAX" if same else "undefined"
        if not _close(self.ours, self.truth):
            return "wrong"
        return "right" if _close(self.theirs, self.truth) else "right, JAX wrong"


def _close(x, y):
    return bool(np.isclose(x, y, rtol=RTOL, atol=ATOL, equal_nan=True))


def sweep(row) -> Iterator[Finding]:
    """Yield the findings of a row, first and second derivatives, in float64."""
    with jax.enable_x64(True):
        arguments = [jnp.asarray(column) for column in zip(*row.corners, strict=True)]
        values = np.asarray(row.fun(*arguments))
        numbers = {grad: _derivatives(grad, row, arguments) for grad in (dp.grad, jax.grad)}
    for i, corner in enumerate(row.corners):
        expected = oracle.value(row.reference, corner)
        value_right = bool(np.isnan(expected)) or _close(values[i], expected)
        exists = value_right and not np.isnan(values[i])
        truths: dict = {}
        for along, ours in sorted(numbers[dp.grad].items(), key=lambda item: len(item[0])):
            has_first = len(along) == 1 or all(truths[k,] is not None for k in along)
            truths[along] = oracle.derivative(row.reference, corner, along) if exists and has_first else None
            theirs = float(numbers[jax.grad][along][i]) if along in numbers[jax.grad] else float("nan")
            yield Finding(row.name, corner, along, truths[along], float(ours[i]), theirs, value_right)


def _derivatives(grad, row, arguments):
    """All first and second derivatives at all corners, by grad; without those for which it raises."""
    total = lambda fun: lambda *args: jnp.sum(fun(*args))
    found = {}
    for i in row.smooth_in:
        try:
            first = grad(total(row.fun), i)
            found[(i,)] = np.asarray(jax.jit(first)(*arguments))
            for j in row.smooth_in[row.smooth_in.index(i) :]:
                found[i, j] = np.asarray(jax.jit(grad(total(first), j))(*arguments))
        except Exception:  # of many kinds: it has no such derivative, as the second one of expn with JAX 0.10
            continue
    return found
