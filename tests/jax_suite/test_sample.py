"""A sample of JAX's own tests passes with diffprog's reverse mode in the place of JAX's; the marked test runs them all.

Both need JAX's tests: their archive or a checkout, in the environment variable JAX_TESTS.
"""

import os
import subprocess
import sys

import jax
import pytest

from tests.jax_suite.__main__ import ROOT, VERSION
from tests.jax_suite.ids import excused, listed, read, write

needs_tests = [
    pytest.mark.skipif("JAX_TESTS" not in os.environ, reason="JAX's tests are not here: set JAX_TESTS to a checkout"),
    pytest.mark.skipif(jax.__version__ != VERSION, reason=f"these are the tests of JAX {VERSION}"),
]


def run(*options):
    command = [sys.executable, "-m", "tests.jax_suite", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


class TestSample:
    pytestmark = needs_tests

    def test_a_hundred(self):
        assert "100 of 100 of JAX's tests of reverse mode pass" in run("--sample", "100")

    @pytest.mark.slow
    def test_all(self):
        assert ", 0 lost" in run("--jobs", "2")


def test_lists():
    """Every excused test is one of JAX's, has a reason of its own, and the list survives reading and writing."""
    ids, reasons = listed(), excused()
    assert len(set(ids)) == len(ids) == 2984
    assert reasons.keys() <= set(ids)
    assert all(reason.partition(": ")[2] for reason in reasons.values())
    assert list(read(write(ids))) == ids
    odd = [
        "a_test.py::T::test_x",
        "a_test.py::T::test_x007",
        "a_test.py::T::test y=[[0]\n [1]]_3",
        "a_test.py::T::test_x2",
    ]
    assert sorted(read(write(odd))) == sorted(odd)
