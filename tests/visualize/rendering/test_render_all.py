import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from diffprog import images
from diffprog.visualize import channel, layer, logit, pixels, render, render_all
from diffprog.visualize.gallery import read_cards
from tests.visualize import small

MODEL = small.model()
UNITS = {f"units:{i}": channel("units", i) for i in range(4)} | {"two": logit("two") - 0.5 * layer("units")}
HOW = {"name": "lucid", "size": 12, "steps": 5, "batch_size": 2}


def test_every_unit_is_drawn_as_it_is_alone(tmp_path):
    paths = render_all(MODEL, UNITS, tmp_path, **HOW)
    assert [path.name for path in paths] == [*(f"units_{i}.json" for i in range(4)), "two.json"]
    for unit, path in zip(UNITS, paths, strict=True):
        how = small_recipe(UNITS[unit])
        alone = render(MODEL, UNITS[unit], key=jax.random.key(0), **how)
        kept = images.read_image(path.with_suffix(".png"))
        np.testing.assert_allclose(kept, alone.images[0], atol=0.6 / 255)
        card = json.loads(path.read_text())
        np.testing.assert_allclose(card["history"], alone.scores[:, 0], rtol=1e-4, atol=1e-5)
    cards = {card.unit: card for card in read_cards(tmp_path)}
    assert (cards["units:3"].layer, cards["units:3"].channel, cards["units:3"].recipe) == ("units", 3, "lucid")
    assert set(cards["two"].term_histories) == {"two", "units"}
    assert (cards["two"].layer, cards["two"].channel) == ("logits, units", None)


def small_recipe(objective):
    from diffprog.visualize import recipe

    return recipe(MODEL, objective, "lucid", 12).options | {"steps": 5}


def test_what_is_finished_is_not_drawn_again(tmp_path, monkeypatch):
    paths = render_all(MODEL, UNITS, tmp_path, **HOW)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    paths[1].unlink()  # as if killed between a picture and its card
    paths[2].write_text("{")  # damaged
    drawn = []
    from diffprog.visualize._rendering import render_all as module

    monkeypatch.setattr(
        module,
        "render",
        lambda model, objectives, **how: drawn.append(len(objectives)) or render(model, objectives, **how),
    )
    render_all(MODEL, UNITS, tmp_path, **HOW)
    assert drawn == [2]
    assert {path.name for path in tmp_path.iterdir() if path.stat().st_mtime_ns != before[path]} == {
        "units_1.json",
        "units_1.png",
        "units_2.json",
        "units_2.png",
    }
    render_all(MODEL, UNITS, tmp_path, **HOW, seed=1)  # other settings: all anew
    assert drawn == [2, 2, 2, 1]


def test_a_job_that_is_killed_leaves_whole_files_and_goes_on(tmp_path):
    job = [sys.executable, "-m", "tests.visualize.rendering.long_job", str(tmp_path)]
    process = subprocess.Popen(job, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {card.unit: card.picture for card in read_cards(tmp_path)}  # each of them can be read
    assert 2 <= len(finished) < 40
    from tests.visualize.rendering import long_job

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    long_job.run(tmp_path)
    assert len(read_cards(tmp_path)) == 40
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_what_cannot_be_a_job_is_refused(tmp_path):
    for units, how, message in (
        ({}, {}, "objectives must be given"),
        ({"a:0": layer("units"), "a.0": layer("units"), "a 0": layer("units")}, {}, "kept in the same file"),
        (
            UNITS,
            {"parameterization": pixels(12)},
            "parameterization of a long job must be a number, a text or an array",
        ),
        ({"x": channel("units", 9)}, {}, "units has channels 0 to 3; found 9"),
        (UNITS, {"name": "lucit"}, "there is no recipe 'lucit'; did you mean 'lucid'"),
    ):
        with pytest.raises(ValueError, match=message):
            render_all(MODEL, units, tmp_path, **HOW | how)
    assert not list(tmp_path.iterdir())
