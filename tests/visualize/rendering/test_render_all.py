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
from diffprog._util.file_names import file_name
from diffprog.models import wrap
from diffprog.visualize import channel, layer, logit, objective, pixels, render, render_all, transforms
from diffprog.visualize.gallery import gallery_from, read_cards
from tests.visualize import small

MODEL = small.model()
UNITS = {f"units:{i}": channel("units", i) for i in range(4)} | {"two": logit("two") - 0.5 * layer("units")}
HOW = {"name": "lucid", "size": 12, "steps": 5, "batch_size": 2}


def test_every_unit_is_drawn_as_it_is_alone(tmp_path):
    paths = render_all(MODEL, UNITS, tmp_path, **HOW)
    assert [path.name for path in paths] == [*(f"{file_name(f'units:{i}')}.json" for i in range(4)), "two.json"]
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
    with pytest.warns(UserWarning, match=f"{paths[2].name} is damaged"):
        render_all(MODEL, UNITS, tmp_path, **HOW)
    assert drawn == [2]
    aside = {f"{paths[2].name}.damaged"}
    assert {path.name for path in tmp_path.iterdir() if path.stat().st_mtime_ns != before.get(path)} == aside | {
        path.with_suffix(suffix).name for path in paths[1:3] for suffix in (".json", ".png")
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
        ({"": layer("units"), "a": layer("units")}, {}, "a unit's name must be a text that is not empty; found ''"),
        ({3: layer("units")}, {}, "a unit's name must be a text that is not empty; found 3"),
        ({"x": channel("units", 9)}, {}, "units has channels 0 to 3; found 9"),
        (UNITS, {"name": "lucit"}, "there is no recipe 'lucit'; did you mean 'lucid'"),
    ):
        with pytest.raises(ValueError, match=message):
            render_all(MODEL, units, tmp_path, **HOW | how)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"folder must be a folder that can be written; found .*file \(.*\): give another"
    ):
        render_all(MODEL, UNITS, tmp_path / "file", **HOW)


# ---------------------------------------------------------------- what made a card


def one_layer(weights, name="small"):
    return wrap(lambda w, images: (images @ w).mean((1, 2)), weights, size=8, name=name)


def weights(seed=0):
    return np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)


def stamp(folder, model, objectives, **how):
    """Draw, and tell which files are new."""
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()} if folder.exists() else {}
    render_all(model, objectives, folder, **{"steps": 2, "size": 8, "transform": transforms.still, **how})
    return {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before.get(path)}


def scorer(factor):
    return objective(lambda values: factor * values["logits"][:, 0], "logits", "mine")


def test_a_card_is_drawn_anew_exactly_where_something_that_made_it_changed(tmp_path):
    how = {"a": {"mine": scorer(1)}, "model": one_layer(weights())}
    draw = lambda model=how["model"], objectives=how["a"], **options: stamp(tmp_path, model, objectives, **options)
    both = {"mine.json", "mine.png"}
    assert draw() == both
    assert draw() == draw(one_layer(weights())) == draw(objectives={"mine": scorer(1)}) == set()
    assert draw(transform=transforms.chain()) in (set(), both)  # `still` may be another object than an empty chain
    draw()
    assert draw(engine="jax") == set()
    for change in (
        {"model": one_layer(weights(1))},
        {"objectives": {"mine": scorer(2)}},
        {"objectives": {"mine": 2 * scorer(1)}},
        {"transform": transforms.jitter(1)},
        {"parameterization": pixels(8)},
        {"learning_rate": 0.1},
        {"steps": 3},
        {"seed": 1},
    ):
        assert draw(**change) == both and draw(**change) == set()
    assert draw(parameterization=pixels(8)) == both and draw(parameterization=pixels(8)) == set()
    (tmp_path / "mine.png").write_bytes((tmp_path / "mine.png").read_bytes()[:-40])
    with pytest.warns(UserWarning, match="mine.png is damaged"):
        assert draw(parameterization=pixels(8)) == both | {"mine.png.damaged"}


def test_an_objective_that_cannot_be_compared_is_drawn_by_every_run(tmp_path):
    numbers = (number for number in [1])
    mine = {"mine": objective(lambda values: values["logits"][:, 0] + 0 * id(numbers), "logits", "mine")}
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"mine.*numbers is a generator, which cannot be compared from run to run"):
            assert stamp(tmp_path, one_layer(weights()), mine) == {"mine.json", "mine.png"}


def test_a_unit_that_is_not_finite_leaves_the_others_in_peace(tmp_path):
    broken = weights()
    broken[:, [1, 3]] = np.nan
    units = {f"class {index}": logit(index) for index in range(4)}
    with pytest.raises(ValueError, match=r"2 of 4 units are not drawn, all others are: .* is nan at step 0"):
        stamp(tmp_path, one_layer(broken), units)
    assert {card.unit for card in read_cards(tmp_path)} == {"class 0", "class 2"}
    with pytest.raises(ValueError, match=r"unit 'class 3' is not drawn"):
        stamp(tmp_path / "alone", one_layer(broken), {"class 3": logit(3)})
    alone = render(one_layer(broken), logit(2), key=jax.random.key(0), **small_how())
    card = {card.unit: card for card in read_cards(tmp_path)}["class 2"]
    np.testing.assert_allclose(card.picture, alone.images[0], atol=0.6 / 255)


def small_how():
    from diffprog.visualize import recipe

    return recipe(one_layer(weights()), logit(2), "default", 8).options | {"steps": 2, "transform": transforms.still}


def test_every_name_has_files_of_its_own(tmp_path):
    names = ["a:3", "a 3", "a_3", "A_3", "nul", "x" * 300, "contact_sheet", "../up", "a.example0", "a"]
    for name in names:
        stamp(tmp_path, one_layer(weights()), {name: logit(0)})
    gallery_from(tmp_path)
    assert {card.unit for card in read_cards(tmp_path)} == set(names)
    assert not [path for path in tmp_path.parent.glob("*.json")]
