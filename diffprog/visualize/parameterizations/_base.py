"""What every parameterization is: a way to start, to decode and, where it can be, to encode pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax


@dataclass(frozen=True, eq=False)
class Parameterization:
    """How n pictures are written.

    start: `start(keys)`, of n keys, gives the parameters of n pictures, whose axis comes first in every leaf that
        belongs to one picture.
    decode: the parameters to images (n, height, width, channels) in [0, 1].
    encode: images to parameters that decode to them, or to the nearest images that can be written so; None where a
        picture cannot be given.
    """

    height: int
    width: int
    channels: int
    start: Callable
    decode: Callable
    encode: Callable | None = None

    @property
    def shape(self):
        """(height, width, channels) of a picture."""
        return self.height, self.width, self.channels


def each(height, width, channels, start, decode, encode=None):
    """A parameterization from functions of one picture."""
    return Parameterization(height, width, channels, jax.vmap(start), jax.vmap(decode), encode and jax.vmap(encode))


def normal(key, shape):
    """`jax.random.normal`, bit for bit. Drawn in one row: XLA for CPUs may take seconds to compile several axes."""
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)
