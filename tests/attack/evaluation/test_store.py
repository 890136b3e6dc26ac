import os
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import jax
import numpy as np
import pytest

import diffprog.attack._attacks.universal as universal_module
from diffprog import attack
from diffprog.attack._evaluation.results import AttackRecord
from tests.attack.evaluation import job

BATCHES, TIMES = 3, ("seconds", "compile_seconds")


def assert_same(found, expected):
    np.testing.assert_array_equal(found.clean_predictions, expected.clean_predictions)
    for name, record in expected.records.items():
        for field in set(AttackRecord._fields) - set(TIMES):
            np.testing.assert_array_equal(getattr(found.records[name], field), getattr(record, field))
    for case, other in zip(found.worst_cases, expected.worst_cases, strict=True):
        assert case[:5] == other[:5]
        np.testing.assert_array_equal(case.adversarial, other.adversarial)
    assert found.warnings == expected.warnings


def test_a_killed_evaluation_goes_on_to_the_same_result(whole, tmp_path):
    folder, expected = whole
    running = subprocess.Popen([sys.executable, "-m", "tests.attack.evaluation.job", str(tmp_path)])
    limit = time.monotonic() + 120
    while not job.files(tmp_path, "walk") and time.monotonic() < limit:
        assert running.poll() is None
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    before = stamps(tmp_path)
    assert 3 <= len(before) < 3 * BATCHES  # it was killed on its way
    assert_same(job.job(tmp_path), expected)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was there was only read
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("[!.]*")}
    assert names == {path.relative_to(folder) for path in folder.rglob("*")}
    for name in (name for name in names if name.suffix == ".npz"):
        with np.load(tmp_path / name) as found, np.load(folder / name) as other:
            assert set(found) == set(other)
            for key in set(other) - {"times"}:
                np.testing.assert_array_equal(found[key], other[key])


def stamps(folder):
    """When each file of results was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_a_finished_evaluation_is_only_read(whole):
    folder, expected = whole
    before = stamps(folder)
    found = job.job(folder)
    assert stamps(folder) == before
    assert_same(found, expected)
    np.testing.assert_array_equal(found.records["pgd"].seconds, expected.records["pgd"].seconds)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": jax.random.key(4)}, r"of other settings \(settings.key: \[0, 3\], not \[0, 4\]\)"),
        (
            {"attacks": {"walk": job.walk, "pgd": attack.pgd}},
            r"settings \(attacks.pgd.arguments.max_steps: 5, not 40\)",
        ),
        (
            {"attacks": {"pgd": partial(job.ATTACKS["pgd"], loss=lambda z, y: attack.margin(z, y))}},
            r"\(attacks.pgd.arg",
        ),
        ({"bounds": (0, 2)}, r"of other settings \(settings.bounds"),
        ({"images": job.IMAGES[::-1]}, r"of other images or labels \(image 0\)"),
        ({"labels": job.LABELS * 0}, r"of other images or labels \(image \d\)"),
        ({"images": np.concatenate([job.IMAGES[:9], job.IMAGES[:13]])}, r"of other images or labels \(image 9\)"),
        ({"model": lambda x: job.model(x) * 1.01}, "of another model"),
        ({"model": lambda x: jax.lax.stop_gradient(job.model(x))}, "of another model"),
        ({"model": lambda x: job.model(x)[:, np.array([1, 0, 2, 3, 4])]}, "of another model"),
    ],
)
def test_a_directory_of_another_evaluation_is_refused(whole, change, sentence):
    folder, _ = whole
    given = {
        "model": job.model,
        "images": job.IMAGES,
        "labels": job.LABELS,
        "attacks": job.ATTACKS,
        "epsilons": job.EPSILONS,
        "key": jax.random.key(3),
        "batch_size": job.BATCH,
        "max_worst_cases": 4,
        "keep_images": True,
        "engine": "jax",
        **change,
    }
    before = stamps(folder)
    with pytest.raises(ValueError, match=sentence) as caught:
        attack.evaluate(given.pop("model"), given.pop("images"), given.pop("labels"), directory=folder, **given)
    assert "\n" not in str(caught.value) and "give another directory" in str(caught.value)
    assert stamps(folder) == before


def test_folders_of_others_are_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"settings": {}}')
    with pytest.raises(ValueError, match="holds an evaluation of another version of diffprog: give another directory"):
        job.job(tmp_path)
    assert os.listdir(tmp_path) == ["manifest.json"]


# ---------------------------------------------------------------- what extends an evaluation goes on


IMAGES = np.random.default_rng(1).uniform(0.2, 0.8, (10, 3)).astype(np.float32)
LABELS = IMAGES.argmax(axis=1)


class Counted:
    """An attack that lowers the label's element by the budget, and says of each image at which budgets it was asked."""

    def __init__(self, part=1.0):
        self.part, self.asked = part, []

    def __call__(self, model, images, labels, *, key, epsilon, image_ids):
        self.asked.extend((int(image), float(budget)) for budget in np.ravel(epsilon) for image in image_ids)
        step = self.part * np.eye(3, dtype=np.float32)[labels]
        return np.clip(images - np.reshape(epsilon, (-1, 1, 1)) * step, 0, 1).astype(np.float32)


