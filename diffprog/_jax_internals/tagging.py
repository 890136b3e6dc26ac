"""Tags on values, which stay with them under every transformation."""

from dataclasses import dataclass

from jax._src.ad_checkpoint import name_p
from jax._src.interpreters import mlir
from jax.extend.core import Primitive

__all__ = ["Tag", "is_tagged", "perturbed", "tagged"]


@dataclass(eq=False)
class Tag:
    """A tag on a value; it stands where a name stands in JAX's named identity.

    Two are equal only if they are the same object.

    Attributes:
      owner: who looks for it.
      selectors: which of the owner's selectors the value is selected by.
    """

    owner: object
    selectors: tuple[int, ...]


def tagged(value, tag: Tag):
    """Put `value` under a tag that stays with it under every transformation."""
    return name_p.bind(value, name=tag)


def is_tagged(primitive, params, owner) -> bool:
    """Whether an operation puts a tag of `owner` on a value."""
    return primitive is name_p and isinstance(params["name"], Tag) and params["name"].owner is owner


# Made and consumed within one differentiated function: it is neither mapped nor differentiated by JAX.
_perturbed = Primitive("perturbed")
_perturbed.def_impl(lambda x, _: x)
_perturbed.def_abstract_eval(lambda x, _: x)
mlir.register_lowering(_perturbed, lambda context, x, _: [x])


def perturbed(value, perturbation):
    """Return `value` as if `perturbation`, which is zero, had been added: nothing is, but both have the gradient."""
    return _perturbed.bind(value, perturbation)
