"""Eight pictures on as many devices as there are: `python -m tests.visualize.many_devices FILE`."""

import sys

import jax
import numpy as np

from diffprog.visualize import chain, channel, diversity, fourier, jitter, logit, pad, render
from tests.visualize import small

if __name__ == "__main__":
    objectives = [channel("units", i % 4) + 0.1 * diversity("units") for i in range(6)] + [logit("one"), logit("two")]
    shake = chain(pad(1), jitter(2))
    pictures = render(small.model(), objectives, key=jax.random.key(0), image=fourier(12), shake=shake, steps=20)
    np.save(sys.argv[1], pictures.images)
