"""Derivatives at corners: a sample by default, all of them, and the page, in the slow tier."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.corners.page import page
from tests.corners.reasons import REASONS
from tests.corners.rows import ROWS, findings
from tests.corners.sweep import sweep

INF = float("inf")
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
    found = list(sweep(replace(row, corners=tuple(SAMPLE[name]))))
    assert [finding for finding in found if finding.verdict in ("wrong", "value")] == []
    assert any(finding.verdict.startswith("right") for finding in found)


@pytest.mark.slow
@pytest.mark.skipif(not version("jax").startswith("0.10."), reason="the page is of the oldest JAX")
def test_page():
    """The page is what the command writes; what is wrong in it has a reason."""
    found = list(findings())
    assert {finding.name for finding in found if finding.verdict == "wrong"} <= set(REASONS)
    assert page(found) == (Path(__file__).parents[2] / "docs" / "corners.md").read_text()
