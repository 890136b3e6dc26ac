import numpy as np
import pytest

from diffprog.fit import load_digits


def test_split_holds_every_published_digit_once():
    train, test = load_digits()
    assert (train.inputs.shape, test.inputs.shape) == ((1440, 64), (357, 64))
    assert train.inputs.dtype == np.float32 and train.labels.dtype == np.int32
    labels = np.concatenate([train.labels, test.labels])
    # Counts per class as UCI states them for its test set.
    np.testing.assert_array_equal(np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    inputs = np.concatenate([train.inputs, test.inputs])
    assert len(np.unique(inputs, axis=0)) == 1797  # no digit is in both halves
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)


def test_digits_look_like_their_labels():
    train, _ = load_digits()
    zero, one = (train.inputs[train.labels == label].mean(axis=0).reshape(8, 8) for label in (0, 1))
    assert zero[3:5, 3:5].max() < 0.25 < 0.6 < one[3:5, 3:5].min()  # a hole in the middle, a stroke in the middle


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no digits at .*gone.npz: it belongs to the package"):
        load_digits(tmp_path / "gone.npz")