def two(folder, mine, *, count=8, epsilons=(0.1, 0.3), attacks=None, **options):
    attacks = attacks or {"mine": mine}
    given = {"key": jax.random.key(0), "batch_size": 4, "engine": "jax", "max_worst_cases": 3, **options}
    model = given.pop("model", lambda x: 3 * x)
    images, labels = given.pop("images", IMAGES[:count]), given.pop("labels", LABELS[:count])
    return attack.evaluate(model, images, labels, attacks=attacks, epsilons=epsilons, directory=folder, **given)


def smallest():
    """In closed form: the label's element is lowered to the next."""
    second, best = np.sort(IMAGES.astype(np.float64), axis=1)[:, 1:].T
    return best - second


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, []),
        ({"attacks": {"mine": None, "other": Counted(0.5)}}, []),
        ({"epsilons": (0.1, 0.2, 0.3)}, [(image, 0.2) for image in range(8)]),
        ({"count": 10}, [(image, budget) for image in (8, 9) for budget in (0.1, 0.3)]),
        ({"count": 10, "epsilons": (0.3, 0.5)}, [*((i, 0.5) for i in range(10)), (8, 0.3), (9, 0.3)]),
        ({"count": 5}, []),
        ({"epsilons": (0.3,)}, []),
        ({"batch_size": 3}, []),
        ({"batch_size": 5, "count": 9}, [(8, 0.1), (8, 0.3)]),
        ({"max_worst_cases": 2}, []),
        ({"max_worst_cases": 4}, [(image, budget) for image in range(8) for budget in (0.1, 0.3)]),
        ({"keep_images": True}, [(image, budget) for image in range(8) for budget in (0.1, 0.3)]),
    ],
)
def test_nothing_is_computed_twice(tmp_path, more, asked):
    mine = Counted()
    two(tmp_path / "kept", mine)
    assert len(mine.asked) == 16
    mine.asked.clear()
    if "attacks" in more:
        more = more | {"attacks": {**more["attacks"], "mine": mine}}
    found = two(tmp_path / "kept", mine, **more)
    assert sorted(mine.asked) == sorted(asked)
    fresh = two(None, mine, **more)
    for name, record in fresh.records.items():
        for field in {"success", "size", "predictions", "exceeded", "nonfinite", "first_success"}:
            np.testing.assert_array_equal(getattr(found.records[name], field), getattr(record, field))
    assert [case[:5] for case in found.worst_cases] == [case[:5] for case in fresh.worst_cases]
    count, epsilons = more.get("count", 8), more.get("epsilons", (0.1, 0.3))
    expected = [np.mean(smallest()[:count] >= epsilon) for epsilon in epsilons]  # against the closed form
    np.testing.assert_array_equal(found.accuracy("mine"), expected)
    mine.asked.clear()
    two(tmp_path / "kept", mine)  # what was asked for at first is still there
    assert not mine.asked


