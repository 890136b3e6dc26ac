"""Penalties: what a picture should have little of, to be subtracted from an objective.

`channel("blocks.5", 11) - 0.1 * total_variation()`. Each measures what it says and is never negative.
"""

from functools import cache

import jax
import jax.numpy as jnp

from diffprog.images._filters import gaussian_blur
from diffprog.visualize.objectives._base import PICTURE, Objective, of_term
from diffprog.visualize.objectives._units import over_positions

__all__ = ["boundary_complexity", "fine_detail", "l1", "l2", "opacity", "total_variation"]


def total_variation() -> Objective:
    """Measure the mean absolute difference of neighboring pixels, down plus across.

    Returns:
      An `Objective`, to be subtracted.

    References:
      Rudin et al. 1992; the anisotropic form.
    """
    return of_term("total variation", (PICTURE,), _total_variation)


def _total_variation(values):
    image = values[PICTURE]
    across = jnp.abs(jnp.diff(image, axis=2))
    down = jnp.abs(jnp.diff(image, axis=1))
    return over_positions(down) + over_positions(across)


def l1(constant: float = 0.5) -> Objective:
    """Measure the mean absolute distance of the picture's values from a constant.

    Args:
      constant: A value in [0, 1].

    Returns:
      An `Objective`, to be subtracted.
    """
    return of_term(f"L1 from {constant:g}", (PICTURE,), _l1_from(float(constant)))


@cache
def _l1_from(constant):
    return lambda values: over_positions(jnp.abs(values[PICTURE] - constant))


def l2(constant: float = 0.5) -> Objective:
    """Measure the root mean square distance of the picture's values from a constant.

    Args:
      constant: A value in [0, 1].

    Returns:
      An `Objective`, to be subtracted.
    """
    return of_term(f"L2 from {constant:g}", (PICTURE,), _l2_from(float(constant)))


@cache
def _l2_from(constant):
    return lambda values: jnp.sqrt(over_positions((values[PICTURE] - constant) ** 2) + 1e-12)


def fine_detail(deviation: float = 1.0) -> Objective:
    """Measure fine detail: the mean square difference between the picture and its Gaussian blur.

    This is Lucid's blur penalty: what a blur removes is penalized, and what it leaves is not.

    Args:
      deviation: The Gaussian's standard deviation in pixels.

    Returns:
      An `Objective`, to be subtracted.
    """
    if not deviation > 0:
        raise ValueError(f"a blur has a deviation above 0 pixels; found {deviation}")
    return of_term("fine detail", (PICTURE,), _fine_detail_of(float(deviation)))


@cache
def _fine_detail_of(deviation):
    def measure(values):
        image = values[PICTURE]
        # The blurred picture is what to move towards, not a way to make the difference small.
        smooth = jax.lax.stop_gradient(gaussian_blur(image, deviation, max(1, round(3 * deviation))))
        return over_positions((image - smooth) ** 2)

    return measure


def boundary_complexity(width: int = 20, color: float = 0.5, weight: float = 0.8) -> Objective:
    """Measure what happens near the picture's edge: variation there, and distance from a color.

    The mean over the border of (picture - blurred picture)^2 + weight * (picture - color)^2. Lucid's
    `penalize_boundary_complexity` sums and blurs with a box of 5 pixels; here a Gaussian of 1.5 pixels blurs.

    Args:
      width: Width of the border in pixels.
      color: A value in [0, 1].
      weight: Weight of the distance from the color.

    Returns:
      An `Objective`, to be subtracted.
    """
    if not (isinstance(width, int) and width >= 1):
        raise ValueError(f"a border is 1 pixel wide or more; found {width}")
    return of_term("boundary complexity", (PICTURE,), _boundary_of(width, float(color), float(weight)))


@cache
def _boundary_of(width, color, weight):
    def measure(values):
        image = values[PICTURE]
        height, breadth = image.shape[1:3]
        rows, columns = jnp.arange(height)[:, None], jnp.arange(breadth)[None]
        inside = (rows >= width) & (rows < height - width) & (columns >= width) & (columns < breadth - width)
        border = 1 - inside[None, :, :, None]
        complexity = (image - gaussian_blur(image, 1.5, 4)) ** 2 + weight * (image - color) ** 2
        return jnp.sum(complexity * border, axis=(1, 2, 3)) / (jnp.sum(border) * image.shape[-1])

    return measure


def opacity() -> Objective:
    """Measure the mean of a picture's fourth channel: subtract it, and only what matters stays visible.

    Returns:
      An `Objective`, to be subtracted, for pictures in `parameterizations.alpha`.
    """

    def arguments(model, shapes):
        if shapes[PICTURE][-1] != 4:
            raise ValueError(f"opacity needs pictures with a fourth channel; found {shapes[PICTURE][-1]} channels")
        return ()

    return of_term("opacity", (PICTURE,), _opacity, arguments)


def _opacity(values):
    return over_positions(values[PICTURE][..., 3])
