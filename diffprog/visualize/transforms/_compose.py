"""Transforms one after the other."""

from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import jax

from diffprog.visualize.transforms._filters import Filter
from diffprog.visualize.transforms._geometric import Affine, combined, jitter, pad, rotate, scale


class Chain(NamedTuple):
    """Transforms that cannot be made one."""

    steps: tuple

    def size(self, height, width):
        """The height and width of the results, for images of such a size."""
        for step in self.steps:
            height, width = step.size(height, width)
        return height, width

    def __call__(self, key, image):
        """One random result, differentiable; each step has a key of its own."""
        for number, step in enumerate(self.steps):
            image = step(jax.random.fold_in(key, number), image)
        return image


Transform = Affine | Filter | Chain


@lru_cache  # equal arguments give the same object, for which programs are compiled once
def chain(*transforms):
    """The transforms one after the other, each drawn independently, as one transform.

    Motions (`Affine`) that follow each other become one, which samples the image once.
    """
    flat = [step for each in transforms for step in (each.steps if isinstance(each, Chain) else [each])]
    steps = []
    for moves, run in groupby(flat, lambda step: isinstance(step, Affine)):
        run = list(run)
        steps += [combined(*run)] if moves else run
    if not steps:
        return combined()
    return steps[0] if len(steps) == 1 else Chain(tuple(steps))


still = chain()
lucid = chain(pad(12), jitter(8), scale(0.9, 1.1), rotate(10), jitter(4))
