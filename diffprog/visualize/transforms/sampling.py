"""An image seen through an affine map."""

import jax.numpy as jnp

FILL = 0.5  # grey beyond the picture's edge


def sample(image, matrix, height, width):
    """Bilinear values of an image (h, w, c) at the positions `matrix` @ (row, column, 1), counted from the centres.

    Beyond the edge the image goes on as grey, faded in over one pixel.
    """
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32)[None] - (width - 1) / 2
    y = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2] + (image.shape[0] - 1) / 2
    x = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2] + (image.shape[1] - 1) / 2
    flat = (jnp.asarray(image) - FILL).reshape(-1, image.shape[-1])
    return FILL + sum(_corner(flat, image.shape, y, x, down, right) for down in (0, 1) for right in (0, 1))


def _corner(flat, shape, y, x, down, right):
    """The share of one of the four pixels around each position (y, x)."""
    row, column = jnp.floor(y) + down, jnp.floor(x) + right
    weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column))
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index = jnp.where(inside, row * shape[1] + column, 0).astype(jnp.int32)
    return jnp.where(inside, weight, 0)[..., None] * flat.at[index].get(mode="promise_in_bounds")
