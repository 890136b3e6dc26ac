"""What photographs have in common: how strong each frequency is in them, and how their colours vary together.

    python -m diffprog.visualize.parameterisations.spectrum FOLDER [--out natural.npz]

measures the photographs of a folder; `natural()` is what it measured for those that `natural.txt` lists.
"""

import argparse
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffprog import images as files
from diffprog.files import replacing
from diffprog.visualize.parameterisations.colours import MARGIN, checked, covariance_of, matrix_of
from diffprog.visualize.parameterisations.fourier import at_least_lowest, frequencies

CROP = 256  # pixels: the side of the squares whose spectra are averaged
GRID = CROP // 2  # a spectrum is kept at half of their resolution
STORED = Path(__file__).with_name("natural.npz")


class Natural(NamedTuple):
    """spectrum: as `spectrum_of` gives it. slope: d log(magnitude) / d log(frequency) of luminance, as `slope_of`.
    covariance: (3, 3), of the colours in [0, 1] of all pixels, about each image's own mean."""

    spectrum: np.ndarray
    slope: float
    covariance: np.ndarray


@lru_cache
def natural():
    """The statistics of the photographs that `natural.txt`, beside this file, lists with their licences."""
    with np.load(STORED, allow_pickle=False) as file:
        return Natural(file["spectrum"].astype(np.float32), float(file["slope"]), file["covariance"])


def spectrum_of(images, colours=True):
    """How strong each frequency is in `images`, for `maco`: float32 (3, 128, 65).

    images: arrays (height, width, 3) in [0, 1], of at least 256 pixels each way; every one counts the same.
    Row k and column l belong to the frequency (k, l) / 128 cycles per pixel (rows beyond 63 to k - 128), in the
    independent colours of the argument `colours` of `maco`. The value is the mean magnitude (of an orthonormal Fourier
    transform of logits, under a window) times the frequency: nearly flat in photographs, and thus easily interpolated.
    """
    matrix = np.linalg.inv(matrix_of(colours, 3).astype(np.float64))
    flat = np.mean([_magnitudes_of(image, matrix) for image in checked(images)], axis=0) * _full_frequencies()
    flat[:, 0, 0] = (flat[:, 0, 1] + flat[:, 1, 0]) / 2  # the windowed crops have no mean
    for axis in (1, 2):
        flat = (np.roll(flat, 1, axis) + 2 * flat + np.roll(flat, -1, axis)) / 4
    return flat[:, ::2, : CROP // 2 + 1 : 2].astype(np.float32)


def slope_of(images):
    """The slope of log(magnitude) against log(frequency) in the luminance of `images`, about -1 in photographs.

    images: as for `spectrum_of`. The line is fitted by least squares to frequencies of 0.02 to 0.4 cycles per pixel.
    """
    luminance = np.diag([1.0, 0, 0]) @ np.linalg.inv(matrix_of(True, 3).astype(np.float64))
    magnitude = np.mean([_magnitudes_of(image, luminance)[0] for image in checked(images)], axis=0)
    frequency = _full_frequencies()
    band = (frequency > 0.02) & (frequency < 0.4)
    return float(np.polyfit(np.log(frequency[band]), np.log(magnitude[band]), 1)[0])


def magnitudes(spectrum, height, width):
    """A spectrum as magnitudes (3, height, width // 2 + 1) for `irfft2` with norm="ortho", at any size."""
    if np.shape(spectrum) != (3, GRID, GRID // 2 + 1):
        found, expected = np.shape(spectrum), (3, GRID, GRID // 2 + 1)
        raise ValueError(f"a spectrum has shape {expected}; found {found}: make one by spectrum_of")
    row, above = _neighbours(np.fft.fftfreq(height) * GRID)
    column, right = _neighbours(np.fft.rfftfreq(width) * GRID)
    at = lambda rows, columns: spectrum[:, (rows % GRID)[:, None], np.minimum(columns, GRID // 2)[None]]
    low = at(row, column) * (1 - right) + at(row, column + 1) * right
    high = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right
    flat = low * (1 - above)[:, None] + high * above[:, None]
    return (flat / at_least_lowest(frequencies(height, width), height, width)).astype(np.float32)


def _neighbours(position):
    below = np.floor(position).astype(int)
    return below, position - below


def _full_frequencies():
    frequency = np.fft.fftfreq(CROP)
    return at_least_lowest(np.hypot(frequency[:, None], frequency[None]), CROP, CROP)


def _magnitudes_of(image, unmix):
    """The mean over overlapping crops of the magnitudes of independent colours: (3, CROP, CROP)."""
    image = np.clip(np.asarray(image, np.float64), MARGIN, 1 - MARGIN)
    if image.shape[-1] != 3 or min(image.shape[:2]) < CROP:
        raise ValueError(f"images must be (height, width, 3), of {CROP} pixels or more; found {image.shape}")
    colours = (np.log(image) - np.log1p(-image)) @ unmix.T
    window = np.hanning(CROP + 1)[:-1, None] * np.hanning(CROP + 1)[None, :-1]
    window = (window / np.sqrt(np.mean(window**2)))[..., None]
    places = [np.linspace(0, side - CROP, -(-2 * side // CROP) - 1).astype(int) for side in image.shape[:2]]
    crops = [colours[top : top + CROP, left : left + CROP] for top in places[0] for left in places[1]]
    centred = [crop - np.average(crop, (0, 1), np.broadcast_to(window, crop.shape)) for crop in crops]
    spectra = [np.abs(np.fft.fft2(crop * window, axes=(0, 1), norm="ortho")) for crop in centred]
    return np.moveaxis(np.mean(spectra, axis=0), -1, 0)


def main():
    parser = argparse.ArgumentParser(description="Measure what the photographs of a folder have in common.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=384, help="pixels, to which the shorter side is reduced first")
    parser.add_argument("--out", type=Path, default=Path("natural.npz"))
    options = parser.parse_args()
    paths = sorted(options.folder.iterdir())
    images = [files.resize_short_side(files.read_image(path), options.side) for path in paths]
    spectrum, slope, covariance = spectrum_of(images), slope_of(images), covariance_of(images)
    with replacing(options.out) as file:
        np.savez_compressed(file, spectrum=spectrum.astype(np.float16), slope=slope, covariance=covariance)
    print(f"{len(images)} photographs; slope {slope:.3f}; covariance of colours\n{covariance.round(4)}")


if __name__ == "__main__":
    main()
