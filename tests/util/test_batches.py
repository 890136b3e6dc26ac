import numpy as np
import pytest

from diffprog._util.batches import by_shape, in_batches


@pytest.mark.parametrize("n, sizes", [(7, [3, 3, 3]), (6, [3, 3]), (3, [3]), (2, [2])])
def test_batches_have_one_size_and_give_what_the_whole_gives(n, sizes):
    rows, seen = np.arange(2.0 * n).reshape(n, 2), []
    function = lambda batch: seen.append(len(batch)) or {"twice": 2 * batch, "sums": batch.sum(1)}
    found = in_batches(function, rows, 3)
    np.testing.assert_array_equal(found["twice"], 2 * rows)
    np.testing.assert_array_equal(found["sums"], rows.sum(1))
    assert seen == sizes


def test_results_are_joined_along_an_axis():
    rows = np.arange(7.0)
    np.testing.assert_array_equal(in_batches(lambda batch: np.stack([batch, -batch]), rows, 3, axis=1), [rows, -rows])


def test_arrays_of_several_shapes_keep_their_indices():
    arrays = [np.full((side, 2), index) for index, side in enumerate([3, 4, 3, 3, 4, 5])]
    seen = []
    found = dict(by_shape(lambda stack: seen.append(stack.shape) or stack.sum((1, 2)), arrays, 2))
    assert found == {index: array.sum() for index, array in enumerate(arrays)}
    assert seen == [(2, 3, 2), (1, 3, 2), (2, 4, 2), (1, 5, 2)]
