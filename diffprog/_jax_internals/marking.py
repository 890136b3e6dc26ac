"""Marks on values, and what is asked of the programs that contain them."""

from collections.abc import Iterator
from dataclasses import dataclass

from jax._src import core
from jax._src.ad_checkpoint import name_p
from jax._src.interpreters import mlir
from jax.extend.core import Primitive

__all__ = ["Mark", "is_marked", "jaxprs_in", "marked", "perturbed", "stacked"]


@dataclass(eq=False)
class Mark:
    """Stands where a name stands in JAX's named identity; two are the same only if they are the same object.

    Attributes:
      owner: who looks for it.
      selectors: which of the owner's selectors the value is selected by.
    """

    owner: object
    selectors: tuple[int, ...]


def marked(value, mark: Mark):
    """`value`, under a mark that stays with it under every transformation."""
    return name_p.bind(value, name=mark)


def is_marked(primitive, params, owner) -> bool:
    """Whether an operation puts a mark of `owner` on a value."""
    return primitive is name_p and isinstance(params["name"], Mark) and params["name"].owner is owner


def jaxprs_in(params) -> Iterator:
    """The programs that an operation with these parameters runs."""
    return core.jaxprs_in_params(params)


def stacked(aval, length: int):
    """The type of `length` values of this type."""
    return core.unmapped_aval(length, 0, aval)


# Made and consumed within one differentiated function: it is neither mapped nor differentiated by JAX.
_perturbed = Primitive("perturbed")
_perturbed.def_impl(lambda x, _: x)
_perturbed.def_abstract_eval(lambda x, _: x)
mlir.register_lowering(_perturbed, lambda context, x, _: [x])


def perturbed(value, perturbation):
    """`value`, as if `perturbation`, which is zero, had been added: nothing is, but both have the gradient."""
    return _perturbed.bind(value, perturbation)
