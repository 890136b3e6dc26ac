"""Eight pictures on eight devices: `python -m tests.visualize.rendering.many_devices FILE`."""

import sys

import jax
import numpy as np

from diffprog.visualize import channel, fourier, logit, render
from diffprog.visualize._rendering.sharding import spread
from diffprog.visualize.objectives import diversity
from diffprog.visualize.transforms import chain, jitter, pad
from tests.visualize import small


def pictures():
    objectives = [channel("units", i % 4) + 0.1 * diversity("units") for i in range(6)] + [logit("one"), logit("two")]
    transform = chain(pad(1), jitter(2))
    return render(
        small.model(), objectives, key=jax.random.key(0), parameterization=fourier(12), transform=transform, steps=20
    ).images


if __name__ == "__main__":
    assert len(jax.devices()) == 8
    assert len(spread(np.zeros((8, 2)), 8).sharding.device_set) == 8
    rows = np.zeros((8, 2))
    with jax.set_mesh(jax.make_mesh((8,), ("x",))):  # no array may lie on a mesh beside the caller's
        assert spread(rows, 8) is rows
    np.save(sys.argv[1], pictures())
