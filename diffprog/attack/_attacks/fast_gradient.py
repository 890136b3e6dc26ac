"""Attacks that follow the gradient inside a ball: FGSM and FGM, BIM, PGD."""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec, Example, latest
from diffprog.attack._engine.options import Options, documents_options, parse_options
from diffprog.attack._engine.oracle import Model, query_gradient
from diffprog.attack._engine.per_image import positive
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import run_attack
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l1, l2, linf


@documents_options
def fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by the fast gradient sign method: one step of length epsilon from the image.

    With `norm=l2` or `l1` it is the fast gradient method: the step goes along the gradient itself, or changes the
    hundredth of the elements where it is largest. The end of the step is returned, better or worse.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      What became of each image.

    References:
      Goodfellow et al. 2015, section 4.
    """
    spec = descent("fgsm", validation.check_norm(norm, (linf, l2, l1)), False)._replace(loss=loss, better=latest)
    settings, hyperparameters = parse_options(options), (StepSize(relative=np.float32(1)),)
    return run_attack(model, images, labels, spec, settings, 1, hyperparameters, key=key, epsilon=epsilon)


@documents_options
def bim(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: ArrayLike | None = None,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by the basic iterative method: `pgd` that starts from the image itself.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); epsilon / 4 by default.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Kurakin et al. 2017, section 2.2.
    """
    spec = descent("bim", validation.check_norm(norm, (linf, l2, l1)), False)._replace(loss=loss)
    settings, hyperparameters = parse_options(options), (step_size_of(step_size, 1 / 4, images),)
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, epsilon=epsilon)


@documents_options
def pgd(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 40,
    step_size: ArrayLike | None = None,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by projected gradient descent from a uniform random point of the ball.

    Unlike in the paper, the best iterate of each image is returned, not the last. In L1 a step changes the hundredth
    of the elements where the gradient is largest (SLIDE), and the projection is onto ball and box together.

    Args:
      model: (images (n, ...)) -> logits (n, classes), differentiable.
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the random starts.
      norm: `linf`, `l2` or `l1`.
      epsilon: budget in the norm's units, for pixels in [0, 1], never exceeded; one number, one per image (n,), or
        several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm, or one per image (n,); by default epsilon / 4, which is long, because
        the best iterate is kept.
      loss: (logits, labels) -> (n,), such as `cross_entropy`, `margin`, `dlr`; raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    Raises:
      ValueError: images are outside the bounds, labels are no classes, the model returns probabilities, or lengths
        are not positive.

    References:
      Madry et al. 2018, eq. 3; in L1 Tramer & Boneh 2019, section 5, and Croce & Hein 2021.
    """
    spec = descent("pgd", validation.check_norm(norm, (linf, l2, l1)), True)._replace(loss=loss)
    settings, hyperparameters = parse_options(options), (step_size_of(step_size, 1 / 4, images),)
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, epsilon=epsilon)


class StepSize(NamedTuple):
    """The length of a step: a number, or a fraction of each image's budget."""

    absolute: Any = np.float32(0)  # or `PerImage`
    relative: Any = np.float32(0)

    def of(self, example: Example) -> jax.Array:
        """Compute the length for an image."""
        return self.absolute + jnp.where(self.relative > 0, self.relative * example.epsilon, 0)


def step_size_of(step_size: ArrayLike | None, relative: float, images: ArrayLike) -> StepSize:
    """Read the argument `step_size`: a length, or one per image, or None for a fraction of the budget."""
    if step_size is None:
        return StepSize(relative=np.float32(relative))
    return StepSize(absolute=positive("step_size", step_size, images))


class State(NamedTuple):
    """All that plain descent remembers."""

    point: jax.Array


@factory
def descent(
    name: str,
    norm: Norm,
    random_start: bool,
    query: Callable[..., Any] = query_gradient,
) -> AttackSpec:
    """Make an attack of steps of steepest ascent inside the ball; its first hyperparameter is a `StepSize`."""

    def init(example, hyperparameters):
        if not random_start:
            return State(example.image)
        noise = norm.uniform(example.key, example.image.shape, example.epsilon)
        return State(example.project(norm, example.image + noise))

    def update(example, hyperparameters, state, view):
        step_size, *_ = hyperparameters
        direction = norm.steepest(view.gradient, example.blocked(view.gradient, state.point))
        return State(example.project(norm, state.point + step_size.of(example) * direction))

    return AttackSpec(name, init, update, query, norm=norm)
