"""What an optimizer may ask of a function, counted: its value, its gradient, products with its Hessian, a Jacobian.

Optimizers see one real vector, whatever the caller's parameters are (`flat.py`). Each answer comes with the counts so
far, which the optimizer carries in its state: so a count is right in a loop, in a branch that is not taken, and for
each row of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffprog._transforms.closures import Lifted
from diffprog._util.promotion import callers_promotion
from diffprog.optimize import _engine as engines


class Counts(NamedTuple):
    """How often each question was asked, int32 each.

    Attributes:
      function: values of the function, or of the residuals.
      gradient: gradients of the function.
      jacobian: Jacobians of the residuals.
      hessian_vector: products of the Hessian with one vector; of residuals, second derivatives along one vector. A
        whole Hessian of n numbers is n products.
    """

    function: jax.Array
    gradient: jax.Array
    jacobian: jax.Array
    hessian_vector: jax.Array

    @classmethod
    def none(cls) -> "Counts":
        """Begin to count."""
        return cls(*[jnp.zeros((), jnp.int32)] * len(cls._fields))

    def plus(self, **asked: int | jax.Array) -> "Counts":
        """Add to some of the counts."""
        return self._replace(**{name: getattr(self, name) + jnp.int32(number) for name, number in asked.items()})


HessianProduct = Callable[[jax.Array, Counts], tuple[jax.Array, Counts]]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["program", "lower", "upper"],
    meta_fields=["gives_residuals", "is_bounded", "engine"],
)
@dataclass(frozen=True)
class Oracle:
    """Answers questions about a function of n real numbers, which is to be minimized in a box.

    Attributes:
      program: the function of a vector (n,): its value, or its residuals (m,).
      lower: (n,), -inf where there is no bound.
      upper: (n,), +inf where there is no bound.
      gives_residuals: `program` returns residuals, and the function is half the sum of their squares.
      is_bounded: there is a bound.
      engine: whose gradients, "diffprog" or "jax".
    """

    program: Lifted
    lower: jax.Array
    upper: jax.Array
    gives_residuals: bool
    is_bounded: bool
    engine: str

    def value(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the function's value."""
        return self._value(point), counts.plus(function=1)

    def values(self, points: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the values (k,) at points (k, n)."""
        return jax.vmap(self._value)(points), counts.plus(function=len(points))

    def value_and_gradient(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, jax.Array, Counts]:
        """Compute value and gradient (n,)."""
        value, gradient = self._value_and_gradient(point)
        return value, gradient, counts.plus(function=1, gradient=1)

    def gradient(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the gradient (n,) alone."""
        return self._value_and_gradient(point)[1], counts.plus(gradient=1)

    def linearized(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, jax.Array, HessianProduct, Counts]:
        """Compute value, gradient, and the function that multiplies the Hessian there by a vector.

        What all products share is computed once, here.
        """
        (value, gradient), push = jax.linearize(self._value_and_gradient, point)

        def product(vector, counts):
            return push(vector)[1], counts.plus(hessian_vector=1)

        return value, gradient, product, counts.plus(function=1, gradient=1)

    def hessian_product(self, point: jax.Array) -> HessianProduct:
        """Make the function that multiplies the Hessian at a point by a vector.

        The gradient that all products share is computed once, and counted with the first of them.
        """
        return self.linearized(point, Counts.none())[2]

    def gradient_and_hessian(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, jax.Array, Counts]:
        """Compute gradient (n,) and the whole Hessian (n, n), symmetric to the last bit."""
        _, gradient, product, _ = self.linearized(point, counts)
        rows = jax.vmap(lambda row: product(row, counts)[0])(jnp.eye(len(point), dtype=point.dtype))
        return gradient, (rows + rows.T) / 2, counts.plus(gradient=1, hessian_vector=len(point))

    def with_hessian(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, jax.Array, jax.Array, Counts]:
        """Compute value, gradient and the whole Hessian (n, n)."""
        value, counts = self.value(point, counts)
        return value, *self.gradient_and_hessian(point, counts)

    def residuals(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the residuals (m,)."""
        return self._residuals(point), counts.plus(function=1)

    def jacobian(self, point: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the Jacobian (m, n) of the residuals, by columns or by rows, whichever are fewer."""
        residuals = jax.eval_shape(self._residuals, point)
        if len(residuals) >= len(point):
            _, push = jax.linearize(self._residuals, point)
            columns = jax.vmap(push)(jnp.eye(len(point), dtype=point.dtype))
            return columns.T, counts.plus(jacobian=1)
        _, pull = engines.vjp(self.engine)(self._residuals, point)
        (rows,) = jax.vmap(pull)(jnp.eye(len(residuals), dtype=residuals.dtype))
        return rows, counts.plus(jacobian=1)

    def second_derivative(self, point: jax.Array, vector: jax.Array, counts: Counts) -> tuple[jax.Array, Counts]:
        """Compute the second derivative (m,) of the residuals along a vector, exactly."""

        def first(point):
            return jax.jvp(self._residuals, (point,), (vector,))[1]

        return jax.jvp(first, (point,), (vector,))[1], counts.plus(hessian_vector=1)

    def clip(self, point: jax.Array) -> jax.Array:
        """Move a point to the nearest one of the box."""
        return jnp.clip(point, self.lower, self.upper) if self.is_bounded else point

    def _residuals(self, point):
        with callers_promotion():
            result = self.program(point)
        return jnp.asarray(result).astype(point.dtype)

    def _value(self, point):
        if self.gives_residuals:
            residuals = self._residuals(point)
            return jnp.vdot(residuals, residuals) / 2
        with callers_promotion():
            result = self.program(point)
        return jnp.asarray(result).astype(point.dtype)

    def _value_and_gradient(self, point):
        return engines.value_and_grad(self.engine)(self._value)(point)
