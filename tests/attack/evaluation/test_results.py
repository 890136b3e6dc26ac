import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog._util.timing import timed
from tests.attack.evaluation import job
from tests.attack.evaluation.job import COUNT, EPSILONS, IMAGES, LABELS, numpy_logits


def classes_of(images):
    return numpy_logits(images).argmax(axis=-1)


@pytest.fixture(scope="module")
def results():
    """The attacks by themselves, on all images at once."""
    options = {"key": jax.random.key(3), "engine": "jax", "batch_size": job.BATCH}
    several = {"epsilon": EPSILONS[:, None], "every_budget": True, **options}
    return {
        "pgd": attack.pgd(job.model, IMAGES, LABELS, max_steps=5, **several),
        "walk": job.walk(job.model, IMAGES, LABELS, **options),
    }


def recomputed(result):
    """NumPy's own verdicts and sizes of what an attack returned: the smallest success of each image, and in 8 bits."""
    images = result.images.reshape(-1, *IMAGES.shape).astype(np.float64)
    right = classes_of(IMAGES) == LABELS
    size = np.abs(images - IMAGES).max(axis=-1)
    broken, broken_8bit = classes_of(images) != LABELS, classes_of(np.rint(images * 255) / 255) != LABELS
    smallest = lambda which: np.where(right, np.where(which, size, np.inf).min(axis=0), 0)
    return smallest(broken), smallest(broken_8bit)


def test_every_number_is_what_numpy_makes_of_the_returned_images(whole, results):
    _, found = whole
    sizes, standing = [], np.ones((3, COUNT), bool)
    assert found.clean_accuracy == np.mean(classes_of(IMAGES) == LABELS) == (COUNT - 2) / COUNT
    for name, result in results.items():
        smallest, smallest_8bit = recomputed(result)
        np.testing.assert_array_equal(found.records[name].minimum_norm, smallest)
        np.testing.assert_array_equal(found.records[name].in_8bit.minimum_norm, smallest_8bit)
        for at, epsilon in enumerate(EPSILONS):
            assert found.accuracy(name)[at] == np.mean(smallest > epsilon)
            assert found.accuracy_8bit(name)[at] == np.mean(smallest_8bit > epsilon)
            counts = {group: numbers[at] for group, numbers in found.counts(name).items()}
            broken = int(np.sum((smallest > 0) & (smallest <= epsilon)))
            assert counts == {"misclassified": 2, "success": broken, "nonfinite": 0, "failure": COUNT - 2 - broken}
            standing[at] &= smallest > epsilon
        assert found.records[name].queries.sum() == result.queries.sum() > 0
        assert found.records[name].backward_passes.sum() == result.backward_passes.sum() > 0
        sizes.append(smallest)
    np.testing.assert_array_equal(found.robust_accuracy(), standing.mean(axis=1))
    assert (
        np.all(np.diff(found.robust_accuracy()) < 0) and found.robust_accuracy()[-1] > 0
    )  # neither hopeless nor trivial
    np.testing.assert_array_equal(found.minimum_norm, np.min(sizes, axis=0))
    for image, name in enumerate(found.broken_by):
        unbroken = not 0 < found.minimum_norm[image] < np.inf
        assert unbroken if name is None else found.records[name].minimum_norm[image] == found.minimum_norm[image]


def test_the_hardest_images_are_the_smallest_successes_of_all(whole):
    _, found = whole
    sizes = found.minimum_norm
    broken = np.flatnonzero((sizes > 0) & np.isfinite(sizes))
    expected = broken[np.lexsort((broken, sizes[broken]))][:4]
    assert [case.image_id for case in found.worst_cases] == expected.tolist()
    for case in found.worst_cases:
        np.testing.assert_array_equal(case.original, IMAGES[case.image_id])
        assert np.abs(case.adversarial.astype(np.float64) - case.original).max() == case.size == sizes[case.image_id]
        assert classes_of(case.adversarial) == case.prediction != case.label == LABELS[case.image_id]


def test_images_are_kept_on_request(whole, results):
    folder, found = whole
    np.testing.assert_array_equal(job.kept(folder, "walk")["images"], results["walk"].images)
    size = np.abs(job.kept(folder, "pgd")["images"].astype(np.float64) - IMAGES).max(axis=1)
    broken = np.isfinite(found.records["pgd"].minimum_norm) & found.initially_correct
    np.testing.assert_array_equal(size[broken], found.records["pgd"].minimum_norm[broken])


