import jax
import pytest


@pytest.fixture(autouse=True)
def quick_to_compile(request):
    """Small programs are compiled without most of XLA's optimizations, in half the time, to the same values but for
    rounding. What tests of the real network draw is compiled as users do.
    """
    jax.config.update("jax_disable_most_optimizations", "network" not in request.fixturenames)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
