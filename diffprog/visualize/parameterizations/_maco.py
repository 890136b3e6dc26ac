"""Pictures of which only the phase is free."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import Parameterization, from_single
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image
from diffprog.visualize.parameterizations._fourier import planes_of
from diffprog.visualize.parameterizations._natural_statistics import magnitudes, natural


@factory
def maco(
    height: int,
    width: int | None = None,
    *,
    channels: int = 3,
    colors: bool | ArrayLike = True,
    spectrum: ArrayLike | None = None,
) -> Parameterization:
    """Write pictures whose magnitudes are fixed: only the phase of each wave is free.

    Every frequency has the strength that it has in photographs, so that fine noise cannot take over. As published, the
    magnitudes are of decorrelated colors, a sigmoid follows, and steps are long (Nadam at a learning rate of 1).

    Deviations from the authors' code: Phases start uniform on the circle, not normal. Magnitudes are equal in all
    directions and in the units of the sigmoid's argument, so that a picture has the contrast of photographs without
    being standardized. Waves along the columns, whose coefficients come in pairs, have one phase per pair, so that
    their magnitude is exact, too. (A constant's phase is a sign: there the cosine stands.)

    Encoding keeps a photograph's phases and gives it the magnitudes.

    Args:
      height: Height of the pictures in pixels.
      width: Width of the pictures in pixels; the height by default.
      channels: Number of channels. Where it is not 3, each has the magnitudes of the first independent color, which
        is brightness, unless there is a spectrum for each.
      colors: As for `fourier`, and as given to `spectrum_of`.
      spectrum: Magnitudes from `spectrum_of`; `natural().spectrum` by default.

    Returns:
      A `Parameterization`.

    References:
      Fel et al. 2023, "Unlocking feature visualization for deeper networks with magnitude constrained optimization".
    """
    width, matrix = width or height, matrix_of(colors, channels)
    if spectrum is None:
        spectrum = natural().spectrum if channels == 3 else np.repeat(natural().spectrum[:1], channels, axis=0)
    strengths = magnitudes(spectrum, height, width, channels)
    opposite = -np.arange(height, dtype=np.int32) % height  # the row of the wave that runs the other way
    paired = np.zeros(strengths.shape[1:], bool)  # determined by another coefficient: the image is real
    paired[:, [0, -1] if width % 2 == 0 else [0]] = (np.arange(height) > opposite)[:, None]

    def decode(phase):
        phase = jnp.where(paired, -phase[:, opposite], phase)
        waves = jax.lax.complex(strengths * jnp.cos(phase), strengths * jnp.sin(phase))
        return to_image(planes_of(waves, height, width), matrix)

    def encode(image):
        return jnp.angle(jnp.fft.rfft2(from_image(image, matrix)))

    start = lambda key: jax.random.uniform(key, strengths.shape, jnp.float32, -np.pi, np.pi)
    return from_single(height, width, channels, start, decode, encode)
