"""Programs of other libraries get the right gradient. Slow: `pytest -m slow tests/libraries`, with `.[libraries]`."""

import importlib

import jax
import pytest

from tests.libraries import PACKAGES
from tests.libraries.program import check, same_draws


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_programs_of(name):
    with jax.enable_x64(True):
        try:
            module = importlib.import_module(f"tests.libraries.{name}_programs")
        except ImportError as error:
            pytest.skip(f"{error}; install the extra 'libraries'")
    for title, program in module.PROGRAMS.items():
        print(title)
        check(program)
    for title, draws in getattr(module, "SAMPLERS", {}).items():
        print(title)
        same_draws(draws)
