"""Statistics of photographs: how strong each frequency is in them, and how their colors vary together.

Measure a folder of photographs as `natural.npz` was made of those that `natural.txt` lists:

    python -m diffprog.visualize.parameterizations._natural_statistics FOLDER --out natural.npz
"""

import argparse
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from diffprog import images as files
from diffprog._util.files import replacing
from diffprog.visualize.parameterizations._colors import MARGIN, check_list, colors_of, covariance_of, matrix_of
from diffprog.visualize.parameterizations._fourier import at_least_lowest, frequencies

CROP = 256  # pixels: the side of the squares whose spectra are averaged
GRID = CROP // 2  # a spectrum is kept at half of their resolution
RINGS = np.arange(91) / GRID  # cycles per pixel, to the corner at sqrt(0.5)
STORED = Path(__file__).with_name("natural.npz")


class Natural(NamedTuple):
    """What photographs have in common.

    Attributes:
      spectrum: Strength of the frequencies, as `spectrum_of` gives it.
      slope: d log(magnitude) / d log(frequency) of luminance, as `slope_of` gives it.
      covariance: (3, 3), of the colors in [0, 1] of all pixels, about each image's own mean.
    """

    spectrum: np.ndarray
    slope: float
    covariance: np.ndarray


@lru_cache
def natural() -> Natural:
    """Load the statistics of the photographs that `natural.txt`, beside this file, lists with their licenses.

    Returns:
      A `Natural`.
    """
    with np.load(STORED, allow_pickle=False) as file:
        return Natural(file["spectrum"], float(file["slope"]), file["covariance"])


def spectrum_of(images: Sequence[np.ndarray], colors: bool | ArrayLike = True) -> np.ndarray:
    """Measure how strong the frequencies are in images, for `maco`.

    A value is the mean magnitude (of an orthonormal Fourier transform of logits, under a window) times the frequency:
    nearly flat in photographs, and thus well interpolated. It is averaged over directions. Photographs have more
    horizontals and verticals than slanting edges, but in a picture that is forced to have them, they weave a tartan.

    Args:
      images: Arrays (height, width, 3) in [0, 1], of at least 256 pixels each way. Every image counts the same.
      colors: The argument that `maco` will get.

    Returns:
      float32 array (3, 91): for each independent color, column k belongs to k / 128 cycles per pixel.
    """
    matrix = np.linalg.inv(matrix_of(colors, 3).astype(np.float64))
    magnitude = np.mean([_magnitudes_of(image, matrix) for image in check_list(images)], axis=0)
    frequency = _frequencies()
    rings = [np.abs(frequency - ring) <= 1 / GRID for ring in RINGS]
    rings = [ring & (frequency > 0) for ring in rings]  # the windowed crops have no mean
    return np.stack([(magnitude * frequency)[:, ring].mean(axis=1) for ring in rings], axis=1).astype(np.float32)


def slope_of(images: Sequence[np.ndarray]) -> float:
    """Fit the slope of log(magnitude) against log(frequency) in the luminance of images, about -1 in photographs.

    The line is fitted by least squares to frequencies of 0.02 to 0.4 cycles per pixel.

    Args:
      images: Arrays (height, width, 3) in [0, 1], of at least 256 pixels each way.

    Returns:
      The slope.
    """
    luminance = np.linalg.inv(matrix_of(True, 3).astype(np.float64))[:1]
    magnitude = np.mean([_magnitudes_of(image, luminance)[0] for image in check_list(images)], axis=0)
    frequency = _frequencies()
    band = (frequency > 0.02) & (frequency < 0.4)
    return float(np.polyfit(np.log(frequency[band]), np.log(magnitude[band]), 1)[0])


def magnitudes(spectrum: ArrayLike, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Turn a spectrum into magnitudes (channels, height, width // 2 + 1) for `irfft2` with norm="ortho", at any size.

    The constant term has the magnitude of the lowest frequency.

    Raises:
      ValueError: The spectrum has another shape.
    """
    if np.shape(spectrum) != (channels, len(RINGS)):
        raise ValueError(
            f"a spectrum has shape {(channels, len(RINGS))}; found {np.shape(spectrum)}: make one by spectrum_of"
        )
    frequency = at_least_lowest(frequencies(height, width), height, width)
    return (np.stack([np.interp(frequency, RINGS, row) for row in np.asarray(spectrum)]) / frequency).astype(np.float32)


def _frequencies():
    return np.hypot(np.fft.fftfreq(CROP)[:, None], np.fft.fftfreq(CROP)[None])


def _magnitudes_of(image, unmix):
    """Average the magnitudes of independent colors over overlapping crops: (c, CROP, CROP)."""
    image = np.clip(np.asarray(image, np.float64), MARGIN, 1 - MARGIN)
    if image.shape[-1] != 3 or min(image.shape[:2]) < CROP:
        raise ValueError(f"images must be (height, width, 3), of {CROP} pixels or more; found {image.shape}")
    colors = (np.log(image) - np.log1p(-image)) @ unmix.T
    window = np.hanning(CROP + 1)[:-1, None] * np.hanning(CROP + 1)[None, :-1]
    window = (window / np.sqrt(np.mean(window**2)))[..., None]
    places = [np.linspace(0, side - CROP, -(-2 * side // CROP) - 1).astype(int) for side in image.shape[:2]]
    crops = [colors[top : top + CROP, left : left + CROP] for top in places[0] for left in places[1]]
    centered = [crop - np.average(crop, (0, 1), np.broadcast_to(window, crop.shape)) for crop in crops]
    spectra = [np.abs(np.fft.fft2(crop * window, axes=(0, 1), norm="ortho")) for crop in centered]
    return np.moveaxis(np.mean(spectra, axis=0), -1, 0)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure what the photographs of a folder have in common.")
    parser.add_argument("folder", type=Path, help="of image files, and nothing else")
    parser.add_argument("--side", type=int, default=384, help="pixels, to which the shorter side is reduced first")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .npz")
    options = parser.parse_args()
    paths = sorted(options.folder.iterdir())
    images = [files.resize_short_side(files.read_image(path), options.side) for path in paths]
    slope, covariance = slope_of(images), covariance_of(images)
    with replacing(options.out) as file:
        np.savez_compressed(file, spectrum=spectrum_of(images), slope=slope, covariance=covariance)
    print(f"{len(images)} photographs; slope of the spectrum {slope:.3f}")
    print(f"colors\n{colors_of(images).round(2)}\ncovariance of colors\n{covariance.round(4)}")


if __name__ == "__main__":
    main()
