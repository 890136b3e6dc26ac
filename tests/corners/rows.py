"""All rows, and their findings."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.corners import distributions, elementwise
from tests.corners.sweep import Finding, sweep

ROWS = [
    *elementwise.UNARY,
    *elementwise.BINARY,
    *elementwise.SPECIAL,
    *distributions.DISTRIBUTIONS,
]


def findings_of(position: int) -> list[Finding]:
    """Sweep one row."""
    return list(sweep(ROWS[position]))


def findings(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Sweep the rows whose names contain one of these, or all of them, in processes side by side."""
    chosen = [i for i, row in enumerate(ROWS) if not names or any(name in row.name for name in names)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for found in pool.map(findings_of, chosen):
            yield from found
