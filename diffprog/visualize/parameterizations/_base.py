"""The form of a parameterization: a way to start, to decode and, where it can be, to encode pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True, eq=False)
class Parameterization:
    """How n pictures are written.

    Attributes:
      height: Height of a picture in pixels.
      width: Width of a picture in pixels.
      channels: Channels of a picture.
      start: `start(keys)`, of n keys, gives the parameters of n pictures. Their axis comes first in every leaf that
        belongs to one picture.
      decode: Parameters to images (n, height, width, channels) in [0, 1].
      encode: Images to parameters that decode to them, or to the nearest images that can be written so; None where a
        picture cannot be given.
    """

    height: int
    width: int
    channels: int
    start: Callable[[jax.Array], Any]
    decode: Callable[[Any], jax.Array]
    encode: Callable[[jax.Array], Any] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a picture."""
        return self.height, self.width, self.channels


def from_single(
    height: int, width: int, channels: int, start: Callable, decode: Callable, encode: Callable | None = None
) -> Parameterization:
    """Make a parameterization of functions of one picture."""
    return Parameterization(height, width, channels, jax.vmap(start), jax.vmap(decode), encode and jax.vmap(encode))


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw `jax.random.normal`, bit for bit, in one row: XLA for CPUs may take seconds to compile several axes."""
    return jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)
