"""What a limited-memory method remembers: the last steps, and how each changed the gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pairs(NamedTuple):
    """The memory: the newest pair last, empty places zero."""

    steps: jax.Array  # (m, n), s / sqrt(s.y)
    changes: jax.Array  # (m, n), y / sqrt(s.y)
    theta: jax.Array  # y.y / s.y of the newest pair

    @classmethod
    def none(cls, point: jax.Array, size: int) -> "Pairs":
        """Make a memory of `size` pairs, all empty, for points like this one."""
        rows = jnp.zeros((size, len(point)), point.dtype)
        return cls(rows, rows, jnp.ones((), point.dtype))

    def forget(self, theta: jax.Array) -> "Pairs":
        """Empty the memory, with a new scale."""
        return Pairs(jnp.zeros_like(self.steps), jnp.zeros_like(self.changes), theta)


def add_pair(pairs: Pairs, step: jax.Array, change: jax.Array) -> Pairs:
    """Replace the oldest pair by a new one; change nothing where the function is not convex along the step."""
    product, squares = jnp.vdot(step, change), jnp.vdot(change, change)
    convex = product > jnp.finfo(step.dtype).eps * jnp.sqrt(squares * jnp.vdot(step, step))
    scale = jnp.sqrt(jnp.where(convex, product, 1))

    def push(rows, row):
        return jnp.where(convex, jnp.concatenate([rows[1:], row[None] / scale]), rows)

    theta = jnp.where(convex, squares / jnp.where(convex, product, 1), pairs.theta)
    return Pairs(push(pairs.steps, step), push(pairs.changes, change), theta)
