import numpy as np
import pytest

from diffprog.fit import load_mnist1d


def test_is_as_the_authors_set():
    """Held against what their program makes with its own settings and seed: other draws of the same distribution."""
    train, test = load_mnist1d()
    assert train.inputs.shape == (4000, 40) and test.inputs.shape == (1000, 40)
    inputs, labels = (np.concatenate(pair) for pair in zip(train, test, strict=True))
    np.testing.assert_array_equal(np.bincount(labels), [500] * 10)
    np.testing.assert_allclose([inputs.mean(), inputs.std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(
        np.percentile(train.inputs, [1, 10, 50, 90, 99]), [-2.77, -1.17, 0.01, 1.14, 2.75], atol=0.05
    )
    assert np.abs(np.diff(train.inputs)).mean() == pytest.approx(0.4295, abs=0.01)
    correlations = [np.corrcoef(train.inputs[:, i], train.inputs[:, i + 1])[0, 1] for i in (0, 10, 30)]
    np.testing.assert_allclose(correlations, [0.872, 0.793, 0.830], atol=0.02)
    spreads = [train.inputs[train.labels == label].std(0).mean() for label in range(10)]
    theirs = [1.145, 0.855, 0.834, 0.992, 0.869, 0.828, 1.136, 0.865, 0.979, 0.887]
    np.testing.assert_allclose(spreads, theirs, atol=0.04)


def test_is_made_from_its_seed():
    first, again, other = (load_mnist1d(20, 10, seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert np.abs(first.inputs - other.inputs).max() > 0.1


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="num_train must be a whole number of at least 1"):
        load_mnist1d(0)
