"""What the gradient goes through, so that what it leads to succeeds on other networks too: from query to query."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util import draws
from diffprog._util.factory import factory
from diffprog.attack._engine import validation
from diffprog.attack._engine.oracle import ExpectationOverTransformation, query_gradient, query_logits
from diffprog.images._filters import gaussian_blur

Query = Callable[..., Any]
GradientTransform = Callable[[Query], Query]


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
