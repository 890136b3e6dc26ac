"""All rows, and their findings."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.corners import distributions, elementwise, linear_algebra
from tests.corners.sweep import Finding, sweep

ROWS = [
    *elementwise.UNARY,
    *elementwise.BINARY,
    *elementwise.SPECIAL,
    *distributions.DISTRIBUTIONS,
    *linear_algebra.FUNCTIONS,
]


def findings_of(position: int) -> list[Finding]:
    """Sweep one row."""
    row = ROWS[position]
    of_matrices = isinstance(row, linear_algebra.MatrixRow)
    return list(linear_algebra.sweep_matrices(row) if of_matrices else sweep(row))


def findings(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Sweep the rows whose names contain one of these, or all of them, in processes side by side."""
    chosen = [i for i, row in enumerate(ROWS) if not names or any(name in row.name for name in names)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for found in pool.map(findings_of, chosen):
            yield from found
