"""What can be said of a picture from its pixels alone: its spectrum and its colors."""

import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # the weights of ITU-R BT.709, on the values as they are stored


def spectral_slope(image):
    """The exponent a of the law amplitude ~ frequency ** a that fits the picture's luminance best.

    image: (height, width, 3), or one channel (height, width). Natural photographs have slopes around -1 (Field 1987);
    measure your own with this function to compare. A straight line is fitted to the logarithm of the root mean square
    amplitude in octaves, from 0.5 cycles per pixel down to 4 cycles per picture (below, the window is felt). nan for a
    picture without contrast, or with a side of less than 32 pixels.
    """
    frequency, power = _spectrum(image)
    octaves = int(np.log2(0.5 * min(np.shape(image)[:2]) / 4))
    octave = np.floor(np.log2(0.5 / np.where(frequency > 0, frequency, 1e-9)))
    rings = [(octave == number) for number in range(octaves)]
    energy = np.array([power[ring].mean() for ring in rings])
    if octaves < 2 or not np.all(energy > 0):
        return float("nan")
    middle = [np.log(frequency[ring]).mean() for ring in rings]
    return float(np.polyfit(middle, np.log(energy) / 2, 1)[0])


def high_frequency_share(image, above=0.25):
    """The part of the luminance's energy, its mean aside, at more than `above` cycles per pixel; nan without contrast.

    White noise has 0.80 of it there, a photograph a hundredth or so.
    """
    frequency, power = _spectrum(image)
    total = power.sum()
    return float(power[frequency > above].sum() / total) if total > 0 else float("nan")


def _spectrum(image):
    """Frequencies in cycles per pixel and the power at each, of the luminance under a Hann window."""
    image = np.asarray(image, np.float64)
    gray = image @ LUMINANCE if image.ndim == 3 else image
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in gray.shape))
    gray = gray - np.sum(gray * window) / np.sum(window)  # so that the window does not spread the mean
    frequency = np.hypot(np.fft.fftfreq(gray.shape[0])[:, None], np.fft.fftfreq(gray.shape[1])[None])
    power = np.abs(np.fft.fft2(gray * window)) ** 2
    return frequency, power if np.ptp(gray) > 1e-6 else np.zeros_like(power)  # what a flat picture has is rounding


def color_distance(first, second):
    """The Fréchet distance between the colors of two sets of images, in units of [0, 1].

    Each set's pixels (..., 3) are summed up by their mean m and covariance C; the distance is the root of
    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982). 0 for equal means and covariances.
    """
    (m1, c1), (m2, c2) = map(_colors, (first, second))
    root = _root(c1)
    squared = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * _root(root @ c2 @ root))
    return float(np.sqrt(max(squared, 0.0)))


def _colors(images):
    pixels = np.asarray(images, np.float64).reshape(-1, 3)
    return pixels.mean(axis=0), np.cov(pixels, rowvar=False, bias=True)


def _root(matrix):
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
