"""`diffprog attribute`: maps of a photograph by many methods."""

import json
import re
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from diffprog import attribute, models
from diffprog.cli import _attribute as command
from diffprog.cli._attribution_recipes import BASELINES, RECIPES, grays
from diffprog.images import network_crop, read_image
from tests.models.test_text_encoder import tiny

LOAD = lru_cache(models.load)  # compiled once for all the tests
CAT = network_crop(read_image(command.CAT))[None]


@pytest.fixture(autouse=True)
def one_model(monkeypatch):
    monkeypatch.setattr(models, "load", LOAD)


def test_two_methods_on_the_cat(tmp_path, capsys):
    folder = tmp_path / "new"
    command.main(["--method", "gradient_times_input", "gradient-times-last", "--directory", str(folder)])
    printed = capsys.readouterr().out
    assert "efficientnet_lite0 sees tiger cat 39%; explained is the logit of tiger cat" in printed
    assert {path.name for path in folder.iterdir()} == {
        "sheet.png",
        "attribution.json",
        "gradient_times_input.png",
        "gradient_times_last.png",
    }
    result = attribute.gradient_times_input(LOAD("efficientnet_lite0"), CAT, "tiger cat")
    facts = json.loads((folder / "attribution.json").read_text())["methods"]
    found = facts["gradient_times_input"]
    assert found["gap"] == pytest.approx(float(result.gap[0]), rel=1e-4) and found["evaluations"] == 2
    assert found["sum"] == pytest.approx(np.asarray(result.values, np.float64).sum(), rel=1e-4)
    # Behind the last layer everything is linear: its values times their gradients are the whole score.
    assert abs(facts["gradient_times_last"]["gap"]) < 1e-4
    assert re.search(rf"gradient_times_input +{found['sum']:.4g} +\{found['gap']:+.3g} +2 ", printed)
    assert Image.open(folder / "sheet.png").size[0] == 3 * 240 + 16


def test_json_alone_and_a_contrast(tmp_path, capsys):
    arguments = ["--class", "tabby", "--against", "lynx", "--method", "gradient", "--json"]
    command.main([*arguments, "--directory", str(tmp_path)])
    report = json.loads(capsys.readouterr().out)
    logits = np.asarray(LOAD("efficientnet_lite0")(CAT))[0]
    names = LOAD("efficientnet_lite0").label_index
    assert report["score"] == "the logit of tabby minus that of lynx"
    found = report["methods"]["gradient"]
    assert found["score"] == pytest.approx(float(logits[names("tabby")] - logits[names("lynx")]), rel=1e-4)
    assert found["gap"] is None and found["unruled"] == []


def test_an_interrupt_keeps_what_is_done(tmp_path, monkeypatch, capsys):
    run, calls = command.RECIPES["gradient"].run, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments)

    recipe = type("Recipe", (), {"title": "a", "run": staticmethod(interrupted)})
    other = type("Recipe", (), {"title": "b", "run": staticmethod(interrupted)})
    monkeypatch.setitem(command.RECIPES, "gradient", recipe)
    monkeypatch.setitem(command.RECIPES, "lrp", other)
    with pytest.raises(SystemExit) as stopped:
        command.main(["--method", "gradient", "lrp", "--directory", str(tmp_path)])
    assert stopped.value.code == 130 and "interrupted" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "attribution.json").read_text())["methods"]) == ["gradient"]
    assert Image.open(tmp_path / "sheet.png").size[0] == 2 * 240 + 16


def test_two_texts(tmp_path, capsys, monkeypatch):
    encoder = tiny()[0]
    monkeypatch.setattr(models, "load_text", lambda: encoder)
    command.main(["--text", "w1 w2", "w2 w7", "--directory", str(tmp_path)])
    printed = capsys.readouterr().out
    found = attribute.similarity(encoder, "w1 w2", "w2 w7")
    assert f"similarity {found.similarity:.3f}" in printed and "\x1b" not in printed
    assert "w7</b>" in (tmp_path / "similarity.html").read_text(encoding="utf-8")
    command.main(["--text", "w1 w2", "w2 w7", "--json", "--directory", str(tmp_path)])
    report = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(report["pairs"], found.pairs)
    assert report["words"] == [["w1", "w2"], ["w2", "w7"]] and report["similarity"] == found.similarity


def test_the_list_is_made_from_the_recipes(capsys):
    command.main(["--list-methods"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(RECIPES)
    assert (
        "Integrate the gradient on the way from the baseline to the input."
        in rows[list(RECIPES).index("integrated_gradients")]
    )
    for recipe in RECIPES.values():
        assert hasattr(attribute, recipe.method)
    assert len(RECIPES) >= 12


def test_baselines():
    model = LOAD("efficientnet_lite0")
    settings = (BASELINES["gray"](), 0, "diffprog", None)
    found = RECIPES["gradient_times_input"].run(model, CAT, 282, *settings)
    assert found.baseline_score[0] == pytest.approx(float(model(CAT * 0 + 0.5)[0, 282]), rel=1e-3)
    assert "baseline" not in RECIPES["gradient"].options and not RECIPES["gradient"].takes_baseline
    assert set(np.unique(grays(CAT)[3])) == {np.float32(3 / 15)} and grays(CAT).shape == (16, *CAT.shape[1:])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{folder}/missing.png"], "missing.png: no such file"),
        (["--class", "tabbi"], "efficientnet_lite0 has no class 'tabbi'; did you mean 'tabby'"),
        (["--class", "tabby", "--against", "tabby"], "--against must be another class than tabby"),
        (
            ["--method", "integrated_gradient"],
            "there is no method 'integrated_gradient'; did you mean 'integrated_gradients",
        ),
        (["--baseline", "grey"], "invalid choice: 'grey'"),
        (["--directory", "{folder}/text.png"], "--directory must be a folder that can be written"),
    ],
)
def test_bad_input_exits_with_2_and_one_sentence(arguments, sentence, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(SystemExit) as stopped:
        command.main(
            ["--directory", str(tmp_path / "out"), *(argument.format(folder=tmp_path) for argument in arguments)]
        )
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in error and "Traceback" not in error
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.slow
def test_methods_are_evaluated_on_a_folder(tmp_path, capsys):
    photographs = tmp_path / "photographs"
    (photographs / "tiger cat").mkdir(parents=True)
    Image.open(command.CAT).save(photographs / "tiger cat" / "cat.png")
    words = ["--evaluate", str(photographs), "--method", "gradient", "gradient_times_last"]
    command.main([*words, "--directory", str(tmp_path / "report")])
    printed = capsys.readouterr().out
    assert "gradient_times_last" in printed and "insertion" in printed
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "gradient" in json.dumps(report)
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