def test_parts_of_data_come_together(tmp_path):
    """Batches that overlap what is there in part, other budgets for other images."""
    mine = Counted()
    for count, epsilons in ((3, (0.1,)), (6, (0.2,)), (10, (0.1, 0.2, 0.3))):
        found = two(tmp_path, mine, count=count, epsilons=epsilons, batch_size=4)
    assert len(mine.asked) == len(set(mine.asked)) == 30
    np.testing.assert_array_equal(found.accuracy("mine"), [np.mean(smallest() >= e) for e in (0.1, 0.2, 0.3)])


def test_a_perturbation_that_images_share_is_learned_once(tmp_path, monkeypatch):
    """For those of a batch that are not there: in batches of another size none is learned again."""
    learned, ascend = [], universal_module.ascend
    record = lambda model, data, *rest, **options: (learned.append(data.images), ascend(model, data, *rest, **options))
    monkeypatch.setattr(universal_module, "ascend", lambda *arguments, **options: record(*arguments, **options)[1])
    attacks = {"universal": partial(attack.universal, max_steps=2)}
    ask = lambda **how: two(tmp_path, None, attacks=attacks, epsilons=[0.2], **how)
    first = ask(count=6)
    np.testing.assert_array_equal(np.concatenate(learned), IMAGES[:6])
    for how in ({"batch_size": 3}, {"batch_size": 8}, {"count": 8}):
        learned.clear()
        found = ask(**{"count": 6, **how})
        np.testing.assert_array_equal(found.records["universal"].size[:, :6], first.records["universal"].size)
        assert sum(map(len, learned)) == how.get("count", 6) - 6
    np.testing.assert_array_equal(learned[0], IMAGES[6:8])


# ---------------------------------------------------------------- what changes one does not


def changed_loss(factor):
    return lambda logits, labels: factor * attack.margin(logits, labels)


FACTOR = 1.0


def reading_a_global(model, images, labels, *, key, epsilon):
    return images - np.float32(FACTOR * np.asarray(epsilon)[..., None])


@pytest.mark.parametrize(
    ("first", "then", "sentence"),
    [
        ({"mine": Counted(1.0)}, {"mine": Counted(0.5)}, "another attack 'mine' .its code, or what it reads."),
        (
            {"mine": partial(attack.fgsm, loss=changed_loss(1))},
            {"mine": partial(attack.fgsm, loss=changed_loss(0))},
            "another loss in attack 'mine' .its code, or what it reads.",
        ),
        (
            {"mine": lambda model, images, labels, *, key: images},
            {"mine": lambda model, images, labels, *, key: images + 0},
            "another attack 'mine' .its code, or what it reads.",
        ),
        ({"mine": attack.fgsm}, {"mine": attack.pgd}, r"other settings \(attacks.mine.function: fgsm, not pgd\)"),
    ],
)
def test_an_attack_of_the_same_name_is_known_by_its_code(tmp_path, first, then, sentence):
    two(tmp_path, None, attacks=first)
    before = stamps(tmp_path)
    with pytest.raises(ValueError, match=rf"holds an evaluation of {sentence}: give another directory"):
        two(tmp_path, None, attacks=then)
    assert stamps(tmp_path) == before
    two(tmp_path, None, attacks=first)
    assert stamps(tmp_path) == before


def test_a_global_that_an_attack_reads_counts(tmp_path, monkeypatch):
    two(tmp_path, None, attacks={"mine": reading_a_global})
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 0.5)
    with pytest.raises(ValueError, match="of another attack 'mine'"):
        two(tmp_path, None, attacks={"mine": reading_a_global})


def test_a_criterion_counts_by_its_code(tmp_path):
    at_least = lambda lead: lambda logits, labels: logits.max(axis=1) - logits[np.arange(len(labels)), labels] > lead
    two(tmp_path, Counted(), criterion=at_least(0.0))
    two(tmp_path, Counted(), criterion=at_least(0.0))
    for other in (at_least(0.1), None):
        with pytest.raises(ValueError, match=r"by another criterion"):
            two(tmp_path, Counted(), criterion=other)


