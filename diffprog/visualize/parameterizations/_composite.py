"""Parameterizations made of other parameterizations."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.images._checks import check_array
from diffprog.images._filters import resize_linear
from diffprog.visualize.parameterizations._base import Parameterization, normal
from diffprog.visualize.parameterizations._colors import logits, matrix_of, mixed
from diffprog.visualize.parameterizations._fourier import fourier

NEARLY = 1e-6  # how near to black and white a decoded picture is taken


@factory
def shared(
    parameterization: Parameterization, factors: Sequence[int] = (2, 4, 8), *, deviation: float = 0.01
) -> Parameterization:
    """Add coarse parts that all pictures of a batch have in common, before the sigmoid.

    Pictures that are optimized together then agree in where things are and in their colors, and can be compared: units
    that interpolate, a direction and its opposite. A picture depends on the batch that it is drawn in.

    Args:
      parameterization: Each picture's own part.
      factors: A common part for each, as many times smaller than the pictures.
      deviation: Standard deviation of the random start of the common parts.

    Returns:
      A `Parameterization`.

    References:
      Mordvintsev et al. 2018, "Differentiable image parameterizations", section "Aligned feature visualization
      interpolation".
    """
    matrix = matrix_of(True, parameterization.channels)
    # A first axis of one: no part is taken for a row per picture.
    sizes = [
        (1, parameterization.channels, -(-parameterization.height // factor), -(-parameterization.width // factor))
        for factor in factors
    ]

    def parts(key):
        keys = jax.random.split(key, len(sizes))
        return [deviation * normal(k, size) for k, size in zip(keys, sizes, strict=True)]

    def start(keys):
        return {"own": parameterization.start(keys), "shared": parts(jax.random.fold_in(keys[0], 1))}

    def decode(parameters):
        size = parameterization.channels, parameterization.height, parameterization.width
        common = sum(resize_linear(part[0], size) for part in parameters["shared"])
        return jax.nn.sigmoid(logits(parameterization.decode(parameters["own"]), NEARLY) + mixed(common, matrix)[None])

    def encode(images):
        return {"own": parameterization.encode(images), "shared": [jnp.zeros(size, jnp.float32) for size in sizes]}

    return Parameterization(
        parameterization.height,
        parameterization.width,
        parameterization.channels,
        start,
        decode,
        parameterization.encode and encode,
    )


@factory
def alpha(parameterization: Parameterization) -> Parameterization:
    """Add an alpha channel, written in frequencies: how opaque the picture is, from 0 to 1.

    Transform the picture by a chain that begins with `blend()`, which puts it before random backgrounds. Only what the
    unit needs stays opaque if the objective also asks for little opacity. Encoding takes images with that channel.

    Args:
      parameterization: How the picture is written.

    Returns:
      A `Parameterization` with one channel more.

    References:
      Mordvintsev et al. 2018, "Differentiable image parameterizations".
    """
    opacity = fourier(parameterization.height, parameterization.width, channels=1)

    def start(keys):
        pairs = jax.vmap(jax.random.split)(keys)
        return {"picture": parameterization.start(pairs[:, 0]), "alpha": opacity.start(pairs[:, 1])}

    def decode(parameters):
        return jnp.concatenate(
            [parameterization.decode(parameters["picture"]), opacity.decode(parameters["alpha"])], axis=-1
        )

    def encode(images):
        return {"picture": parameterization.encode(images[..., :-1]), "alpha": opacity.encode(images[..., -1:])}

    return Parameterization(
        parameterization.height,
        parameterization.width,
        parameterization.channels + 1,
        start,
        decode,
        parameterization.encode and encode,
    )


@factory
def masked(parameterization: Parameterization, mask: ArrayLike, photograph: ArrayLike) -> Parameterization:
    """Change a photograph only where a mask is 1; between 0 and 1, picture and photograph are mixed.

    Encoding takes the picture that is to stand in the mask.

    Args:
      parameterization: How the picture is written.
      mask: Array (height, width) in [0, 1].
      photograph: Array (height, width, channels) in [0, 1].

    Returns:
      A `Parameterization`.

    Raises:
      ValueError: A shape or a range is another.
    """
    mask = check_array(mask, ((parameterization.height, parameterization.width),), "the mask")
    photograph = check_array(photograph, (parameterization.shape,), "the photograph")
    share = mask[None, ..., None]
    background = (1 - share) * photograph[None]
    decode = lambda parameters: share * parameterization.decode(parameters) + background
    return Parameterization(
        parameterization.height,
        parameterization.width,
        parameterization.channels,
        parameterization.start,
        decode,
        parameterization.encode,
    )