def test_the_report_in_json_and_in_text(whole):
    folder, found = whole
    report = json.loads((folder / "report.json").read_text())
    assert (
        report["robust_accuracy"] == found.robust_accuracy().tolist()
        and report["clean_accuracy"] == found.clean_accuracy
    )
    assert report["attacks"]["walk"]["accuracy"] == found.accuracy("walk").tolist()
    assert report["minimum_norm"] == [None if np.isinf(size) else size for size in found.minimum_norm]
    assert report["settings"]["key"] == [0, 3] and report["versions"]["jax"] == jax.__version__
    assert report["settings"]["attacks"]["pgd"] == {
        "function": "pgd",
        "search": "within budgets",
        "arguments": {"engine": "jax", "loss": "cross_entropy", "max_steps": 5, "norm": "linf", "step_size": None},
    }
    text = str(found)
    assert (folder / "report.txt").read_text() == text + "\n"
    row = next(line for line in text.splitlines() if line.startswith("pgd"))
    assert re.findall(r"[\d.]+", row)[:3] == [f"{100 * value:.1f}" for value in found.accuracy("pgd")]
    assert "4/255  12/255  30/255" in text and f"{100 * found.clean_accuracy:.1f} % of 22 images" in text


def test_images_without_finite_logits_are_neither_robust_nor_broken():
    """Here a whole batch has none, which an attack by itself refuses."""
    lost = np.zeros(COUNT, bool)
    lost[[1, 9]] = lost[16:] = True
    images = np.where(lost[:, None], IMAGES * 0.9 + 0.1, np.minimum(IMAGES, 0.85)).astype(np.float32)
    images[lost, 0] = 1
    model = lambda x: jnp.where(x[:, :1] == 1, jnp.nan, job.model(x))
    labels = classes_of(images)
    found = attack.evaluate(
        model,
        images,
        labels,
        attacks={"fgsm": attack.fgsm},
        epsilons=0.02,
        batch_size=8,
        key=jax.random.key(0),
        engine="jax",
    )
    broken = int(np.sum(np.isfinite(found.minimum_norm) & ~lost))
    assert found.counts("fgsm") == {
        "misclassified": [0],
        "success": [broken],
        "nonfinite": [8],
        "failure": [14 - broken],
    }
    assert found.clean_accuracy == 14 / 22 and found.robust_accuracy() == [(14 - broken) / 22]
    assert np.isinf(found.records["fgsm"].minimum_norm[lost]).all()
    assert [warning.code for warning in found.warnings] == ["not-finite"]
    assert "for 8 images as they are" in found.warnings[0].message


def test_compilation_is_timed_apart():
    inner = jax.jit(jnp.sin)
    program = jax.jit(lambda x: inner(x) @ x)
    x = jnp.ones((3, 3))
    found, seconds, compiling = timed(lambda: np.asarray(program(x)))
    np.testing.assert_allclose(found, 3 * np.sin(1), rtol=1e-6)
    assert compiling > 0 and seconds >= 0  # nested tracing is not counted twice
    assert timed(lambda: np.asarray(program(x)))[2] == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"attacks": {}}, "attacks must be a dict from names to attacks; found {}"),
        ({"attacks": {"a/b": attack.fgsm}}, "an attack's name must be of letters.*found 'a/b'"),
        (
            {"attacks": {"pgd": partial(attack.pgd, epsilon=0.1)}},
            "'pgd' must leave epsilon to the evaluation; found 0.1",
        ),
        (
            {"attacks": {"pgd": partial(attack.pgd, norm=attack.l2)}},
            "'pgd' has budgets in l2, and the evaluation in linf",
        ),
        ({"epsilons": [0.2, 0.1]}, "budgets must increase"),
        ({"epsilons": -1}, "epsilon must be a number of at least 0"),
        ({"key": "a"}, "key must be a JAX random key"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"norm": "l3"}, "norm must be one of"),
        ({"model": lambda x: jax.nn.softmax(job.model(x))}, "model returns probabilities"),
        ({"images": IMAGES * 255}, r"images must be in \[0, 1\].*divide values of 8 bits by 255"),
        ({"epsilons": [4, 8]}, "epsilon must be at most 1 in linf.*found 8: .*try 8 / 255"),
        ({"epsilons": 4.1, "norm": attack.l2}, "epsilon must be at most 4 in l2"),
        ({"images": IMAGES[0], "labels": 3}, r"images must have shape \(n, ...\).*for one image, give images\[None\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"images must be at least one; found none, shape \(0, 16\)"),
        ({"attacks": {"pgd": "pgd"}}, "attack 'pgd' must be a function of .*; found 'pgd': try diffprog.attack.pgd"),
        ({"attacks": {"patch": attack.patch}}, r"attack 'patch' needs \w+, which an evaluation does not give: bind it"),
        ({"directory": __file__}, "directory must be a folder that can be written; found .*: give another"),
        ({"labels": LABELS[1:]}, "labels must be one class index per image; found 21 for 22 images"),
        ({"labels": None}, "images in an array need labels"),
        ({"images": iter([]), "labels": None}, "images must be at least one; found none: was an iterable"),
    ],
)
def test_misuse_gets_one_sentence(options, sentence):
    given = {
        "model": job.model,
        "images": IMAGES,
        "labels": LABELS,
        "attacks": {"fgsm": attack.fgsm},
        "epsilons": [0.1],
        "key": jax.random.key(0),
        **options,
    }
    with pytest.raises(ValueError, match=sentence) as caught:
        attack.evaluate(given.pop("model"), given.pop("images"), given.pop("labels"), **given)
    assert "\n" not in str(caught.value)
