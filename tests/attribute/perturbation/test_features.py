"""Features: the usual ones, and what is said of those that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from diffprog.attribute import features

IMAGE = np.random.default_rng(0).uniform(size=(2, 5, 7, 3))


def test_makers():
    np.testing.assert_array_equal(features.pixels()((2, 3, 4)), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(features.pixels()((4,)), [0, 1, 2, 3])
    np.testing.assert_array_equal(features.columns()((4, 3)), [[0, 1, 2]])
    np.testing.assert_array_equal(features.columns()((3,)), [0, 1, 2])
    np.testing.assert_array_equal(features.patches(2)((3, 5, 3)), [[0, 0, 1, 1, 2]] * 2 + [[3, 3, 4, 4, 5]])
    np.testing.assert_array_equal(features.patches((2, 2))((3, 3)), [[0, 0, 1], [0, 0, 1], [2, 2, 3]])
    np.testing.assert_array_equal(features.patches(2)((5, 8)), [0, 0, 1, 1, 2])  # embedded words
    np.testing.assert_array_equal(features.grid((1, 3))((2, 7, 3)), [[0, 0, 0, 1, 1, 2, 2]] * 2)
    assert np.ptp(np.bincount(features.grid(7)((224, 200, 3)).ravel())) <= 32 * 29 - 32 * 28
    with pytest.raises(ValueError, match="grid has 9 cells along an axis of 5"):
        features.grid(9)((5, 7, 3))
    with pytest.raises(ValueError, match="size must be a whole number of at least 1; found 0"):
        features.patches(0)((5, 7, 3))


def test_words():
    np.testing.assert_array_equal(features.words(["[CLS]", "un", "##like", "##ly", "it"]), [0, 1, 1, 1, 2])
    np.testing.assert_array_equal(features.words(["<s>", "▁un", "like", "▁it", "</s>"]), [0, 1, 1, 2, 3])
    np.testing.assert_array_equal(features.words(["Hell", "o", "Ġthere"]), [0, 0, 1])
    with pytest.raises(ValueError, match="texts of an example's tokens"):
        features.words("unlikely")


def connected(region):
    """Whether the places of a mask touch each other."""
    rest = set(zip(*np.nonzero(region), strict=True))
    edge = [rest.pop()]
    while edge:
        row, column = edge.pop()
        near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & rest
        rest -= near
        edge += near
    return not rest


@pytest.mark.parametrize("count", [1, 7, 30])
def test_segments_are_connected_and_as_many_as_asked_for(count):
    picture = np.random.default_rng(1).uniform(size=(30, 40, 3))
    found = features.segments(picture, count)
    assert found.shape == (30, 40) and set(found.ravel()) == set(range(count))
    assert all(connected(found == number) for number in range(count))
    # Numbered as they are met, and the same each time, alone or in a batch.
    first = [np.flatnonzero(found.ravel() == number)[0] for number in range(count)]
    assert first == sorted(first)
    np.testing.assert_array_equal(features.segments(np.stack([picture[::-1], picture]), count)[1, ..., 0], found)


def test_segments_follow_edges():
    """Five flat areas of different color are found as they are."""
    truth = np.zeros((40, 60), int)
    truth[:20, :30], truth[:20, 30:], truth[20:, :15], truth[25:35, 30:50] = 1, 2, 3, 4
    colors = np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1], [0.2, 0.8, 0.3], [1, 1, 0], [0.5, 0.5, 0.5]])
    found = features.segments(colors[truth], 5)
    assert len({(a, b) for a, b in zip(found.ravel().tolist(), truth.ravel().tolist(), strict=True)}) == 5


def test_segments_of_a_flat_picture_and_of_a_tiny_one():
    flat = features.segments(np.full((50, 50, 1), 0.5), 9)
    assert np.bincount(flat.ravel()).min() >= 100
    np.testing.assert_array_equal(features.segments(np.zeros((2, 2, 1)), 4), [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="at most the number of pixels, 4; found 5"):
        features.segments(np.zeros((2, 2, 1)), 5)
    with pytest.raises(ValueError, match="add the axis of channels"):
        features.segments(np.zeros((5, 5)))
    with pytest.raises(ValueError, match="finite"):
        features.segments(np.full((5, 5, 3), np.nan), 4)


def test_each_example_may_have_its_own(x64):
    model = lambda x: (x**2).sum(axis=(1, 2, 3))
    own = features.segments(IMAGE, 6)
    found = attribute.shapley(model, IMAGE, features=own)
    for row in (0, 1):
        truth = np.bincount(own[row].ravel(), weights=(IMAGE[row] ** 2).sum(axis=2).ravel())
        np.testing.assert_allclose(found.per_feature[row], truth, rtol=1e-12)
        alone = attribute.shapley(model, IMAGE[row : row + 1], features=own[row, ..., 0])
        np.testing.assert_array_equal(alone.values[0], found.values[row])


def test_several_inputs_share_numbers_or_not(x64):
    inputs = {"ids": np.array([[3, 4]]), "picture": np.ones((1, 2, 2)), "row": np.array([[1.0, 2.0]])}

    def model(inputs):
        return inputs["picture"].sum(axis=(1, 2)) * inputs["row"].sum(axis=1) + inputs["ids"].sum(axis=1)

    # The same number in two arrays is one feature; functions number their own behind those.
    one = {"ids": None, "picture": np.array([0, 1]), "row": np.array([1, 0])}
    assert attribute.shapley(model, inputs, features=one).per_feature.shape == (1, 2)
    apart = {"ids": None, "picture": features.columns(), "row": features.columns()}
    found = attribute.shapley(model, inputs, features=apart)
    assert found.per_feature.shape == (1, 4) and found.values["ids"] is None
    np.testing.assert_allclose(found.per_feature, [[3, 3, 2, 4]], rtol=1e-12)
    np.testing.assert_allclose(found.values["picture"], 1.5, rtol=1e-12)
    # By default integers stay as they are; they are ablated where they are asked for.
    by_default = attribute.feature_ablation(model, inputs)
    assert by_default.values["ids"] is None
    ids = {"ids": np.array([0, 1]), "picture": None, "row": None}
    at_seven = {"ids": np.array([7]), "picture": np.zeros((2, 2)), "row": np.zeros(2)}
    found = attribute.feature_ablation(model, inputs, features=ids, baseline=at_seven)
    np.testing.assert_array_equal(found.values["ids"], [[-4, -3]])
    assert found.values["picture"] is None


def test_tokens_are_taken_away_by_a_mask(x64):
    """Integers need no gradient: the baseline is an id."""
    table = np.random.default_rng(0).normal(size=(10, 4))
    model = lambda ids: jnp.tanh(jnp.asarray(table)[ids].sum(axis=1)).sum(axis=1)
    ids = np.array([[3, 4, 5, 1], [2, 2, 9, 8]])
    words = features.words(["a", "##b", "c", "d"])
    found = attribute.shapley(model, ids, features=words, baseline=0)
    assert found.per_feature.shape == (2, 3) and found.values.shape == (2, 4)
    np.testing.assert_allclose(found.gap, 0, atol=1e-14)
    np.testing.assert_allclose(found.baseline_score, model(np.zeros_like(ids)), rtol=1e-14)
    with pytest.raises(ValueError, match="the id of a mask"):
        attribute.shapley(model, ids)
    with pytest.raises(ValueError, match="found fractions"):
        attribute.shapley(model, ids, baseline=0.5)


def test_places_inside_a_model(x64):
    model = lambda x: jnp.prod(dp.tap(jnp.tanh(x[:, :, None] * jnp.array([1.0, 2.0])), "hidden").sum(axis=2), axis=1)
    x = np.array([[0.3, -0.4, 0.5]])
    hidden = np.tanh(x[:, :, None] * np.array([1, 2.0]))
    found = attribute.shapley(model, x, at="hidden", features=features.pixels())
    np.testing.assert_allclose(found.per_feature, np.full((1, 3), np.prod(hidden.sum(axis=2)) / 3), rtol=1e-12)
    assert found.values["hidden"].shape == (1, 3, 2)
    same = attribute.shapley(model, x, at="hidden", features={"hidden": np.arange(3)})
    np.testing.assert_array_equal(same.per_feature, found.per_feature)
    with pytest.raises(ValueError, match="an entry for each of at"):
        attribute.shapley(model, x, at="hidden", features={"other": np.arange(3)})


def test_features_that_do_not_fit():
    model = lambda x: x.sum(axis=(1, 2, 3))
    for given, message in [
        (np.zeros((5, 7)), "must be integers, one for each element of an example; found float64"),
        (np.zeros((7, 5), int), r"the shape of one example, \(5, 7, 3\), or of its first axes; found \(7, 5\)"),
        (np.zeros((3, 5, 7, 3), int), r"found \(3, 5, 7, 3\)"),
        (np.array([0, 1, 2, 4, 5])[:, None], "numbered 0 to 5, but 3 is missing"),
        (np.array([-1, 0, 1, 2, 3]), "numbered 0, 1, ...; found -1"),
        (np.stack([np.zeros((5, 1, 1), int), np.arange(5)[:, None, None]]), "features of example 0.*but 1 is missing"),
    ]:
        with pytest.raises(ValueError, match=message):
            attribute.feature_ablation(model, IMAGE, features=given)
    for forgotten in (features.columns, features.patches, lambda: np.arange(3)):
        with pytest.raises(ValueError, match="a function of the shape of one example"):
            attribute.feature_ablation(model, IMAGE, features=forgotten)
    pair = (np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="must have the structure of the inputs"):
        attribute.feature_ablation(lambda x: x[0].sum(axis=1), pair, features=(np.arange(3),))
    with pytest.raises(ValueError, match="an array for each of 2 inputs"):
        attribute.feature_ablation(lambda x: x[0].sum(axis=1), pair, features=np.arange(3))
