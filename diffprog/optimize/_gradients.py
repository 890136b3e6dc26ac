"""What an Optax transformation is given in a step, and what it makes of it: complex numbers and line searches too."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def downhill(optimizer: Any, parameters: Any) -> optax.GradientTransformationExtraArgs:
    """Make a transformation take whatever it is offered, and see real numbers where it measures along a line.

    Optax's line searches disagree among themselves about the gradient of a complex number, so a transformation that
    may search sees its real and imaginary part.
    """
    if hasattr(optimizer, "gradient_transformation"):  # as `optax.MultiSteps` has it
        optimizer = optimizer.gradient_transformation()
    may_search = isinstance(optimizer, optax.GradientTransformationExtraArgs)
    extended = optax.with_extra_args_support(optimizer)
    return _on_parts(extended) if may_search and any(map(jnp.iscomplexobj, jax.tree.leaves(parameters))) else extended


def update(
    optimizer: Any,
    parameters: Any,
    state: Any,
    value: jax.Array,
    gradient: Any,
    differentiated: Callable,
    maximize: bool,
) -> tuple[Any, Any]:
    """Take one step of an optimizer.

    Args:
      optimizer: an Optax transformation.
      parameters: pytree of arrays.
      state: the optimizer's.
      value: of the objective.
      gradient: as `jax.grad` has it: of a complex number, the conjugate of the direction of ascent.
      differentiated: `differentiated(parameters) -> (value or (value, aux), gradient)`.
      maximize: walk up.

    Returns:
      New parameters, and the optimizer's new state.
    """
    toward = lambda value, gradient: (-value, jax.tree.map(jnp.negative, gradient)) if maximize else (value, gradient)

    def measure(parameters):
        measured, gradient = differentiated(parameters)
        return toward(measured[0] if isinstance(measured, tuple) else measured, _ascent(gradient))

    value_function = jax.custom_vjp(lambda parameters: measure(parameters)[0])
    value_function.defvjp(measure, lambda gradient, cotangent: (jax.tree.map(lambda g: cotangent * g, gradient),))
    value, gradient = toward(value, _ascent(gradient))
    updates, state = downhill(optimizer, parameters).update(
        gradient, state, parameters, value=value, grad=gradient, value_fn=value_function
    )
    return optax.apply_updates(parameters, updates), state


def num_trials(state: Any) -> Any:
    """Say how often Optax's line searches asked for value and gradient in the last step.

    Args:
      state: an optimizer's, after the step.

    Returns:
      An integer (int32); None where nothing searches.
    """
    found = optax.tree_utils.tree_get_all_with_path(state, "num_linesearch_steps")
    return sum(jnp.asarray(number, jnp.int32) for _, number in found) if found else None


def squared_norm(gradient: Any) -> jax.Array:
    """Sum the squares of all elements, in single precision at least."""
    total = jnp.float32(0)
    for leaf in jax.tree.leaves(gradient):
        parts = [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]
        for part in parts:
            wide = part.astype(jnp.promote_types(part.dtype, jnp.float32)).reshape(-1)
            total = total + jnp.vdot(wide, wide)
    return total


def _ascent(gradient: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.conj() if jnp.iscomplexobj(leaf) else leaf, gradient)


def _on_parts(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Let an optimizer see pairs of real numbers in place of complex ones."""

    def update(gradient, state, parameters, *, value_fn, grad, **extra):
        measure = lambda parts: value_fn(_joined(parts, parameters))
        parts = _parts(gradient)
        updates, state = optimizer.update(
            parts,
            state,
            _parts(parameters),
            value_fn=_with_parts_of(measure, value_fn, parameters),
            grad=parts,
            **extra,
        )
        return _joined(updates, parameters), state

    return optax.GradientTransformationExtraArgs(lambda parameters: optimizer.init(_parts(parameters)), update)


def _with_parts_of(measure, value_fn, parameters):
    """Differentiate by parts: `value_fn` gives the direction of ascent, whose parts are the parts' derivatives."""

    def measured(parts):
        value, gradient = jax.value_and_grad(value_fn)(_joined(parts, parameters))
        return value, _parts(gradient)

    by_parts = jax.custom_vjp(measure)
    by_parts.defvjp(measured, lambda gradient, cotangent: (jax.tree.map(lambda g: cotangent * g, gradient),))
    return by_parts


def _parts(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else leaf, tree)


def _joined(parts: Any, like: Any) -> Any:
    join = lambda leaf, part: jax.lax.complex(*part) if jnp.iscomplexobj(leaf) else part
    return jax.tree.map(join, like, parts)
