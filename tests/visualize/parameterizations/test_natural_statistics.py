"""Statistics of photographs, measured on pictures that were made with them."""

import numpy as np
import pytest

from diffprog.images import save_png
from diffprog.visualize.parameterizations import COLORS, covariance_of, natural, slope_of, spectrum_of
from diffprog.visualize.parameterizations import _natural_statistics as natural_statistics
from diffprog.visualize.parameterizations._fourier import frequencies
from diffprog.visualize.parameterizations._natural_statistics import magnitudes


def random(seed=0):
    return np.random.default_rng(seed)


def waves(slope, mixing, seed, side=300):
    """A picture of random phases, whose logits have that spectrum."""
    noise = np.fft.fft2(random(seed).normal(size=(3, side, side)), norm="ortho")
    frequency = np.maximum(np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)), 1 / side)
    planes = np.fft.ifft2(noise * 0.02 * frequency**slope, norm="ortho").real
    return 1 / (1 + np.exp(-np.einsum("dc,chw->hwd", mixing, planes)))


def test_the_spectrum_of_pictures_is_measured():
    """Pictures made with a spectrum, in given colors, give it back, at any size that is asked for."""
    mixing = np.array([[1, 0.5, 0], [1, 0, 0.3], [1, -0.5, 0]], np.float32)
    images = [waves(-1.2, mixing, seed) for seed in range(4)]
    spectrum = spectrum_of(images, colors=mixing)
    for height, width in ((40, 60), (128, 128), (301, 200)):
        frequency = frequencies(height, width)
        band = (frequency > 0.08) & (frequency < 0.45)
        # the mean magnitude of a complex normal deviate of unit variance is sqrt(pi / 4)
        expected = 0.02 * frequency[band] ** -1.2 * np.sqrt(np.pi / 4)
        np.testing.assert_allclose(magnitudes(spectrum, height, width)[:, band] / expected[None], 1, rtol=0.06)
    assert slope_of(images) == pytest.approx(-1.2, abs=0.03)


def test_a_folder_is_measured(tmp_path, monkeypatch):
    pictures = [waves(-1.5, np.eye(3), seed, 256) for seed in range(2)]
    for number, picture in enumerate(pictures):
        save_png(tmp_path / "photographs" / f"{number}.png", picture)
    monkeypatch.setattr("sys.argv", f"measure {tmp_path}/photographs --side 256 --out {tmp_path}/out.npz".split())
    natural_statistics.main()
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["spectrum"], spectrum_of(pictures), rtol=0.05)
        np.testing.assert_allclose(found["covariance"], covariance_of(pictures), atol=1e-4)
        assert found["slope"] == pytest.approx(slope_of(pictures), abs=0.05)


def test_what_was_measured_of_photographs():
    """Within what is published of photographs: slopes near -1 (Field 1987), brightness the strongest color."""
    assert -1.5 < natural().slope < -0.9
    spectrum = natural().spectrum
    assert spectrum.shape == (3, 91) and np.all(spectrum > 0)
    variances, axes = np.linalg.eigh(natural().covariance)
    assert variances[-1] > 0.8 * variances.sum()
    assert abs(axes[:, -1] @ COLORS[:, 0]) / np.linalg.norm(COLORS[:, 0]) > 0.999
