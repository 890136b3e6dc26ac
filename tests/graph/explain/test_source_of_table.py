"""`backward_source` of every program of the table of rules: under `jit` the text gives the numbers of `dp.grad`.

A sample runs always, `pytest -m slow tests/graph/explain` runs every row, with and without x64, float32 under x64 too.
`dp.grad` of the rows is held against JAX in `tests/rules`.
"""

import jax
import numpy as np
import pytest

import diffprog as dp
from tests.rules.losses import differentiable, loss_of
from tests.rules.rows import ROWS

SAMPLE = ROWS[::10]
SETTINGS = {
    "float32": (np.float32, False),
    "complex64": (np.complex64, False),
    "float64": (np.float64, True),
    "complex128": (np.complex128, True),
    "float32 under x64": (np.float32, True),
}
# These mix NumPy's float64 arrays with their arguments: in JAX too they are no programs of float32 under x64.
ONLY_FLOAT64 = {"clamp by arrays", "triangular_solve", "triangular_solve, complex", "cg"}


def suits(row, dtype, x64) -> bool:
    if np.issubdtype(dtype, np.complexfloating):
        return row.complex_too
    return not (dtype == np.float32 and x64 and row.name in ONLY_FLOAT64)


def check(rows, dtype, x64):
    """Compare all in one compiled call."""
    with jax.enable_x64(x64):
        losses = {row.name: loss_of(row, dtype) for row in rows}
        texts = {name: dp.backward_source(loss)(*args).function() for name, (loss, args) in losses.items()}

        @jax.jit
        def both(arguments):
            return {
                name: (texts[name](*args), dp.grad(losses[name][0], differentiable(args))(*args))
                for name, args in arguments.items()
            }

        results = both({name: args for name, (_, args) in losses.items()})
    tolerances = {row.name: max(row.tolerance, 1e-12 if x64 and dtype != np.float32 else 3e-5) for row in rows}
    for name, (ours, theirs) in results.items():
        for x, y in zip(ours, theirs, strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape), name
            scale = max(np.max(np.abs(y), initial=0), 1e-3)
            np.testing.assert_allclose(x, y, rtol=0, atol=10 * tolerances[name] * scale, err_msg=name)


@pytest.mark.parametrize("setting", ["float32 under x64", "complex128"])
def test_a_sample(setting):
    dtype, x64 = SETTINGS[setting]
    check([row for row in SAMPLE if suits(row, dtype, x64)], dtype, x64)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row(row, setting):
    if not suits(row, *SETTINGS[setting]):
        pytest.skip("no program in this type")
    check([row], *SETTINGS[setting])
