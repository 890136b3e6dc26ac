"""Broken programs are told by kind, cause and line, in healthy ones nothing is found, and the advice mends."""

import inspect
import textwrap

import jax
import numpy as np
import pytest

import diffprog as dp
from tests.diagnosis.corpus import (  # noqa: F401  (the modules fill the two tables)
    broken,
    depth,
    healthy,
    nonfinite,
    sound,
    sound_cuts,
    sound_models,
    zero,
    zero_here,
)
from tests.diagnosis.mending import mended, run

_NOT_A_SCALAR = "\nnote: the function does not return a scalar: this is the gradient of the sum of its results"


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
    said = str(diagnosis).removesuffix(_NOT_A_SCALAR)
    assert said.startswith("nothing wrong") and len(said.splitlines()) == 1


def test_what_a_loop_repeats_is_said_once():
    def spikes(w, x):
        step = lambda v, i: (0.9 * v + w * i, (v > 1.0) * 1.0)
        return jax.numpy.sum(jax.lax.scan(step, 0.0, x)[1])

    def lengths(x):
        return jax.lax.fori_loop(0, 4, lambda i, total: total + jax.numpy.sqrt(x[i]), 0.0)

    (cut,) = dp.diagnose(spikes)(2.0, np.ones(4, np.float32)).findings
    assert len(cut.details) == 1 and "iteration 1" in cut.details[0]  # what was there before depends on no input
    (born,) = dp.diagnose(lengths)(np.zeros(4, np.float32)).findings
    assert born.cause == "sqrt at zero" and born.details[-1] == "and 3 more times on this line"


def test_the_corpus_is_large_enough():
    assert len(broken) >= 40 and len(healthy) >= 40


# ---------------------------------------------------------------- what is advised, done

MENDED = [
    "masked_distance",
    "norm_of_residual",
    "pairwise_norms",
    "masked_entropy",
    "epsilon_added_too_late",
    "gamma_of_black",
    "angle_between_equal_rotations",
    "reciprocal_in_the_dead_branch",
    "rotation_by_no_angle",
    "normalized_padding",
    "entropy_of_a_certain_choice",
    "cosine_of_an_empty_row",
    "dirichlet_with_a_dead_class",
]


@pytest.mark.parametrize("name", MENDED)
def test_the_printed_fix_mends(name, tmp_path):
    made = inspect.getsource(broken[name].make)
    header = "import jax\nimport jax.numpy as jnp\nfrom tests.diagnosis.corpus.data import dense, normal, uniform\n"
    text = header + "def program" + textwrap.dedent(made)[made.index("():") :].replace("  # here", "")
    broken_fun, args = run(text, tmp_path / "as_written.py")
    fun, diagnosis = broken_fun, dp.diagnose(broken_fun)(*args)
    for attempt in range(3):  # what was hidden behind a NaN may show next
        finding = diagnosis.findings[0]
        assert finding.kind == "nan", str(diagnosis)
        text = mended(finding.fix, text, finding.source.line)
        fun, args = run(text, tmp_path / f"mended_{attempt}.py")
        diagnosis = dp.diagnose(fun)(*args)
        if not any(finding.kind == "nan" for finding in diagnosis.findings):
            break
    assert not any(finding.kind == "nan" for finding in diagnosis.findings), f"{diagnosis}\n{text}"
    value, value_after = broken_fun(*args), fun(*args)
    assert np.isfinite(value_after)
    if np.isfinite(value):
        np.testing.assert_allclose(value_after, value, rtol=1e-6)
    wanted = tuple(i for i, x in enumerate(args) if all(np.asarray(y).dtype.kind == "f" for y in jax.tree.leaves(x)))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(jax.grad(fun, wanted)(*args)))
