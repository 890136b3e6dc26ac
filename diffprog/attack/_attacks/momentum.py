"""Iterated steps along accumulated gradients, for attacks that shall succeed on other networks too."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._attacks.fast_gradient import step_size_of
from diffprog.attack._engine import validation
from diffprog.attack._engine.method import AttackSpec
from diffprog.attack._engine.oracle import ExpectationOverTransformation, Model, query_gradient, query_logits
from diffprog.attack._engine.result import AttackResult
from diffprog.attack._engine.run import Options, documents_options, parse_options, run_attack
from diffprog.attack._losses import cross_entropy
from diffprog.attack._norms import Norm, l2, linf
from diffprog.images._filters import gaussian_blur

Query = Callable[..., Any]
GradientTransform = Callable[[Query], Query]


@documents_options
def mi_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    gradient_transforms: Sequence[GradientTransform] = (),
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by MI-FGSM: steps along a decaying sum of all gradients so far, from the image itself.

    Each gradient is divided by the mean of its magnitudes, as in the authors' program; the paper divides by their sum,
    which matters only to how far `nesterov` looks ahead. Unlike in the paper, the best iterate is returned.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key; needed by `variance_tuned` and `input_diversity`, which draw.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm; epsilon / max_steps by default.
      decay: what remains of the sum in each step; 0 forgets it.
      gradient_transforms: what the gradient goes through, from left to right: `nesterov()`, `variance_tuned()`,
        `input_diversity()`, `translation_invariant()`.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Dong et al. 2018, algorithm 1.
    """
    arguments = key, norm, epsilon, max_steps, step_size, decay, gradient_transforms, loss
    return _run("mi-fgsm", model, images, labels, *arguments, options)


@documents_options
def ni_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by NI-FGSM: `mi_fgsm` with Nesterov's gradient, taken where the momentum leads.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm; epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Lin et al. 2020, eq. 6 to 8.
    """
    arguments = key, norm, epsilon, max_steps, step_size, decay, (nesterov(),), loss
    return _run("ni-fgsm", model, images, labels, *arguments, options)


@documents_options
def vmi_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    num_samples: int = 5,
    beta: float = 1.5,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by VMI-FGSM: `mi_fgsm` with the gradient corrected by its variation around the previous point.

    Args:
      model: (images (n, ...)) -> logits (n, classes).
      images: (n, ...), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides the points around.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm; epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step.
      num_samples: points around the previous one.
      beta: how far away they are in each element, at most, in budgets.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Wang & He 2021, algorithm 1.
    """
    validation.check_counts(num_samples=num_samples)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (variance_tuned(num_samples, beta),), loss
    return _run("vmi-fgsm", model, images, labels, *arguments, options)


