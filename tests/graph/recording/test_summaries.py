"""Arrays in a few numbers, against NumPy."""

import numpy as np
import pytest

from diffprog.graph._recording.summaries import summarize


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histograms_count_as_numpy_does_and_take_neighboring_numbers(dtype):
    array = np.random.default_rng(0).normal(size=1000).astype(dtype)
    np.testing.assert_array_equal(summarize(array).histogram, np.histogram(array.astype(np.float64), 24)[0])
    neighbors = np.array([1, np.nextafter(dtype(1), dtype(2))], dtype)
    assert sum(summarize(neighbors).histogram) == 2
    assert sum(summarize(np.array([-np.finfo(dtype).max, np.finfo(dtype).max])).histogram) == 2