def test_weights_that_change_in_place_are_another_model(tmp_path):
    weights = {"w": np.eye(3, dtype=np.float32)}
    model = lambda x: 3 * x @ weights["w"]
    two(tmp_path, Counted(), model=model)
    two(tmp_path, Counted(), model=model)
    weights["w"] = weights["w"] + np.float32(1e-5)  # too little to be seen in the logits of some images
    with pytest.raises(
        ValueError, match=r"holds an evaluation of another model \(its code or its arrays\): give another directory"
    ):
        two(tmp_path, Counted(), model=model)


def test_a_model_that_cannot_be_described_is_known_by_its_logits(tmp_path):
    mine = {"mine": lambda model, images, labels, *, key, epsilon: np.stack([images] * len(epsilon))}
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"model.hidden is a generator, which cannot be compared from run to run"):
            two(tmp_path, None, attacks=mine, model=Opaque(3.0))
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"of another model \(its logits differ\)"):
        two(tmp_path, None, attacks=mine, model=Opaque(3.1))


class Opaque:
    """A model whose factor is where nobody can read it."""

    def __init__(self, factor):
        self.hidden = (factor for _ in iter(int, 1))

    def __call__(self, x):
        return next(self.hidden) * x


def test_an_attack_that_cannot_be_described_is_never_taken_up(tmp_path):
    hidden = (number for number in iter(int, 1))
    mine = {"mine": lambda model, images, labels, *, key: images + np.float32(next(hidden))}
    with pytest.warns(
        UserWarning, match="attack 'mine'.*hidden is a generator, which cannot be compared from run to run"
    ):
        two(tmp_path, None, attacks=mine)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="of another attack 'mine'"):
        two(tmp_path, None, attacks=mine)


# ---------------------------------------------------------------- damage


def test_a_damaged_file_is_named_set_aside_and_computed_again(tmp_path):
    mine = Counted()
    first = two(tmp_path, mine)
    for number, path in enumerate(sorted(tmp_path.rglob("*.npz"))):
        mine.asked.clear()
        whole = path.read_bytes()
        flipped = bytearray(whole)
        with zipfile.ZipFile(path) as archive:
            flipped[archive.getinfo("labels.npy" if "clean" in str(path) else "size.npy").header_offset + 70] ^= 255
        path.write_bytes([whole[: len(whole) // 2], b"", bytes(flipped), b"not a zip file"][number % 4])
        with pytest.warns(
            UserWarning, match=rf"{path.name} is damaged \(.*\): it is now {path.name}.damaged, and is m"
        ):
            again = two(tmp_path, mine)
        np.testing.assert_array_equal(again.records["mine"].size, first.records["mine"].size)
        assert len(mine.asked) == (8 if "mine" in str(path) else 0)  # the file's four images, and no other
        assert path.with_name(f"{path.name}.damaged").exists() and path.read_bytes()[:2] == b"PK"
    assert number == 3


def test_a_file_whose_arrays_do_not_fit_is_damaged(tmp_path):
    mine = Counted()
    first = two(tmp_path, mine)
    path = job.files(tmp_path, "mine")[0]
    arrays = dict(np.load(path))
    for change in ({"success": arrays["success"][:, :2]}, {"key": None}):
        np.savez(path, **{name: value for name, value in (arrays | change).items() if value is not None})
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            np.testing.assert_array_equal(two(tmp_path, mine).minimum_norm, first.minimum_norm)


@pytest.mark.parametrize("which", ["manifest.json", "attacks/mine/manifest.json"])
def test_a_damaged_manifest_is_written_anew(tmp_path, which):
    mine = Counted()
    two(tmp_path, mine)
    path = tmp_path / which
    text = path.read_text()
    path.write_text(text[:20])
    mine.asked.clear()
    with pytest.warns(UserWarning, match=r"manifest.json is damaged"):
        two(tmp_path, mine)
    assert not mine.asked and path.read_text() == text  # each file says itself what made it
    path.write_text("[")
    with pytest.warns(UserWarning, match=r"manifest.json is damaged"):
        found = two(tmp_path, mine, model=lambda x: 2 * x) if which == "manifest.json" else two(tmp_path, Counted(0.1))
    assert found.accuracy("mine").tolist() != [1, 1] or which != "manifest.json"
