"""An image seen through an affine map, and the gradient of that.

The gradient is a scatter: each position of the result adds to four pixels of the image. Scatters are slow on CPUs. But
the map can be inverted: the positions of the result that read a pixel lie in a small square around one place, and are
gathered from there. For eight pictures of 224 pixels on two cores, written in frequencies and shaken by `lucid`, value
and gradient of both took 82 to 90 ms with the scatter and take 39 to 42 ms so.
"""

from functools import partial
from math import ceil

import jax
import jax.numpy as jnp


def sample(image: jax.Array, matrix: jax.Array, height: int, width: int, reach: float, fill: float) -> jax.Array:
    """Sample an image bilinearly through an affine map; differentiable in the image, not in the map.

    Args:
      image: Array (h, w, c).
      matrix: Array (3, 3), which maps (row, column, 1) of the result to a position in the image, both counted from the
        centers.
      height: Rows of the result.
      width: Columns of the result.
      reach: A bound on the distance, in pixels of the result, from which a pixel of the image is read: on the sums of
        sizes in the rows of the inverse of the matrix's 2 x 2 part. Too small a bound makes gradients wrong.
      fill: Value beyond the image's edge, faded in over one pixel.

    Returns:
      Array (height, width, c).
    """
    return fill + _sample(jnp.asarray(image) - fill, matrix, (height, width), image.shape[:2], reach)


def motion(angle: jax.Array, shift: jax.Array, scale: float | jax.Array = 1.0) -> jax.Array:
    """Make the matrix with which `sample` turns, enlarges and then moves an image.

    Args:
      angle: Counterclockwise, in radians, about the image's center.
      shift: Array (2,), rows down and columns right, in pixels.
      scale: Factor by which the image is enlarged, about its center.

    Returns:
      Array (3, 3).
    """
    cosine, sine = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    linear = jnp.stack([cosine, sine, -sine, cosine]).reshape(2, 2)
    return jnp.eye(3, dtype=linear.dtype).at[:2, :2].set(linear).at[:2, 2].set(-linear @ shift)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _sample(image, matrix, size, shape, reach):
    y, x = _mapped(matrix[:2, :2], matrix[:2, 2], size, shape)
    weight = lambda row, column: _hat(row - y) * _hat(column - x)
    return _weighted(image, jnp.floor(y), jnp.floor(x), 2, weight)


def _forward(image, matrix, size, shape, reach):
    return _sample(image, matrix, size, shape, reach), matrix


def _backward(size, shape, reach, matrix, cotangent):
    (a, b), (c, d) = linear = matrix[:2, :2]
    inverse = jnp.stack([d, -b, -c, a]).reshape(2, 2) / (a * d - b * c)
    y, x = _mapped(inverse, -inverse @ matrix[:2, 2], shape, size)

    def weight(row, column):  # what the position (row, column) of the result, when it was sampled, gave to the pixel
        (down_y, right_y), (down_x, right_x) = linear
        down, right = row - y, column - x
        return _hat(down_y * down + right_y * right) * _hat(down_x * down + right_x * right)

    gradient = _weighted(cotangent, jnp.ceil(y - reach), jnp.ceil(x - reach), ceil(2 * reach), weight)
    return gradient, jnp.zeros_like(matrix)


_sample.defvjp(_forward, _backward)


def _mapped(linear, shift, size, shape):
    """Map the positions of a grid of `size` into one of `shape`: two arrays, rows and columns."""
    rows = jnp.arange(size[0], dtype=jnp.float32)[:, None] - (size[0] - 1) / 2
    columns = jnp.arange(size[1], dtype=jnp.float32)[None] - (size[1] - 1) / 2
    return tuple(
        linear[axis, 0] * rows + linear[axis, 1] * columns + shift[axis] + (shape[axis] - 1) / 2 for axis in (0, 1)
    )


def _hat(distance):
    return jnp.maximum(1 - jnp.abs(distance), 0)


def _weighted(image, top, left, size, weight):
    """Sum weight(row, column) * image over `size` rows from `top` and columns from `left`; zero outside."""
    height, width, channels = image.shape
    flat = jnp.reshape(image, (-1, channels))

    def share(row, column):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        index = jnp.where(inside, row * width + column, 0).astype(jnp.int32)
        return jnp.where(inside, weight(row, column), 0)[..., None] * flat.at[index].get(mode="promise_in_bounds")

    # A loop, because XLA would otherwise compute the image anew for every share, and the shares for every use of them
    def row(down, total):
        down = jnp.asarray(down, top.dtype)  # whatever the type of integers is set to
        return total + sum(share(top + down, left + right) for right in range(size))

    return jax.lax.fori_loop(0, size, row, jnp.zeros((*top.shape, channels), image.dtype))
