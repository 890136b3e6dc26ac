"""An evaluation is what methods and measures say one by one; it goes on after a kill, and refuses what changed."""

import json
import re
from functools import partial
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute, models
from diffprog.attribute import measures
from diffprog.images import save_png

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.uniform(size=(7, 12, 12, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
MASKS = np.zeros((7, 12, 12), bool)
MASKS[:, 2:8, 3:9] = True
PARAMETERS = {
    "a": jnp.asarray(GENERATOR.normal(size=(3, 8)), jnp.float32),
    "b": jnp.asarray(GENERATOR.normal(size=(72, 3)) / 4, jnp.float32),
}


def network(parameters, images):
    x = dp.tap(jax.nn.relu((images - 0.5) @ parameters["a"]), "conv")
    yield "conv", x
    yield "logits", x.reshape(len(x), 3, 4, 3, 4, 8).mean(axis=(2, 4)).reshape(len(x), -1) @ parameters["b"]


MODEL = models.Model("small", network, PARAMETERS, ("ant", "bee", "cat"), 12, 12)
METHODS = {
    "gradient": {},
    "IG, gray": ("integrated_gradients", {"baseline": 0.5, "steps": 5}),
    "smooth_gradient": {"samples": 4},
}
MEASURES = {"deletion": {"steps": 6}, "insertion": {"steps": 6}, "sparseness": {}, "energy": {}}
OPTIONS = {"methods": METHODS, "measures": MEASURES, "masks": MASKS, "key": 0, "batch_size": 3}


def evaluate(model=MODEL, images=IMAGES, labels=LABELS, **more):
    return attribute.evaluate(model, images, labels, **(OPTIONS | more))


def values(evaluation):
    return {
        (method, measure): found.value
        for method, record in evaluation.methods.items()
        for measure, found in record.measured.items()
    }


def assert_same(one, other):
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    for name, found in one.items():
        np.testing.assert_array_equal(found, other[name], err_msg=str(name))


@pytest.fixture(scope="module")
def whole():
    return evaluate()


def test_it_says_what_methods_and_measures_say(whole):
    found = attribute.integrated_gradients(MODEL, IMAGES, LABELS, baseline=0.5, steps=5)
    record = whole.methods["IG, gray"]
    np.testing.assert_array_equal(record.score, np.asarray(found.score, np.float64))
    np.testing.assert_array_equal(record.gap, np.asarray(found.gap, np.float64))
    np.testing.assert_array_equal(record.measured["energy"].value, measures.energy(found, MASKS).value)
    deletion = measures.deletion(MODEL, IMAGES, found, LABELS, steps=6, is_probability=True)
    np.testing.assert_array_equal(record.measured["deletion"].value, deletion.value)
    np.testing.assert_array_equal(record.measured["deletion"].curve, deletion.curve)
    start = attribute.baselines.rise_blur()
    insertion = measures.insertion(MODEL, IMAGES, found, LABELS, steps=6, is_probability=True, baseline=start)
    np.testing.assert_array_equal(record.measured["insertion"].value, insertion.value)
    logits = np.asarray(MODEL(IMAGES), np.float64)
    np.testing.assert_array_equal(whole.predictions, logits.argmax(axis=1))
    np.testing.assert_allclose(whole.probabilities, jax.nn.softmax(logits)[np.arange(7), LABELS], rtol=1e-5)
    np.testing.assert_allclose(record.maps, np.asarray(found.values)[:6].sum(axis=-1), rtol=1e-5, atol=1e-6)
    mean, error, missing = whole.average("IG, gray", "energy")
    energy = record.measured["energy"].value
    np.testing.assert_allclose([mean, error], [energy.mean(), energy.std(ddof=1) / np.sqrt(7)])
    assert missing == 0


def test_nothing_depends_on_batches_or_on_the_other_methods(whole):
    assert_same(evaluate(batch_size=7), whole)
    alone = evaluate(methods={"smooth_gradient": METHODS["smooth_gradient"]})
    for (method, measure), found in values(alone).items():
        np.testing.assert_array_equal(found, whole.methods[method].measured[measure].value)


class Killed(Exception):
    """What stands for a kill."""


def test_a_killed_run_goes_on(whole, tmp_path, monkeypatch):
    """Whenever it is killed: the same bits, and nothing is computed twice."""
    saves = []
    from diffprog._util.kept_results import Results

    save = Results.save

    def dying(self, *arguments):
        saves.append(str(self))
        if len(saves) == limit:
            raise Killed
        return save(self, *arguments)

    monkeypatch.setattr(Results, "save", dying)
    for limit in (2, 5, 11, None):  # of the entries that are left
        saves.clear()
        if limit is None:
            assert_same(evaluate(directory=tmp_path), whole)
        else:
            with pytest.raises(Killed):
                evaluate(directory=tmp_path)
    total = 3 * (1 + 3 * (1 + 4)) + 3 * 2  # of the clean images, each method, its measures; maps of the first six
    assert len(saves) == total - (1 + 4 + 10)
    saves.clear()
    assert_same(evaluate(directory=tmp_path, batch_size=5), whole)
    assert saves == []


def test_more_and_fewer(whole, tmp_path):
    few = evaluate(directory=tmp_path, methods=["gradient"], measures=["sparseness"])
    assert list(few.methods) == ["gradient"] and list(few.measures) == ["sparseness"]
    assert_same(evaluate(directory=tmp_path), whole)
    seven = evaluate(directory=tmp_path, max_maps=7)
    assert seven.methods["gradient"].maps.shape == (7, 12, 12) and seven.images.shape == IMAGES.shape
    np.testing.assert_array_equal(seven.methods["gradient"].maps[:6], whole.methods["gradient"].maps)
    part = evaluate(directory=tmp_path, images=IMAGES[:4], labels=LABELS[:4], masks=MASKS[:4])
    for name, found in values(part).items():
        np.testing.assert_array_equal(found, values(whole)[name][:4])


def gray(model, inputs, score):
    return attribute.gradient_times_input(model, inputs, score, baseline=0.5)


def black(model, inputs, score):
    return attribute.gradient_times_input(model, inputs, score, baseline=0.0)


def test_what_changed_is_named(tmp_path):
    evaluate(directory=tmp_path, methods=METHODS | {"own": gray})
    changes = [
        ({"images": 1 - IMAGES}, r"holds an evaluation of other images, labels or masks \(image 0\)"),
        ({"labels": 2 - LABELS}, r"of other images, labels or masks \(image 0\)"),
        ({"masks": ~MASKS}, r"of other images, labels or masks \(image 0\)"),
        ({"key": 1}, r"of other settings \(settings.key"),
        (
            {"methods": {"IG, gray": ("integrated_gradients", {"steps": 6})}},
            r"methods.IG, gray.arguments.baseline: 0.5",
        ),
        ({"measures": {"deletion": {"steps": 5}}}, r"measures.deletion.arguments.steps: 6, not 5"),
        ({"methods": {"own": black}}, r"own.function: gray, not black"),
        (
            {"model": models.Model("small", network, jax.tree.map(lambda x: x + 1, PARAMETERS), MODEL.labels, 12, 12)},
            r"of another model \(its code or its arrays\)",
        ),
    ]
    for change, message in changes:
        with pytest.raises(ValueError, match=message):
            evaluate(directory=tmp_path, **change)
    black.__qualname__ = "gray"
    with pytest.raises(ValueError, match=r"of another method 'own' \(its code, or what it reads\)"):
        evaluate(directory=tmp_path, methods={"own": black})


def test_a_damaged_file_is_made_anew(whole, tmp_path):
    evaluate(directory=tmp_path)
    (path,) = (tmp_path / "methods/gradient/measures/sparseness").glob("000003-*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(evaluate(directory=tmp_path), whole)


def test_a_folder_and_an_iterable(whole, tmp_path):
    pictures = np.rint(IMAGES * 255).astype(np.float32) / 255
    order = np.argsort(LABELS, kind="stable")
    for number in order:
        save_png(tmp_path / MODEL.labels[LABELS[number]] / f"{number}.png", pictures[number])
    of_folder = evaluate(images=tmp_path, labels=None, masks=MASKS[order], preprocess=lambda image: image)
    one_by_one = ((pictures[[i]], LABELS[[i]]) for i in order)
    of_iterable = evaluate(images=one_by_one, labels=None, masks=MASKS[order])
    assert_same(of_folder, of_iterable)
    assert_same(of_folder, evaluate(images=pictures[order], labels=LABELS[order], masks=MASKS[order]))


def test_pictures_in_mosaics():
    cells = np.arange(7) % 4
    found = evaluate(methods=["gradient"], measures=None, masks=None, cells=cells)
    assert list(found.measures) == ["insertion", "deletion", "road", "mu_fidelity", "complexity", "grid_pointing"]
    truth = measures.grid_pointing(attribute.gradient(MODEL, IMAGES, LABELS), cells)
    np.testing.assert_array_equal(found.methods["gradient"].measured["grid_pointing"].value, truth.value)


def test_measures_that_run_the_method_again():
    found = evaluate(
        methods={"gradient": {}}, measures={"randomization": {"steps": 2}, "max_sensitivity": {"samples": 2}}
    )
    for name, value in values(found).items():
        assert np.isfinite(value).all(), name
    key = jax.random.fold_in(jax.random.key(0), np.uint32(crc32(b"randomization")))
    again = measures.randomization(MODEL, IMAGES, attribute.gradient, LABELS, steps=2, key=key)
    np.testing.assert_array_equal(found.methods["gradient"].measured["randomization"].value, again.value)


def test_maps_of_a_layer_are_measured_too():
    """A layer's map is measured at the size of the inputs; a baseline for all methods is not for Grad-CAM."""
    found = evaluate(methods={"CAM": ("grad_cam", {"at": "conv"})}, baseline=0.5)
    maps = attribute.grad_cam(MODEL, IMAGES, LABELS, at="conv")
    np.testing.assert_array_equal(
        found.methods["CAM"].measured["energy"].value, measures.energy(maps.values["conv"], MASKS).value
    )
    assert found.methods["CAM"].maps.shape == (6, 12, 12)


def test_a_table_of_rows():
    rows = GENERATOR.normal(size=(5, 4)).astype(np.float32)
    weights = jnp.asarray(GENERATOR.normal(size=(4, 3)), jnp.float32)
    found = attribute.evaluate(
        lambda x: jnp.tanh(x @ weights), rows, np.arange(5) % 3, methods=["gradient", "shapley"], key=0, baseline=0.1
    )
    assert list(found.measures) == ["insertion", "deletion", "mu_fidelity", "complexity"]
    np.testing.assert_allclose(found.methods["shapley"].gap, 0, atol=1e-6)


def test_the_report(whole, tmp_path):
    whole.write(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    energy = report["methods"]["gradient"]["measures"]["energy"]
    np.testing.assert_allclose(energy["values"], whole.methods["gradient"].measured["energy"].value)
    assert report["better"] == {"deletion": "low", "insertion": "high", "sparseness": "high", "energy": "high"}
    best = {name: whole.best(name) for name in whole.measures}
    means = {name: whole.average(name, "deletion").mean for name in METHODS}
    assert best["deletion"] == min(means, key=means.get)
    table = (tmp_path / "report.md").read_text()
    assert table.count("**") == 2 * 4 and "| IG, gray " in table
    assert str(whole).count(" *") >= 4
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 6 * (1 + 3) and page.count("<svg") == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": "gradient"}, "methods must be names, or a dict"),
        ({"methods": []}, "methods must be names, or a dict"),
        ({"methods": ["gradients"]}, "methods has no 'gradients': there are gradient, "),
        ({"methods": ["conductance"]}, "method 'conductance' needs at, which an evaluation does not give"),
        ({"methods": {"gradient": {"step": 3}}}, "method 'gradient' has no option 'step'"),
        ({"measures": ["deletions"]}, "measures has no 'deletions'"),
        ({"measures": {"own": lambda: 0}}, "measure 'own' must be one of insertion"),
        ({"masks": None}, "measure 'energy' needs masks="),
        ({"masks": MASKS[:3]}, "masks must be one for each image; found 3 for more images"),
        ({"masks": MASKS * 1.0}, "masks must be bool"),
        ({"cells": np.full(7, 4)}, "cells must be integers"),
        ({"labels": LABELS + 1}, "labels must be classes of the model, 0 to 2; found 3"),
        ({"methods": {"own": lambda *_: IMAGES}}, "method must return an Attribution"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images must be at least one"),
        ({"engine": "torch"}, "engine"),
    ],
)
def test_bad_input_gets_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**change)


def test_a_partial_is_a_method(whole):
    found = evaluate(methods={"mine": partial(attribute.integrated_gradients, baseline=0.5, steps=5)})
    for measure in MEASURES:
        one, other = found.methods["mine"].measured[measure], whole.methods["IG, gray"].measured[measure]
        np.testing.assert_array_equal(one.value, other.value)
