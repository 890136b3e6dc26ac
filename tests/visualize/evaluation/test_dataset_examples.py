import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import images as files
from diffprog.visualize import channel, logit, objective, top_activating_crops
from diffprog.visualize.evaluation import _dataset_examples as dataset_examples
from diffprog.visualize.evaluation._scorer import scorer
from diffprog.visualize.objectives import diversity
from tests.visualize import small

MODEL = small.model()
OBJECTIVES = [channel("units", 0), channel("units", 1), logit("two")]


@pytest.fixture(scope="module")
def photographs():
    """Three arrays of different shapes, with large structures."""
    random = np.random.default_rng(3)
    coarse = [random.uniform(size=(height, width, 3)) for height, width in [(4, 6), (5, 4), (4, 4)]]
    return [np.kron(image, np.ones((8, 8, 1))).astype(np.float32) for image in coarse]


@pytest.fixture(scope="module")
def found(photographs):
    return top_activating_crops(MODEL, OBJECTIVES, photographs, num_crops=4, scales=(1.0, 0.5))


def by_hand(crop, photographs):
    """The scores of a crop, in NumPy."""
    square = photographs[crop.image][crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    pixels = files.resize(square, 12, 12)
    weights = {name: np.asarray(value) for name, value in MODEL.parameters.items()}
    units = np.clip((pixels - 0.5) @ weights["kernel"] + weights["bias"], 0, 6).mean((0, 1))
    return [units[0], units[1], (units @ weights["last"])[2]], pixels


def test_every_crop_is_measured_and_the_best_are_shown(found, photographs):
    expected, pixels = zip(*(by_hand(crop, photographs) for crop in found.crops), strict=True)
    np.testing.assert_allclose(found.scores, np.transpose(expected), rtol=1e-4, atol=1e-5)
    assert found.objectives == ("units:0", "units:1", "two") and found.skipped == ()
    for row, best, shown, others in zip(found.scores, found.top_indices, found.pictures, found.others, strict=True):
        assert best[0] == np.argmax(row) and np.all(np.diff(row[best]) <= 0) and 2 <= len(best) <= 4
        np.testing.assert_array_equal(shown, [pixels[number] for number in best])
        lower = [pixels[number] for number in np.argsort(row)[: len(row) // 2]]
        assert all(any(np.array_equal(other, pixel) for pixel in lower) for other in others)
    np.testing.assert_array_equal(found.maximum, found.scores.max(1))
    np.testing.assert_allclose(found.quantile([0.0, np.inf, found.maximum[2]]), [np.mean(found.scores[0] <= 0), 1, 1])


def test_shown_crops_hardly_overlap_and_no_image_crowds_out_the_others(found):
    covered = lambda crop: {
        (crop.image, row, column)
        for row in range(crop.top, crop.top + crop.height)
        for column in range(crop.left, crop.left + crop.width)
    }
    for best in found.top_indices:
        crops = [found.crops[number] for number in best]
        assert max(np.bincount([crop.image for crop in crops])) <= 2
        for index, crop in enumerate(crops):
            assert all(
                len(covered(crop) & covered(other)) <= 0.25 * min(crop.height, other.height) ** 2
                for other in crops[:index]
            )


def test_crops_cover_the_image_and_are_never_enlarged_more_than_twofold():
    crops = dataset_examples._crops(0, "x", 40, 60, (32, 32), (1.0, 0.5, 0.2))
    assert {(crop.height, crop.width) for crop in crops} == {(40, 40), (20, 20)}  # 8 would have to be enlarged fourfold
    assert [(crop.top, crop.left) for crop in crops if crop.height == 40] == [(0, 0), (0, 20)]
    seen = np.zeros((40, 60))
    for crop in crops[2:]:
        seen[crop.top : crop.top + 20, crop.left : crop.left + 20] += 1
    small = dataset_examples._crops(0, "x", 10, 12, (64, 64), (1.0, 0.5))
    assert seen.min() >= 1 and {crop.height for crop in small} == {10}


def test_results_do_not_depend_on_how_images_fall_into_batches(found, photographs, monkeypatch):
    monkeypatch.setattr(dataset_examples, "BATCH", 5)
    again = top_activating_crops(MODEL, OBJECTIVES, photographs, num_crops=4, scales=(1.0, 0.5))
    np.testing.assert_allclose(again.scores, found.scores, rtol=1e-5, atol=1e-6)


def test_a_folder_is_searched_and_what_cannot_be_read_is_named(tmp_path, photographs, found):
    for number, image in enumerate(photographs):
        files.save_png(tmp_path / "sub" / f"{number}.png", image)
    (tmp_path / "zcopy.png").write_bytes((tmp_path / "sub" / "0.png").read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (tmp_path / "notes.txt").write_text("no image, and not meant to be one")
    (tmp_path / "sub" / "._0.png").write_bytes(b"\0\5\x16\7")  # of an archive that was made on a Mac
    with pytest.warns(UserWarning) as warned:
        again = top_activating_crops(MODEL, OBJECTIVES[0], tmp_path, num_crops=4, scales=(1.0, 0.5))
    assert sorted({crop.name for crop in again.crops}) == ["sub/0.png", "sub/1.png", "sub/2.png"]
    np.testing.assert_allclose(again.scores, found.scores[:1], atol=0.02)  # 8 bits
    assert len(again.skipped) == len(warned) == 2
    assert "broken.jpg: not an image" in again.skipped[0] and "zcopy.png: the same picture" in again.skipped[1]


def test_a_cache_serves_only_the_same_question(tmp_path, photographs, found, monkeypatch):
    calls = []
    measure = dataset_examples._scores
    monkeypatch.setattr(dataset_examples, "_scores", lambda *how: calls.append(1) or measure(*how))
    ask = lambda model=MODEL, objectives=tuple(OBJECTIVES), images=photographs: top_activating_crops(
        model, objectives, images, num_crops=4, scales=(1.0, 0.5), cache=tmp_path / "scores.npz"
    )
    np.testing.assert_array_equal(ask().scores, found.scores)
    np.testing.assert_array_equal(ask().scores, found.scores)
    assert len(calls) == 1
    ask(objectives=(OBJECTIVES[0], OBJECTIVES[1], 2 * OBJECTIVES[2]))
    ask(images=[photographs[0] * 0.9, *photographs[1:]])
    other = small.model()
    other.parameters["kernel"] = other.parameters["kernel"] * 1.1
    ask(model=other)
    assert len(calls) == 4
    (tmp_path / "scores.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.warns(UserWarning, match="scores.npz is damaged"):
        np.testing.assert_array_equal(ask().scores, found.scores)
    assert len(calls) == 5
    mine = lambda factor: objective(lambda values: factor * values["units"][..., 0].mean((1, 2)), "units", "mine")
    ask(objectives=(mine(1),))
    ask(objectives=(mine(1),))
    ask(objectives=(mine(2),))
    assert len(calls) == 7


def test_neighbors_are_the_units_that_like_the_same_crops():
    scores = np.array([[0, 1, 2, 3.0], [3, 2, 1, 0], [0, 2, 4, 7], [5, 5, 5, 5], [0, 0, 1, 0]])
    units = dataset_examples.DatasetExamples(tuple("abcde"), (), scores, (), (), (), ())
    alike = np.corrcoef(np.delete(scores, 3, 0))  # a, b, c, e: of d, which is constant, nothing can be said
    assert alike[0, 2] > alike[0, 3] > 0 and alike[3, 0] > alike[3, 2] > 0 and alike[1].max() == 1
    assert [list(row) for row in units.neighbors(2)] == [[2, 4], [], [0, 4], [], [0, 2]]
    assert [list(row) for row in units.neighbors(1)] == [[2], [], [0], [], [0]]


def test_unusable_input_is_refused_in_one_sentence(tmp_path, photographs):
    with pytest.raises(ValueError, match=r"no image file in .*; give a folder with photographs"):
        top_activating_crops(MODEL, OBJECTIVES, tmp_path)
    with pytest.raises(ValueError, match="is no folder; give a folder"):
        top_activating_crops(MODEL, OBJECTIVES, tmp_path / "none")
    with pytest.raises(ValueError, match="none of the 0 images"):
        top_activating_crops(MODEL, OBJECTIVES, [])
    with pytest.raises(ValueError, match=r"scales must be numbers in \(0, 1\], at least one; found \(1.5,\)"):
        top_activating_crops(MODEL, OBJECTIVES, photographs, scales=(1.5,))
    with pytest.raises(ValueError, match="units has channels 0 to 3; found 4"):
        top_activating_crops(MODEL, channel("units", 4), photographs)
    strange = objective(lambda values: jnp.sqrt(-1 - values["units"].mean((1, 2, 3))), "units", "strange")
    with pytest.raises(ValueError, match="strange is nan on a crop of image 0"):
        top_activating_crops(MODEL, strange, photographs)
    with pytest.raises(ValueError, match=r"diversity.* compares pictures with each other"):
        top_activating_crops(MODEL, channel("units", 0) - diversity("units"), photographs)


def test_the_picture_itself_may_be_read():
    red = objective(lambda values: values["image"][..., 0].mean((1, 2)), "image")
    both = objective(
        lambda values: values["image"][..., 0].mean((1, 2)) + 0 * values["units"][:, 0, 0, 0], ["image", "units"]
    )
    images = np.random.default_rng(0).uniform(size=(3, 12, 12, 3)).astype(np.float32)
    for objectives in ([red], [red, both]):
        expected = np.tile(images[..., 0].mean((1, 2)), (len(objectives), 1))
        np.testing.assert_allclose(scorer(MODEL, objectives)(images), expected, rtol=1e-5)
