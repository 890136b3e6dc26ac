"""Every failure that random programs have found, reduced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.random_programs.checks import WAYS, check

NHWC = ("NHWC", "HWIO", "NHWC")


def test_maximum_of_numbers_inside_a_clip():
    """A literal of a jitted body has no shape."""
    check(lambda ad, x: (jnp.clip(x, -0.5, 0.25),), (-0.8,), "mapped_gradient", jit=True)


@pytest.mark.parametrize("way", WAYS)
def test_reshape_that_transposes(way):
    """vmap writes a transposition into the `dimensions` of a reshape; the backward pass left it out."""

    def program(ad, x):
        kernels = jnp.cos(jnp.resize(x, (3, 1, 2, 3, 2)))
        convolve = lambda x, kernel: lax.conv_general_dilated(x[None], kernel, (1, 2), "SAME", dimension_numbers=NHWC)
        return (jax.vmap(convolve)(x, kernels), lax.reshape(x, (3, 12), (1, 2, 0, 3)))

    check(program, (np.sin(np.arange(36.0)).reshape(3, 2, 2, 3),), way)
