"""What the tests of attribution share."""

import jax
import pytest


@pytest.fixture
def x64():
    """Compute in double precision."""
    with jax.enable_x64(True):
        yield
