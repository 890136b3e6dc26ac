"""Random programs: nothing that shows a recording raises, and what is planted is named.

`pytest -m slow tests/diagnosis/test_random_programs.py` tries 2,000 larger ones, and takes most of an hour.
"""

from itertools import islice

import jax
import numpy as np
import pytest

import diffprog as dp
from tests.random_programs.planting import planted_programs, sound_programs

WAYS = ("explain", "text", "svg", "dot", "html", "_repr_html_", "__repr__")


def look(program, name):
    """Diagnose a program, and show the recording in every way."""
    with jax.enable_x64(True):
        fun = program.function(name)
        try:
            diagnosis = dp.diagnose(fun)(*program.arguments)
            text, _ = str(diagnosis), str(diagnosis.memory)
            assert text
            for way in WAYS:
                assert getattr(diagnosis.recording, way)()
        except Exception as error:
            raise AssertionError(f"{program.source}\n{program.arguments}") from error
    return diagnosis


def is_spoiled(diagnosis) -> bool:
    """Whether the output or a gradient is not finite, as it may not be if a planted line is in an untaken branch."""
    gradients = [x for node in diagnosis.recording.inputs for x in node.gradients if x is not None]
    return not all(np.all(np.isfinite(x)) for x in [diagnosis.recording.output, *gradients])


def name_what_is_planted(count, seed, largest, tmp_path):
    planted = named = 0
    missed = []
    for i, program in enumerate(islice(planted_programs(seed, largest), count)):
        diagnosis = look(program, str(tmp_path / f"program_{i}.py"))
        if not is_spoiled(diagnosis):
            continue
        planted += 1
        lines = [finding.source.line for finding in diagnosis.findings if finding.kind == "nan" and finding.source]
        if lines[:1] == [program.line]:
            named += 1
        else:
            missed.append(f"{program.source}\n{program.arguments}\n{diagnosis}")
    jax.clear_caches()
    assert planted >= 0.8 * count
    assert named >= 0.99 * planted, "\n\n".join(missed)


def stay_quiet(count, seed, largest, tmp_path):
    for i, program in enumerate(islice(sound_programs(seed, largest), count)):
        diagnosis = look(program, str(tmp_path / f"program_{i}.py"))
        kinds = {finding.kind for finding in diagnosis.findings}
        assert not kinds & {"nan", "draw", "search"}, f"{program.source}\n{program.arguments}\n{diagnosis}"
    jax.clear_caches()


@pytest.mark.parametrize("part", range(2))
def test_what_is_planted_is_named(part, tmp_path):
    name_what_is_planted(20, part, 2, tmp_path)


def test_sound_programs_are_quiet(tmp_path):
    stay_quiet(20, 0, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_what_is_planted_in_larger_programs_is_named(part, tmp_path):
    """Not each is: of a function under `jit(inline=True)` JAX itself keeps the line of the call alone."""
    name_what_is_planted(500, 1000 + part, 8, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_larger_sound_programs_are_quiet(part, tmp_path):
    stay_quiet(50, 2000 + part, 10, tmp_path)
