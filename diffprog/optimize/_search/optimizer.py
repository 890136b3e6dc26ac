"""What an optimizer is: a value with `init` and `update`, which asks an `Oracle`.

Optimizers are frozen dataclasses without arrays, registered as static pytrees: equal settings are equal values, and
find the same compiled program. Write one like this:

    @jax.tree_util.register_static
    @dataclass(frozen=True)
    class SteepestDescent:
        learning_rate: float
        max_steps: ClassVar[int] = 1000
        asks: ClassVar[str] = "function"
        takes_bounds: ClassVar[bool] = False

        def init(self, oracle, point, key): ...
        def update(self, oracle, state): ...
"""

from typing import Any, ClassVar, Protocol

import jax

from diffprog.optimize._search.oracle import Counts, Oracle

# values of a status
SEARCHING, FLAT, SETTLED, SHORT, SMALL, STUCK, NOT_FINITE, WENT_OFF, INTERRUPTED, DEGENERATE = range(10)
CONVERGED = (FLAT, SETTLED, SHORT, SMALL)
REASONS = (
    "the steps were used up",
    "the gradient is small enough",
    "the value changes no more",
    "the parameters change no more",
    "what is left of the search is small enough",
    "no lower value was found along the direction of search",
    "the function is not finite at the start",
    "value or gradient are not finite any more",
    "it was interrupted",
    "the distribution is longer in one direction than in another by more than this type of numbers can tell",
)


class SearchState(Protocol):
    """What the loop reads of an optimizer's state, a NamedTuple that holds everything the next step depends on.

    Attributes:
      point: (n,), the best point so far, in the box.
      value: the function's value there.
      counts: what was asked so far.
      status: int32, `SEARCHING` or why the search has ended.
    """

    @property
    def point(self) -> jax.Array: ...
    @property
    def value(self) -> jax.Array: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def status(self) -> jax.Array: ...


class Optimizer(Protocol):
    """How to search.

    Attributes:
      max_steps: steps after which a search ends, unless the caller says otherwise.
      asks: "function" or "residuals": an optimizer for residuals is only for `least_squares`.
      takes_bounds: it keeps to a box.
    """

    max_steps: ClassVar[int]
    asks: ClassVar[str]
    takes_bounds: ClassVar[bool]

    def init(self, oracle: Oracle, point: jax.Array, key: jax.Array) -> Any:
        """Make the state before the first step, at a point (n,) in the box; a key decides all that is drawn."""

    def update(self, oracle: Oracle, state: Any) -> Any:
        """Take a step. The loop ends at a status that is not `SEARCHING`, and keeps the state of a row that is done."""
