"""What every parameterization is: a way to start, to decode and, where it can be, to encode pictures."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import NamedTuple

import jax
import numpy as np


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


def each(height, width, channels, start, decode, encode=None):
    """A parameterization from functions of one picture."""
    return Parameterization(height, width, channels, jax.vmap(start), jax.vmap(decode), encode and jax.vmap(encode))


def normal(key, shape):
    """`jax.random.normal`, bit for bit. Drawn in one row: XLA for CPUs may take seconds to compile several axes."""
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def remembered(factory):
    """The factory, giving the same object for equal arguments, arrays included: for it, programs are compiled once."""
    signature = inspect.signature(factory)

    @lru_cache(maxsize=256)
    def made(arguments):
        return factory(**{name: _thawed(value) for name, value in arguments})

    @wraps(factory)
    def find(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        return made(tuple((name, _frozen(value)) for name, value in bound.arguments.items()))

    return find


class _Content(NamedTuple):
    """An array as something that can be compared and hashed."""

    shape: tuple
    dtype: str
    data: bytes


def _frozen(value):
    if isinstance(value, list):
        value = np.asarray(value)
    if isinstance(value, np.ndarray | jax.Array):
        value = np.asarray(value)
        return _Content(value.shape, value.dtype.str, value.tobytes())
    return value


def _thawed(value):
    return np.frombuffer(value.data, value.dtype).reshape(value.shape) if isinstance(value, _Content) else value
