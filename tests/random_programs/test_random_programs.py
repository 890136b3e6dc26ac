"""A hundred random programs; `python -m tests.random_programs` runs more.

Four tests, to share them between processes; a failure ends with the program as it can be pasted into `test_found.py`.
"""

import pytest

from tests.random_programs.generator import for_each
from tests.random_programs.reduce import reduced


@pytest.mark.parametrize("part", range(4))
def test_agree_with_jax(part):
    for_each(25, part, check)


def check(program):
    try:
        program.check()
    except Exception as error:
        raise AssertionError(f"reduced:\n\n{reduced(program)}") from error
