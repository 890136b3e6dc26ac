import jax
import numpy as np
import pytest

from diffprog.attack import least_likely, random_targets, second_likely

LOGITS = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [2.0, 2.5, -1.0]], np.float32)


def model(images):
    return images


def test_least_and_second_likely_are_read_off_the_logits():
    for batch in (None, 2):
        np.testing.assert_array_equal(least_likely(model, LOGITS, batch), [1, 0, 2])
        np.testing.assert_array_equal(second_likely(model, LOGITS, np.array([0, 2, 1]), batch), [2, 1, 0])


def test_random_targets_are_the_other_classes_in_equal_parts():
    labels = np.arange(6000) % 4
    drawn = random_targets(jax.random.key(1), labels, 4)
    assert drawn.dtype == np.int32 and not np.any(drawn == labels)
    shift = (drawn - labels) % 4
    counts = np.bincount(shift, minlength=4)[1:]
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(6000 * 2 / 9)
    some = np.array([5, 17, 3])
    np.testing.assert_array_equal(random_targets(jax.random.key(1), labels[some], 4, image_ids=some), drawn[some])


def test_targets_have_a_border():
    with pytest.raises(ValueError, match=r"classes must be more than every label.*found 3 classes and labels 0 .. 3"):
        random_targets(jax.random.key(0), np.arange(4), 3)
    with pytest.raises(ValueError, match="key must be a JAX random key; found a"):
        random_targets("a", np.arange(4), 4)
    with pytest.raises(ValueError, match=r"labels must be in 0 .. 2, the model's classes; found 3 .. 3"):
        second_likely(model, LOGITS, np.array([3, 3, 3]))
