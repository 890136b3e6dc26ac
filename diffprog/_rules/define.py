"""A rule for a primitive of one's own."""

from collections.abc import Callable

from diffprog._jax_internals import Primitive
from diffprog._tracer.rules import linear_by_rule, rule, rules


def defvjp(primitive: Primitive | str, *makers: Callable[..., Callable] | None, replace: bool = False) -> None:
    """Say how a primitive with one result is differentiated, from now on in all transformations.

    Args:
      primitive: the `jax.extend.core.Primitive`, or its name.
      *makers: one per argument of the primitive: maker(result, *arguments, **params) returns the map from the
        cotangent of the result to that of the argument; None for an argument without a derivative. A maker is called
        only when the gradient of its argument is wanted. What its map closes over is kept until the backward pass.
        Formulas made of JAX operations can be differentiated again.
      replace: whether the primitive may have a rule already, which the new one then replaces.

    Raises:
      ValueError: the primitive has a rule already and `replace` is False.
      TypeError: a maker is neither callable nor None, or the primitive was called with another number of arguments.

    Example:
      z = x * y by a primitive `times`:

        dp.defvjp(times, lambda z, x, y: lambda g: g * y, lambda z, x, y: lambda g: x * g)
    """
    name = primitive if isinstance(primitive, str) else primitive.name
    if name in rules and not replace:
        raise ValueError(f"the primitive '{name}' has a rule already: pass replace=True to put this one in its place")
    for maker in makers:
        if maker is not None and not callable(maker):
            raise TypeError(f"defvjp takes functions, or None for an argument without a derivative; found {maker!r}")

    if name not in rules:
        linear_by_rule.add(name)  # whether it is linear, only its author knows

    @rule(name)
    def apply(primitive, needs_grad, args, params):
        if len(args) != len(makers):
            raise TypeError(
                f"the rule of '{name}' was defined for {len(makers)} arguments, but the primitive was called with "
                f"{len(args)}: give defvjp one function, or None, per argument"
            )
        result = primitive.bind(*args, **params)
        pulls = [
            maker(result, *args, **params) if want and maker is not None else None
            for maker, want in zip(makers, needs_grad, strict=True)
        ]
        return result, lambda g: [pull and pull(g) for pull in pulls]
