"""Broken programs are told by kind, cause and line; in healthy ones nothing is found."""

import pytest

import diffprog as dp
from demos.diagnose import broken, healthy


@pytest.mark.parametrize("name", broken)
def test_broken(name):
    program = broken[name]
    fun, args = program.make()
    diagnosis = dp.diagnose(fun)(*args)
    said = str(diagnosis)
    first = diagnosis.findings[0] if diagnosis.findings else None
    assert first is not None, said
    assert first.kind == program.kind, said
    assert program.cause in first.cause, said
    assert (first.source.line if first.source else None) == program.line, said


@pytest.mark.parametrize("name", healthy)
def test_healthy(name):
    fun, args = healthy[name].make()
    diagnosis = dp.diagnose(fun)(*args)
    assert diagnosis.healthy, str(diagnosis)
    said = str(diagnosis).removesuffix("\nnote: the function does not return a scalar: this is the gradient of the sum of its results")
    assert said.startswith("nothing wrong") and len(said.splitlines()) == 1


def test_the_corpus_is_large_enough():
    assert len(broken) >= 40 and len(healthy) >= 40
