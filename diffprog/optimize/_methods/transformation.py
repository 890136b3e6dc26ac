"""First-order methods: every Optax transformation as an optimizer of `minimize`."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffprog._transforms.closures import Lifted, lift
from diffprog._util.trees import strong_types
from diffprog.optimize._gradients import downhill, num_trials, update
from diffprog.optimize._search.flat import Unflatten, flatten
from diffprog.optimize._search.optimizer import FLAT, NOT_FINITE, SEARCHING, WENT_OFF
from diffprog.optimize._search.oracle import Counts, Oracle
from diffprog.optimize._trainable import split

GRADIENT_PART = 0.9  # the power of the rounding error at which a gradient counts as 0, as a part of the first one


class DescentState(NamedTuple):
    """A walk whose iterates may also rise; `point` is the lowest of them."""

    point: jax.Array
    value: jax.Array
    counts: Counts
    status: jax.Array
    iterate: jax.Array
    iterate_value: jax.Array
    gradient: jax.Array  # at the iterate
    first_gradient: jax.Array  # its largest element at the start
    optimizer: Any  # Optax's state


@partial(jax.tree_util.register_dataclass, data_fields=["begin", "step"], meta_fields=[])
@dataclass(frozen=True)
class Transformation:
    """An Optax transformation, divided into operations and numbers, so that an equal one finds the same program.

    Attributes:
      begin: makes Optax's state of a vector of parameters.
      step: of oracle, gradient, Optax's state, vector and value, makes the next vector and state.
    """

    begin: Lifted
    step: Lifted

    max_steps: ClassVar[int] = 1000
    asks: ClassVar[str] = "function"
    takes_bounds: ClassVar[bool] = True

    @classmethod
    def of(
        cls, optimizer: optax.GradientTransformation, oracle: Oracle, start: jax.Array, unflatten: Unflatten
    ) -> "Transformation":
        """Take a transformation that knows the caller's pytree."""
        trainable = lambda vector: split(unflatten(vector))[0]
        as_jax_has_it = lambda vector: jax.tree.map(jnp.conj, trainable(vector))

        def begin(vector):
            parameters = trainable(vector)
            return strong_types(jax.tree.map(jnp.asarray, downhill(optimizer, parameters).init(parameters)))

        def step(oracle, gradient, state, vector, value):
            def differentiated(parameters):
                value, gradient, _ = oracle.value_and_gradient(flatten(parameters)[0], Counts.none())
                return value, as_jax_has_it(gradient)

            parameters, state = update(
                optimizer, trainable(vector), state, value, as_jax_has_it(gradient), differentiated, maximize=False
            )
            return flatten(parameters)[0], strong_types(state)

        return cls(lift(begin, start), lift(step, oracle, start, begin(start), start, start[0]))

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> DescentState:
        """Make the state before the first step."""
        value, gradient, counts = oracle.value_and_gradient(point, Counts.none())
        status = jnp.where(_is_finite(value, gradient), SEARCHING, NOT_FINITE).astype(jnp.int32)
        first = jnp.max(jnp.abs(gradient))
        return DescentState(point, value, counts, status, point, value, gradient, first, self.begin(point))

    def update(self, oracle: Oracle, state: DescentState) -> DescentState:
        """Take a step."""
        iterate, optimizer = self.step(oracle, state.gradient, state.optimizer, state.iterate, state.iterate_value)
        iterate = oracle.clip(iterate)
        trials = num_trials(optimizer)
        counts = state.counts if trials is None else state.counts.plus(function=trials, gradient=trials)
        value, gradient, counts = oracle.value_and_gradient(iterate, counts)
        is_finite = _is_finite(value, gradient)
        is_lower = is_finite & (value < state.value)
        limit = jnp.finfo(value.dtype).eps ** GRADIENT_PART * state.first_gradient
        is_flat = jnp.max(jnp.abs(oracle.clip(iterate - gradient) - iterate)) <= limit
        status = jnp.where(is_finite, jnp.where(is_flat, FLAT, SEARCHING), WENT_OFF).astype(jnp.int32)
        point, lowest = (jnp.where(is_lower, new, old) for new, old in ((iterate, state.point), (value, state.value)))
        return DescentState(point, lowest, counts, status, iterate, value, gradient, state.first_gradient, optimizer)


def _is_finite(value, gradient):
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