@documents_options
def di_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: float | None = None,
    decay: float = 0.0,
    probability: float = 0.5,
    min_scale: float = 0.9,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by DI-FGSM: the gradient goes through images that are randomly shrunk and put on black.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: random key, which decides scales and places.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm; epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step; above 0 it is M-DI-FGSM.
      probability: of an image to be shrunk, in each step.
      min_scale: smallest factor by which it is shrunk, at most 1.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Xie et al. 2019, section 3.2.
    """
    validation.check_pictures(images)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (input_diversity(probability, min_scale),), loss
    return _run("di-fgsm", model, images, labels, *arguments, options)


@documents_options
def ti_fgsm(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    norm: Norm = linf,
    epsilon: ArrayLike = 8 / 255,
    max_steps: int = 10,
    step_size: float | None = None,
    decay: float = 0.0,
    kernel_size: int = 15,
    num_sigmas: float = 3.0,
    loss: Callable[..., jax.Array] = cross_entropy,
    **options: Unpack[Options],
) -> AttackResult:
    """Attack by TI-FGSM: the gradient is blurred, in effect the mean gradient of shifted images.

    Args:
      model: (images (n, height, width, channels)) -> logits (n, classes).
      images: (n, height, width, channels), floats within the bounds.
      labels: (n,), int; classes to leave, or with `targeted` to reach.
      key: not needed; nothing is drawn.
      norm: `linf` or `l2`.
      epsilon: budget in the norm's units; one number, one per image (n,), or several at once (K, 1).
      max_steps: steps of each search.
      step_size: length of a step in the norm; epsilon / max_steps by default.
      decay: what remains of the sum of gradients in each step; above 0 it is TI-MI-FGSM.
      kernel_size: side of the Gaussian kernel in pixels, odd.
      num_sigmas: standard deviations from its middle to its ends.
      loss: (logits, labels) -> (n,); raised, or with `targeted` lowered.
      **options: shared options.

    Returns:
      The best iterate of each image: a success before a failure, then the larger loss.

    References:
      Dong et al. 2019, eq. 7.
    """
    validation.check_pictures(images)
    arguments = key, norm, epsilon, max_steps, step_size, decay, (translation_invariant(kernel_size, num_sigmas),), loss
    return _run("ti-fgsm", model, images, labels, *arguments, options)


def _run(name, model, images, labels, key, norm, epsilon, max_steps, step_size, decay, transforms, loss, options):
    validation.check_counts(max_steps=max_steps)
    validation.check_norm(norm, (linf, l2))
    spec, settings = _spec(name, norm, tuple(transforms))._replace(loss=loss), parse_options(options)
    hyperparameters = step_size_of(step_size, 1 / max_steps), np.float32(decay)
    return run_attack(model, images, labels, spec, settings, max_steps, hyperparameters, key=key, epsilon=epsilon)


class State(NamedTuple):
    """A point, and what is remembered of the gradients."""

    point: jax.Array
    momentum: jax.Array  # the decaying sum of gradients
    coasting: jax.Array  # the step along what remains of it
    variation: jax.Array  # of the gradient around the previous point


@factory
def _spec(name, norm, transforms):
    def init(example, hyperparameters):
        zero = jnp.zeros_like(example.image)
        return State(example.image, zero, zero, zero)

    def update(example, hyperparameters, state, view):
        step_size, decay = hyperparameters
        length = step_size.of(example)
        size = jnp.mean(jnp.abs(view.gradient))
        momentum = decay * state.momentum + view.gradient / jnp.where(size > 0, size, 1)
        direction = norm.steepest(momentum, example.blocked(momentum, state.point))
        point = example.project(norm, state.point + length * direction)
        variation = state.variation if view.extras is None else view.extras
        return State(point, momentum, length * decay * momentum, variation)

    return AttackSpec(name, init, update, transformed_query(transforms), norm=norm)


# ---------------------------------------------------------------- transforms of the gradient: query -> query


def transformed_query(transforms: Sequence[GradientTransform]) -> Query:
    """Compose gradient transforms from left to right.

    Only the gradient goes through them; value, logits and verdict are of the point itself, which costs one more pass.
    """
    query = query_gradient
    for transform in transforms:
        query = transform(query)
    if not transforms:
        return query

    def composed(oracle, loss, states, examples, hyperparameters, keys):
        plain = query_logits(oracle, loss, states, examples, hyperparameters, keys)
        view = query(oracle, loss, states, examples, hyperparameters, keys)
        gradient = view.gradient * (examples.upper > examples.lower)
        costs = {"queries": view.queries + 1, "backward_passes": view.backward_passes}
        return plain._replace(gradient=gradient, extras=view.extras, **costs)

    return composed


@factory
def nesterov() -> GradientTransform:
    """Take the gradient where the momentum alone would lead.

    Returns:
      A gradient transform for `mi_fgsm`.

    References:
      Lin et al. 2020, eq. 6.
    """

    def transform(query):
        def look_ahead(oracle, loss, states, examples, hyperparameters, keys):
            ahead = states._replace(point=states.point + states.coasting)
            return query(oracle, loss, ahead, examples, hyperparameters, keys)

        return look_ahead

    return transform


@factory
def variance_tuned(num_samples: int = 5, beta: float = 1.5) -> GradientTransform:
    """Correct the gradient by how it varied around the previous point.

    The correction is the mean of the gradients of points around, less the gradient there. The box does not cut these
    points off.

    Args:
      num_samples: points around the previous one.
      beta: how far away they are in each element, at most, in budgets.

    Returns:
      A gradient transform for `mi_fgsm`.

    References:
      Wang & He 2021, algorithm 1.
    """

    def transform(query):
        def tuned(oracle, loss, states, examples, hyperparameters, keys):
            view = query(oracle, loss, states, examples, hyperparameters, keys)

            def add(sample, total):
                sample_keys = jax.vmap(lambda key: jax.random.fold_in(key, sample))(keys)
                uniform = lambda key: draws.uniform(key, states.point.shape[1:], minval=-1.0)
                noise = jax.vmap(uniform)(sample_keys)
                radius = (beta * examples.epsilon).reshape(-1, *[1] * (noise.ndim - 1))
                near = states._replace(point=states.point + radius * noise)
                return total + query(oracle, loss, near, examples, hyperparameters, sample_keys).gradient

            mean = jax.lax.fori_loop(0, num_samples, add, jnp.zeros_like(view.gradient)) / num_samples
            return view._replace(
                gradient=view.gradient + states.variation,
                extras=mean - view.gradient,
                queries=(num_samples + 1) * view.queries,
                backward_passes=(num_samples + 1) * view.backward_passes,
            )

        return tuned

    return transform


@factory
def input_diversity(probability: float = 0.5, min_scale: float = 0.9) -> GradientTransform:
    """Take the gradient through images that are randomly shrunk and put on black, anew in each step.

    Args:
      probability: of an image to be shrunk.
      min_scale: smallest factor by which it is shrunk, at most 1.

    Returns:
      A gradient transform for `mi_fgsm`.

    References:
      Xie et al. 2019, section 3.2.
    """

    def transform(query):
        def diverse(oracle, loss, states, examples, hyperparameters, keys):
            def shrink(points, keys):
                return jax.vmap(lambda point, key: shrunk(key, point, probability, min_scale))(points, keys)

            model = oracle.model
            if isinstance(model, ExpectationOverTransformation):
                shrinking = model._replace(model=lambda points, key: model.model(shrink(points, key[None]), key))
            else:
                shrinking = lambda points: model(shrink(points, keys))
            return query(oracle._replace(model=shrinking), loss, states, examples, hyperparameters, keys)

        return diverse

    return transform


@factory
def translation_invariant(kernel_size: int = 15, num_sigmas: float = 3.0) -> GradientTransform:
    """Blur the gradient with a Gaussian: in effect, the mean gradient of shifted images.

    Args:
      kernel_size: side of the kernel in pixels, odd.
      num_sigmas: standard deviations from its middle to its ends.

    Returns:
      A gradient transform for `mi_fgsm`.

    Raises:
      ValueError: the kernel's side is even, so that it has no middle.

    References:
      Dong et al. 2019, eq. 7.
    """
    validation.check_counts(kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, for a kernel with a middle; found {kernel_size}: add 1")
    radius = kernel_size // 2

    def transform(query):
        def smooth(*arguments):
            view = query(*arguments)
            return view._replace(gradient=gaussian_blur(view.gradient, radius / num_sigmas, radius, edge="zero"))

        return smooth

    return transform


def shrunk(key: jax.Array, image: jax.Array, probability: float, min_scale: float) -> jax.Array:
    """Shrink an image [height, width, channels] by whole pixels onto black, with some probability."""
    choice_key, scale_key, place_key = jax.random.split(key, 3)
    sides = np.array(image.shape[:2], np.float32)
    inner = jnp.round(draws.uniform(scale_key, (), minval=min_scale) * sides)
    corner = jnp.floor(draws.uniform(place_key, (2,)) * (sides - inner + 1))
    small = jax.image.scale_and_translate(image, image.shape, (0, 1), inner / sides, corner, "linear", antialias=False)
    return jnp.where(draws.coin(choice_key, probability), small, image)
