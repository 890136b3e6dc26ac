"""Derivatives at corners: a sample by default, all of them, and the page, in the slow tier."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

from tests.corners.linear_algebra import FUNCTIONS, sweep_matrices
from tests.corners.page import page, read, summaries
from tests.corners.reasons import REASONS
from tests.corners.rows import ROWS, findings
from tests.corners.sweep import sweep

INF = float("inf")
PAGE = Path(__file__).parents[2] / "docs" / "corners.md"
SAMPLE = {  # corners at which JAX says NaN or a wrong number, with JAX 0.10 at least
    "numpy.arctan2": [(1.0, INF), (0.0, INF)],
    "numpy.hypot": [(1.0, 1.0), (2.0, -2.0), (1.0, INF)],
    "numpy.logaddexp": [(0.0, INF), (1.0, 1.0)],
    "numpy.power": [(0.0, 0.0), (0.0, 1.0), (INF, -1.0)],
    "scipy.special.betainc": [(1.0, 2.0, 0.0), (2.0, 1.0, 1.0)],
    "scipy.special.gammainc": [(1.0, INF), (2.0, 0.0)],
    "scipy.special.dawsn": [(INF,), (1.0,)],
    "scipy.special.erf": [(INF,), (0.0,)],
    "scipy.special.fresnel, cosine": [(1.0,), (3.0,)],
    "scipy.special.xlogy": [(0.0, 0.5), (2.0, 1.0)],
}


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(name):
    (row,) = (row for row in ROWS if row.name == name)
    with jax.numpy_dtype_promotion("standard"):  # what is refused is no corner
        found = list(sweep(replace(row, corners=tuple(SAMPLE[name]))))
    assert [finding for finding in found if finding.verdict in ("wrong", "value")] == []
    assert any(finding.verdict.startswith("right") for finding in found)


MATRICES = {  # as SAMPLE; the corners that are singular, or repeat a value
    "numpy.linalg.det": ["four of rank 3", "four of rank 2", "zero four"],
    "numpy.linalg.norm, nuc": ["identity", "repeated"],
    "scipy.linalg.cholesky, lower": ["tilted", "identity"],
}


@pytest.mark.parametrize("name", MATRICES)
def test_sample_of_matrices(name):
    (row,) = (row for row in FUNCTIONS if row.name == name)
    corners = tuple(corner for corner in row.corners if corner[0] in MATRICES[name])
    found = list(sweep_matrices(replace(row, corners=corners)))
    assert len(found) == 4 * len(MATRICES[name])
    assert [finding for finding in found if not finding.verdict.startswith("right")] == []


def test_page_is_read_as_it_is_written():
    """So that some functions can be taken anew; the page is of the oldest JAX."""
    text = PAGE.read_text()
    if version("jax").startswith("0.10."):
        assert page(read(text)) == text
    else:
        with pytest.raises(ValueError, match="another JAX"):
            read(text)


@pytest.mark.slow
@pytest.mark.skipif(not version("jax").startswith("0.10."), reason="the page is of the oldest JAX")
def test_page():
    """The page is what the command writes; what is wrong in it has a reason."""
    found = list(findings())
    assert {finding.name for finding in found if finding.verdict == "wrong"} <= set(REASONS)
    assert page(summaries(found)) == PAGE.read_text()
