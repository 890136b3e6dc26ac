import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

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
    while not list(tmp_path.glob("*.walk.npz")) and time.monotonic() < limit:
        assert running.poll() is None
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert 3 <= len(before) < 3 * BATCHES  # it was killed on its way
    assert_same(job.job(tmp_path), expected)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was there was only read
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {path.name for path in folder.iterdir()}
    for name in (name for name in names if name.endswith(".npz")):
        with np.load(tmp_path / name) as found, np.load(folder / name) as other:
            assert set(found) == set(other)
            for key in set(other) - set(TIMES):
                np.testing.assert_array_equal(found[key], other[key])


def test_a_finished_evaluation_is_only_read(whole):
    folder, expected = whole
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    found = job.job(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before
    assert_same(found, expected)
    np.testing.assert_array_equal(found.records["pgd"].seconds, expected.records["pgd"].seconds)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": jax.random.key(4)}, r"of other settings \(key: \[0, 3\], not \[0, 4\]\)"),
        ({"epsilons": job.EPSILONS[:2]}, "of other settings .epsilons"),
        (
            {"attacks": {"walk": job.walk, "pgd": attack.pgd}},
            r"settings \(attacks.pgd.arguments.max_steps: 5, not 40\)",
        ),
        ({"attacks": {"walk": job.walk}}, r"of other settings \(attacks.pgd"),
        ({"images": job.IMAGES[::-1]}, "of other images or labels"),
        ({"labels": job.LABELS * 0}, "of other images or labels"),
        ({"images": np.concatenate([job.IMAGES[:9], job.IMAGES[:13]])}, r"of other images or labels \(batch 1\)"),
        ({"images": job.IMAGES[:20], "labels": job.LABELS[:20]}, r"of other images or labels \(batch 2\)"),
        ({"model": lambda x: job.model(x) * 1.01}, "of another model"),
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
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=sentence) as caught:
        attack.evaluate(given.pop("model"), given.pop("images"), given.pop("labels"), directory=folder, **given)
    assert "\n" not in str(caught.value) and "give another directory" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_manifest_of_something_else_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="must be a manifest in JSON"):
        job.job(tmp_path)
    (tmp_path / "manifest.json").unlink()
    np.savez(tmp_path / "mine.npz", 1)
    with pytest.raises(ValueError, match=r"found .npz files without manifest.json: give another"):
        job.job(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["mine.npz"]


def test_a_damaged_file_is_named(whole, tmp_path):
    folder, _ = whole
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "000001.walk.npz"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"000001.walk.npz is damaged \(.*\): remove it, and it is made anew"):
        job.job(tmp_path)
    damaged.unlink()
    np.testing.assert_array_equal(job.job(tmp_path).minimum_norm, whole[1].minimum_norm)
