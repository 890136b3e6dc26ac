"""The operation that runs a program within a budget of memory."""

from dataclasses import dataclass, replace
from typing import Any

import jax

from diffprog._jax_internals.operations import batch_jaxpr, new_operation


@dataclass(frozen=True)
class Budget:
    """How many bytes a gradient may hold beyond its arguments and results.

    Attributes:
      bytes: that many, or None.
      fraction: of what the gradient without recomputation holds, if `bytes` is None.
    """

    bytes: int | None = None
    fraction: float = 1.0

    def allowed(self, plain: int) -> int:
        """Say how many bytes that is, where the gradient without recomputation holds `plain`."""
        return int(self.fraction * plain) if self.bytes is None else self.bytes


@dataclass(frozen=True)
class Allowance:
    """How many bytes a part of a program, as a branch, may hold beyond the least that any plan of it holds.

    They are bytes of the estimates, as no compiler tells what a part holds.
    """

    bytes: int


@dataclass(frozen=True)
class Planned:
    """The operation that runs a program, and whose backward pass stays within a budget.

    Attributes:
      program: closed jaxpr without constants, arguments -> results.
      budget: of the forward and the backward pass together.
    """

    program: Any
    budget: Budget | Allowance

    def batch(self, axis, args, dims):
        moved = [x if d is None else jax.numpy.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
        program, has_axis = batch_jaxpr(
            self.program, axis, [d is not None for d in dims], [False] * len(self.program.out_avals)
        )
        return planned(moved, replace(self, program=program)), [0 if there else None for there in has_axis]


planned = new_operation("planned")
