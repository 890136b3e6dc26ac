"""The Square attack: random windows of constant change, kept when they help. It needs no gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, Example
from diffprog.attack._engine.options import QueryOptions, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import margin
from diffprog.attack._norms import Norm, l1, l2, linf

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # steps after which a window's share of the image is halved


@documents_options
def square(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 5000,
    p_init: float = 0.8,
    loss: Callable[..., jax.Array] = margin,
    **options: Unpack[QueryOptions],
) -> AttackResult:
    """Attack by random squares, from nothing but logits.

    In L-infinity it starts from vertical stripes, and each step moves every channel of a random square to one of its
    two limits. In L2 and L1 it starts from a grid of hills, and each step moves the budget of one window to another,
    with a new hill. A step is kept if it raises the loss. Each image has windows of its own, and its search ends with
    its first success unless `early_stop=False`.

    With a mask, windows lie in the smallest rectangle that holds all that may change, and shares are of its area.
    Vectors (n, size) are images of one row, whose windows are stretches. A window that is larger than a side of the
    image keeps its area, not its shape. Windows reach every edge; the authors' never reach the last row and column.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, height, width, channels), (n, height, width) or (n, size), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the windows.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: windows tried, each a query; one more is spent on the start.
      p_init: fraction of the image that the first windows cover. It is halved after 10, 50, 200, 500, 1000, 2000,
        4000, 6000 and 8000 steps, whatever `max_steps` is, as in AutoAttack.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best point of each image: a success before a failure, then the larger loss.

    References:
      Andriushchenko et al. 2020, algorithms 1 to 3; in L1 Croce & Hein 2021.
    """
    validation.check_fractions(p_init=p_init)
    settings = parse_options({"early_stop": True, **options})
    spec = _spec(validation.check_norm(norm, (linf, l2, l1)))._replace(loss=loss)
    return run_attack(model, images, labels, spec, settings, max_steps, np.float32(p_init), key=key, epsilon=epsilon)


class State(NamedTuple):
    """A proposal, and the best point so far."""

    point: jax.Array
    best: jax.Array
    best_value: jax.Array


@factory
def _spec(norm):
    first_change, propose = (_stripes, _flip_square) if norm is linf else (_grid_of_hills(norm), _move_hill(norm))

    def init(example, p_init):
        change = first_change(example.key, as_picture(example.image).shape).reshape(example.image.shape)
        point = example.project(norm, example.image + example.epsilon * change)
        return State(point, point, jnp.float32(-jnp.inf))

    def update(example, p_init, state, view):
        better = view.value > state.best_value
        best = jnp.where(better, state.point, state.best)
        best_value = jnp.where(better, view.value, state.best_value)
        fraction = p_init / 2.0 ** jnp.sum(view.step > jnp.array(HALVINGS), dtype=jnp.int32)
        change = as_picture(best - example.image)
        change = propose(view.key, change, fraction, example.epsilon, free_region(example)).reshape(best.shape)
        return State(example.project(norm, example.image + change), best, best_value)

    return AttackSpec("square", init, update, query_logits, norm=norm)


# ---------------------------------------------------------------- what each norm starts from and proposes


def _signs(key, shape):
    return draws.signs(key, shape)


def _stripes(key, shape):
    return jnp.broadcast_to(_signs(key, (1, *shape[1:])), shape)


def _flip_square(key, change, fraction, epsilon, region):
    """Move every channel of a random square by two budgets: to one of its limits, after the projection."""
    place_key, sign_key = jax.random.split(key)
    square = place(place_key, change.shape, window_sides(region.sides, fraction), region)
    return change + jnp.where(square.inside, 2 * epsilon * _signs(sign_key, (1, 1, change.shape[2])), 0)


def _grid_of_hills(norm):
    """Set five by five hills of random sign in each channel, together of size 1."""

    def first_change(key, shape):
        turn_key, sign_key = jax.random.split(key)
        (rows, columns), hills = tiles(turn_key, shape)
        change = hills * _signs(sign_key, shape)[rows, columns]
        return change / norm.size(change)

    return first_change


def _move_hill(norm):
    """Take one window's change away, and give another what budget that frees (algorithm 3).

    The other gets a new hill, of random sign in each channel, on its old change.
    """
    order = 1 if norm is l1 else 2

    def mass(values):
        """Measure each channel, to the power of `order`."""
        return jnp.sum(jnp.abs(values) ** order, axis=(0, 1))

    def unit(values):
        size = mass(values) ** (1 / order)
        return values / jnp.where(size > 0, size, 1)

    def propose(key, change, fraction, epsilon, region):
        gaining_key, losing_key, turn_key, sign_key = jax.random.split(key, 4)
        sides = window_sides(region.sides, fraction, min_side=3, odd=True)
        gaining, losing = (place(place_key, change.shape, sides, region) for place_key in (gaining_key, losing_key))
        signs = _signs(sign_key, (1, 1, change.shape[2]))
        new = unit(unit(hill(turn_key, gaining, sides)) * signs + unit(jnp.where(gaining.inside, change, 0)))
        unspent = jnp.maximum(epsilon**order - jnp.sum(mass(change)), 0) / change.shape[2]
        freed = mass(jnp.where(gaining.inside | losing.inside, change, 0))
        new = new * (unspent + freed) ** (1 / order)
        moved = jnp.where(gaining.inside, new, jnp.where(losing.inside, 0, change))
        return moved * (epsilon / jnp.maximum(norm.size(moved), 1e-12))

    return propose


# ---------------------------------------------------------------- windows, whose sizes may change from step to step


def as_picture(values: jax.Array) -> jax.Array:
    """View an image as [height, width, channels].

    A vector is one row, a matrix one channel; what comes before the last three axes is stacked in rows.
    """
    if values.ndim == 1:
        return values[None, :, None]
    return values[..., None] if values.ndim == 2 else values.reshape(-1, *values.shape[-2:])


class Region(NamedTuple):
    """A rectangle of an image, within which windows are placed."""

    corner: tuple[Any, Any]  # row and column of its first pixel
    sides: tuple[Any, Any]  # height and width


def free_region(example: Example) -> Region:
    """Find the smallest rectangle that holds every pixel which may change; without a mask it is the image."""
    free = jnp.any(as_picture(example.upper > example.lower), axis=2)
    along = [jnp.any(free, axis=1), jnp.any(free, axis=0)]
    first = [jnp.argmax(line).astype(jnp.int32) for line in along]
    behind = [jnp.argmax(line[::-1]).astype(jnp.int32) for line in along]
    sides = [len(line) - start - end for line, start, end in zip(along, first, behind, strict=True)]
    return Region((first[0], first[1]), (sides[0], sides[1]))


class Window(NamedTuple):
    """A rectangle: which pixels it holds, and where in it they lie, each [height, width, 1]."""

    inside: jax.Array
    row: jax.Array
    column: jax.Array


def window_sides(sides: tuple[Any, Any], fraction, min_side: int = 1, odd: bool = False):
    """Compute height and width of a square that covers a fraction of a region of these sides.

    Where a side of the region is shorter than the square, the other grows. With `odd`, the square's side is odd.
    """
    height, width = sides
    side = jnp.maximum(jnp.round(jnp.sqrt(fraction * height * width)).astype(jnp.int32), min_side)
    side = side + (1 - side % 2) * odd
    tall = jnp.where(side <= width, side, jnp.round(fraction * height).astype(jnp.int32))
    wide = jnp.where(side <= height, side, jnp.round(fraction * width).astype(jnp.int32))
    return jnp.clip(tall, 1, height), jnp.clip(wide, 1, width)


def place(key: jax.Array, shape: tuple[int, ...], sides, region: Region) -> Window:
    """Put a window of these sides at a random place of a region of the image, all being equally likely."""
    top, left = (
        start + draws.integers(axis_key, 0, length - side + 1)
        for axis_key, start, length, side in zip(jax.random.split(key), *region, sides, strict=True)
    )
    return _window(jnp.arange(shape[0])[:, None, None] - top, jnp.arange(shape[1])[None, :, None] - left, sides)


def _window(row, column, sides):
    inside = (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])
    return Window(inside, *jnp.broadcast_arrays(row, column))


def tiles(key: jax.Array, shape: tuple[int, ...], count: int = 5):
    """Lay a grid of `count` by `count` hills in the middle of the image.

    Returns:
      Every pixel's tile as (rows, columns), each [height, width]; and its height [height, width, 1], 0 off the grid.
    """
    sides = [max(length // count, 1) for length in shape[:2]]
    offsets, indices = [], []
    for length, side in zip(shape[:2], sides, strict=True):
        along = jnp.arange(length) - max((length - side * count) // 2, 0)
        indices.append(jnp.clip(along // side, 0, length // side - 1))
        offsets.append(along - indices[-1] * side)
    window = _window(offsets[0][:, None, None], offsets[1][None, :, None], sides)
    return jnp.meshgrid(*indices, indexing="ij"), hill(key, window, sides)


def hill(key: jax.Array, window: Window, sides) -> jax.Array:
    """Make a hill and a valley of equal Euclidean norm, one above the other or side by side at random; 0 outside.

    References:
      Andriushchenko et al. 2020, supplement A.
    """
    upright = _halves(window.inside, window.row, window.column, sides)
    lying = _halves(window.inside, window.column, window.row, sides[::-1])
    return jnp.where(draws.coin(key), upright, lying)


def _halves(inside, row, column, sides):
    half = sides[0] // 2
    above = _rings(row, column, (half, sides[1]))
    below = _rings(row - half, column, (sides[0] - half, sides[1]))
    return _unit_l2(jnp.where(inside & (row < half), above, 0)) - _unit_l2(jnp.where(inside & (row >= half), below, 0))


def _rings(row, column, sides):
    """Pile square rings around the middle of a rectangle: ring r, counted from 1, is 1 / r^2 higher than the next."""
    middle = [side // 2 for side in sides]
    ring = jnp.maximum(jnp.abs(row - middle[0]), jnp.abs(column - middle[1]))
    steps = 1.0 / jnp.arange(1, max(row.shape) + 2, dtype=jnp.float32) ** 2
    # By how much the middle is higher than each ring.
    heights_inside = jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])
    return heights_inside[jnp.maximum(*middle) + 1] - heights_inside[ring]


def _unit_l2(values):
    size = jnp.sqrt(jnp.sum(values**2))
    return values / jnp.where(size > 0, size, 1)
