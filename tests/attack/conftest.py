import jax
import pytest


@pytest.fixture
def quick_to_compile():
    """Programs of many loops over small arrays are compiled without most of XLA's optimizations, in half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
