"""Run one pytest over files of JAX's tests with diffprog's reverse mode in the place of JAX's.

A program of its own: `python -m tests.jax_suite.swap IDS LOG`, in the folder of JAX's tests. It writes a JSON
object for each test and subtest: its id, whether it passed, how often it called reverse mode,
the end of what went wrong, its seconds.
"""

import functools
import json
import sys

import jax
import pytest
from jax._src import api

import diffprog
from diffprog._transforms import reverse

NAMES = ("vjp", "grad", "value_and_grad", "jacrev", "jacobian", "hessian")
REASON = 400  # characters of the end of a failure


class Swap:
    """A pytest plugin; JAX's own modules, its tests and its test helpers all find these functions in two modules."""

    def __init__(self, ids, log):
        self.ids, self.log, self.calls = set(ids), log, 0
        for name in NAMES:
            counted = self.count(getattr(diffprog, "jacrev" if name == "jacobian" else name))
            setattr(jax, name, counted)
            setattr(api, name, counted)
        reverse._run = self.count(reverse._run)  # what a gradient made outside of the test calls

    def count(self, function):
        @functools.wraps(function)
        def counted(*args, **kwargs):
            self.calls += 1
            return function(*args, **kwargs)

        return counted

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid in self.ids]

    def pytest_runtest_setup(self):
        self.calls = 0

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:  # also for each subtest
            why = str(report.longrepr)[-REASON:] if report.longrepr else ""
            record = {"id": report.nodeid, "passed": report.passed, "calls": self.calls, "why": why}
            record["seconds"] = round(report.duration, 2)
            print(json.dumps(record), file=self.log, flush=True)


if __name__ == "__main__":
    wanted = json.load(open(sys.argv[1]))
    files = sorted({name.split("::")[0] for name in wanted})
    options = ["-q", "--no-header", "--rootdir=.", "-c/dev/null", "-pno:cacheprovider", "-pno:xdist"]
    with open(sys.argv[2], "a") as log:
        sys.exit(pytest.main([*files, *options, "--import-mode=importlib"], plugins=[Swap(wanted, log)]))
