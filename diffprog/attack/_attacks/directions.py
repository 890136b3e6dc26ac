"""Gradients that transfer: what replaces the plain gradient in attacks meant for networks that cannot be asked.

Each part is a value, made once for equal arguments, and changes how the gradient is looked at: `part(look) -> look`.
They compose from left to right: `(varied(), smoothed())` smooths the varied gradient.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from diffprog.attack._engine.method import ExpectationOverTransformation
from diffprog.attack._engine.queries import by_gradient, by_logits
from diffprog.images._filters import gaussian_blur


def composed(gradient_transforms):
    """The look that an attack with these parts takes: the gradient is theirs; the value, the logits and the verdict are
    of the point itself, which costs one more pass."""
    look = by_gradient
    for part in gradient_transforms:
        look = part(look)
    if not gradient_transforms:
        return look

    def composed_look(oracle, loss, states, examples, given, keys):
        plain = by_logits(oracle, loss, states, examples, given, keys)
        view = look(oracle, loss, states, examples, given, keys)
        gradient = view.gradient * (examples.upper > examples.lower)
        return plain._replace(gradient=gradient, extra=view.extra, queries=view.queries + 1, gradients=view.gradients)

    return composed_look


@lru_cache
def nesterov():
    """The gradient where the momentum alone would lead (Nesterov: Lin et al. 2020, eq. 6)."""

    def part(look):
        def ahead_look(oracle, loss, states, examples, given, keys):
            return look(oracle, loss, states._replace(point=states.point + states.coasting), examples, given, keys)

        return ahead_look

    return part


@lru_cache
def variance_tuned(num_samples=5, beta=1.5):
    """The gradient corrected by how it varied around the point before (Wang & He 2021, algorithm 1): by the mean of the
    gradients of `samples` points around that one, less the gradient there. They are up to `reach` budgets away in each
    element, and not cut off by the box."""

    def part(look):
        def varied_look(oracle, loss, states, examples, given, keys):
            view = look(oracle, loss, states, examples, given, keys)

            def gather(number, total):
                drawn = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
                noise = jax.vmap(lambda key: jax.random.uniform(key, states.point.shape[1:], minval=-1.0))(drawn)
                far = (beta * examples.epsilon).reshape(-1, *[1] * (noise.ndim - 1))
                near = states._replace(point=states.point + far * noise)
                return total + look(oracle, loss, near, examples, given, drawn).gradient

            mean = jax.lax.fori_loop(0, num_samples, gather, jnp.zeros_like(view.gradient)) / num_samples
            return view._replace(
                gradient=view.gradient + states.variation,
                extra=mean - view.gradient,
                queries=(num_samples + 1) * view.queries,
                gradients=(num_samples + 1) * view.gradients,
            )

        return varied_look

    return part


@lru_cache
def input_diversity(probability=0.5, min_scale=0.9):
    """The gradient through a picture that is sometimes, with this probability, made smaller by a random factor down to
    `resize` and put on black at a random place (Xie et al. 2019, section 3.2), for each image and step anew."""

    def part(look):
        def diverse_look(oracle, loss, states, examples, given, keys):
            def shake(points, keys):
                return jax.vmap(lambda point, key: shrunk(key, point, probability, min_scale))(points, keys)

            model = oracle.model
            if isinstance(model, ExpectationOverTransformation):
                shaken = model._replace(model=lambda points, key: model.model(shake(points, key[None]), key))
            else:
                shaken = lambda points: model(shake(points, keys))
            return look(oracle._replace(model=shaken), loss, states, examples, given, keys)

        return diverse_look

    return part


@lru_cache
def translation_invariant(kernel_size=15, num_sigmas=3.0):
    """The gradient blurred by a Gaussian of `size` by `size` pixels, which end `sigmas` standard deviations from the
    middle (Dong et al. 2019, eq. 7): in effect, the mean gradient of shifted pictures."""
    radius = kernel_size // 2

    def part(look):
        def smoothed_look(*question):
            view = look(*question)
            return view._replace(gradient=gaussian_blur(view.gradient, radius / num_sigmas, radius, edge="zero"))

        return smoothed_look

    return part


def shrunk(key, picture, probability, min_scale):
    """A picture [height, width, channels] made smaller by a whole number of pixels, and put on black, or as it was."""
    whether, how, where = jax.random.split(key, 3)
    sides = np.array(picture.shape[:2], np.float32)
    scale = jax.random.uniform(how, (), minval=min_scale)
    inner = jnp.round(scale * sides)
    corner = jnp.floor(jax.random.uniform(where, (2,)) * (sides - inner + 1))
    changed = jax.image.scale_and_translate(
        picture, picture.shape, (0, 1), inner / sides, corner, "linear", antialias=False
    )
    return jnp.where(jax.random.bernoulli(whether, probability), changed, picture)
