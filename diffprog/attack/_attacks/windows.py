"""Rectangles of pixels at random places, whose sizes a compiled program may change from step to step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def as_picture(values):
    """Values of an image as [height, width, channels]: of a vector one row, of a matrix one channel; what comes before
    the last three axes is stacked in rows."""
    if values.ndim == 1:
        return values[None, :, None]
    return values[..., None] if values.ndim == 2 else values.reshape(-1, *values.shape[-2:])


class Window(NamedTuple):
    """A rectangle: which pixels it holds, and where in it they lie, each [height, width, 1]."""

    inside: jax.Array
    row: jax.Array
    column: jax.Array


def window_sides(shape, part, least=1, odd=False):
    """Height and width of a square that covers a `part` of the picture; where a side of the picture is shorter, the
    other grows. With `odd`, the square's side is."""
    height, width = shape[:2]
    side = jnp.maximum(jnp.round(jnp.sqrt(part * height * width)).astype(jnp.int32), least)
    side = side + (1 - side % 2) * odd
    tall = jnp.where(side <= width, side, jnp.round(part * height).astype(jnp.int32))
    wide = jnp.where(side <= height, side, jnp.round(part * width).astype(jnp.int32))
    return jnp.clip(tall, 1, height), jnp.clip(wide, 1, width)


def place(key, shape, sides):
    """A window of these sides, all places being equally likely."""
    corner = [
        jax.random.randint(each, (), 0, length - side + 1)
        for each, length, side in zip(jax.random.split(key), shape[:2], sides, strict=True)
    ]
    return _window(
        jnp.arange(shape[0])[:, None, None] - corner[0], jnp.arange(shape[1])[None, :, None] - corner[1], sides
    )


def _window(row, column, sides):
    inside = (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])
    return Window(inside, *jnp.broadcast_arrays(row, column))


def tiles(key, shape, count=5):
    """A grid of `count` by `count` hills in the middle of the picture: every pixel's tile, as (rows, columns), each
    [height, width], and its height there [height, width, 1]: 0 outside the grid."""
    sides = [max(length // count, 1) for length in shape[:2]]
    at, tile = [], []
    for length, side in zip(shape[:2], sides, strict=True):
        along = jnp.arange(length) - max((length - side * count) // 2, 0)
        tile.append(jnp.clip(along // side, 0, length // side - 1))
        at.append(along - tile[-1] * side)
    window = _window(at[0][:, None, None], at[1][None, :, None], sides)
    return jnp.meshgrid(*tile, indexing="ij"), hill(key, window, sides)


def hill(key, window, sides):
    """In a window, a hill and a valley of equal Euclidean norm, one above the other or side by side at random, and 0
    outside (Andriushchenko et al. 2020, supplement A)."""
    upright = _halves(window.inside, window.row, window.column, sides)
    lying = _halves(window.inside, window.column, window.row, sides[::-1])
    return jnp.where(jax.random.bernoulli(key), upright, lying)


def _halves(inside, row, column, sides):
    half = sides[0] // 2
    above = _rings(row, column, (half, sides[1]))
    below = _rings(row - half, column, (sides[0] - half, sides[1]))
    return _unit(jnp.where(inside & (row < half), above, 0)) - _unit(jnp.where(inside & (row >= half), below, 0))


def _rings(row, column, sides):
    """Square rings around the middle of a rectangle: ring r, counted from 1, is 1 / r^2 higher than the next."""
    middle = [side // 2 for side in sides]
    ring = jnp.maximum(jnp.abs(row - middle[0]), jnp.abs(column - middle[1]))
    steps = 1.0 / jnp.arange(1, max(row.shape) + 2) ** 2
    inner = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])  # what the rings inside of each are higher than it
    return inner[jnp.maximum(*middle) + 1] - inner[ring]


def _unit(values):
    size = jnp.sqrt(jnp.sum(values**2))
    return values / jnp.where(size > 0, size, 1)
