from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.images import save_png
from diffprog.images._labeled import batches

RNG = np.random.default_rng(2)
IMAGES = (RNG.integers(0, 256, size=(11, 6, 6, 3)) / 255).astype(np.float32)
LABELS = np.sort(RNG.integers(0, 3, size=11))
NAMES = ("ant", "bee", "cat")


def read(data):
    parts = [part.load() for part in data]
    return [len(images) for images, _ in parts], *(np.concatenate(each) for each in zip(*parts, strict=True))


@pytest.fixture
def folder(tmp_path):
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        save_png(tmp_path / NAMES[label] / f"{number:03d}.png", image)
    (tmp_path / "ant" / "._000.png").write_bytes(b"\0\5\x16\7")  # of an archive that was made on a Mac
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "000.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "000.png").write_bytes(b"")
    (tmp_path / "bee" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "bee" / "folder.png").mkdir()
    return tmp_path


def assert_the_set(data):
    sizes, images, labels = read(data)
    assert sizes == [4, 4, 3]
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_arrays_folders_and_iterables_are_the_same_data(folder):
    assert_the_set(batches(None, IMAGES, LABELS, 4))
    uneven = [(IMAGES[at:to], LABELS[at:to]) for at, to in ((0, 1), (1, 7), (7, 7), (7, 11))]
    assert_the_set(batches(None, iter(uneven), None, 4))
    assert_the_set(batches(None, folder, None, 4, class_names=NAMES))
    assert_the_set(batches(SimpleNamespace(label_index=NAMES.index), str(folder), None, 4))
    for number, name in enumerate(NAMES):
        (folder / name).rename(folder / str(number))
    assert_the_set(batches(None, folder, None, 4))


def test_files_that_are_left_out_are_counted(folder, recwarn):
    read(batches(None, folder, None, 4, class_names=NAMES))
    assert not recwarn.list
    for name in ("one.heic", "two.HEIC", "notes.txt"):
        (folder / "ant" / name).write_text("no image")
    with pytest.warns(UserWarning, match=r"3 of 14 files in .* are no images of a known kind \(.HEIC, .heic, .txt\)"):
        assert_the_set(batches(None, folder, None, 4, class_names=NAMES))


def test_files_are_prepared(folder):
    _, images, _ = read(batches(None, folder, None, 4, class_names=NAMES, preprocess=lambda image: image.mean(axis=-1)))
    np.testing.assert_allclose(images, IMAGES.mean(axis=-1), atol=1e-6)
    model = SimpleNamespace(size=4, label_index=NAMES.index)
    assert read(batches(model, folder, None, 4))[1].shape == (11, 4, 4, 3)


def test_no_more_than_a_batch_is_read_ahead():
    taken, attacked = [], []

    def one_by_one():
        for image, label in zip(IMAGES, LABELS, strict=True):
            taken.append(label)
            yield image[None], np.array([label])

    def noting(model, images, labels, **options):
        attacked.append(len(taken))
        return images

    model = lambda x: x.reshape(len(x), -1)[:, :3] * 1.0 + jnp.arange(3) * 1e-3
    found = attack.evaluate(
        model, one_by_one(), attacks={"noting": noting}, epsilons=0.1, key=jax.random.key(0), batch_size=4, engine="jax"
    )
    assert attacked == [4, 8, 11]
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: folder / "none", "images must be a folder with a folder for each class; found no folder"),
        (lambda folder: folder / "ant", r"one folder for each class; found no image files there"),
        (lambda folder: folder, "folder 'ant' must be the name or number of a class of the model"),
    ],
)
def test_folders_that_cannot_be_used(folder, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(batches(None, change(folder), None, 4))


def test_images_of_several_sizes_need_to_be_prepared(folder):
    save_png(folder / "ant" / "000.png", np.zeros((5, 6)))
    with pytest.raises(ValueError, match=r"images must be of one shape; found \(5, 6, 3\) and, in .*with preprocess="):
        read(batches(None, folder, None, 4, class_names=NAMES))
