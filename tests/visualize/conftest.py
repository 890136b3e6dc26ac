import jax
import pytest


@pytest.fixture(autouse=True)
def quick_to_compile(request):
    """Small programs are compiled without most optimizations, in half the time; values are the same to rounding.

    What tests of the real network draw is compiled as users do.
    """
    unoptimized = "network" not in request.fixturenames
    jax.config.update("jax_disable_most_optimizations", unoptimized)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
