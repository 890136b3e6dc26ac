"""Transforms one after the other."""

from itertools import groupby
from typing import NamedTuple

import jax

from diffprog._util.factory import factory
from diffprog.visualize.transforms._filters import Filter
from diffprog.visualize.transforms._geometric import Affine, combined, jitter, pad, rotate, scale


class Chain(NamedTuple):
    """Transforms one after the other.

    Attributes:
      steps: The transforms.
    """

    steps: tuple

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Compute the height and width of results.

        Args:
          height: Height of an image.
          width: Width of an image.

        Returns:
          Height and width of its results.
        """
        for step in self.steps:
            height, width = step.size(height, width)
        return height, width

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Draw one random result, differentiable; each step has a key of its own."""
        for index, step in enumerate(self.steps):
            image = step(jax.random.fold_in(key, index), image)
        return image


Transform = Affine | Filter | Chain


@factory
def chain(*transforms: Transform) -> Transform:
    """Put transforms one after the other.

    Each is drawn independently. Motions (`Affine`) that follow each other become one, which samples the image once.

    Args:
      *transforms: Transforms, the first one applied first.

    Returns:
      One transform.
    """
    flat = [
        step for transform in transforms for step in (transform.steps if isinstance(transform, Chain) else [transform])
    ]
    steps: list = []
    for is_motion, run in groupby(flat, lambda step: isinstance(step, Affine)):
        members: list = list(run)
        steps += [combined(*members)] if is_motion else members
    if not steps:
        return combined()
    return steps[0] if len(steps) == 1 else Chain(tuple(steps))


still = chain()
lucid = chain(pad(12), jitter(8), scale(0.9, 1.1), rotate(10), jitter(4))
