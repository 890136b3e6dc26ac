"""Pictures of which only the phase is free."""

import jax
import jax.numpy as jnp
import numpy as np

from diffprog._util.factory import factory
from diffprog.visualize.parameterizations._base import each
from diffprog.visualize.parameterizations._colors import from_image, matrix_of, to_image
from diffprog.visualize.parameterizations._fourier import planes_of
from diffprog.visualize.parameterizations._natural_statistics import magnitudes, natural


@factory
def maco(height, width=None, *, colors=True, spectrum=None):
    """Magnitude-constrained pictures (Fel et al. 2023, "Unlocking feature visualization for deeper networks with
    magnitude constrained optimization"): every frequency has the strength that it has in photographs, for good, and
    only where its wave lies, its phase, is optimized. Fine noise cannot take over, whatever the steps.

    spectrum: of the magnitudes, from `spectrum_of`; that of `natural()` unless given. colors: as for `fourier`, and as
    given to `spectrum_of`. Three channels.

    As published: the magnitudes are those of photographs in decorrelated colors, a sigmoid follows, and steps are long
    (Nadam with a rate of 1). Other than in the authors' code: phases start uniform on the circle, not normal; the
    magnitudes are the same in all directions, and in the units of what goes into the sigmoid, so that the picture need
    not be standardized to have the contrast of photographs; and waves along the columns, whose coefficients come in
    pairs, are given one phase each, so that their magnitude, too, is exact. (A constant's phase is a sign: there the
    cosine stands.)

    Encoding keeps a photograph's phases and gives it the magnitudes.
    """
    width, matrix = width or height, matrix_of(colors, 3)
    strengths = magnitudes(natural().spectrum if spectrum is None else spectrum, height, width)
    opposite = -np.arange(height) % height  # the row of the wave that runs the other way
    paired = np.zeros(strengths.shape[1:], bool)  # determined by another coefficient: the image is real
    paired[:, [0, -1] if width % 2 == 0 else [0]] = (np.arange(height) > opposite)[:, None]

    def decode(phase):
        phase = jnp.where(paired, -phase[:, opposite], phase)
        waves = jax.lax.complex(strengths * jnp.cos(phase), strengths * jnp.sin(phase))
        return to_image(planes_of(waves, height, width), matrix)

    def encode(image):
        return jnp.angle(jnp.fft.rfft2(from_image(image, matrix)))

    start = lambda key: jax.random.uniform(key, strengths.shape, minval=-np.pi, maxval=np.pi)
    return each(height, width, 3, start, decode, encode)
