import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffprog import attack, models
from diffprog.cli import _attack as command
from diffprog.images import network_crop, read_image

LOAD = lru_cache(models.load)  # compiled once for all the tests


@pytest.fixture(autouse=True)
def one_model(monkeypatch):
    monkeypatch.setattr(models, "load", LOAD)


def test_the_cat_becomes_an_ostrich_on_disk(tmp_path, capsys):
    command.main(["--steps", "10", "--out", str(tmp_path / "new" / "cat.png")])
    printed = capsys.readouterr().out
    assert "the attack survives saving" in printed and "photograph    tiger cat" in printed
    assert Image.open(tmp_path / "new" / "cat.png").size == (1200, 600)

    saved = read_image(tmp_path / "new" / "cat_image.png")  # judged here from the file alone
    model = models.load("efficientnet_lite0")
    name, index, probability = model.top(saved[None], 1)[0][0]
    assert index == 9 and name.startswith("ostrich") and probability > 0.99
    steps = np.round((saved - network_crop(read_image(command.CAT))) * 255)
    assert np.abs(steps).max() == 4


@pytest.mark.slow
def test_untargeted_l2_and_engine(tmp_path, capsys):
    rocket = Path(__file__).parents[2] / "assets" / "rocket.jpg"
    arguments = [str(rocket), "--target", "none", "--norm", "l2", "--epsilon", "0.8", "--steps", "3", "--out"]
    printed = []
    for engine in ("diffprog", "jax"):
        command.main([*arguments, str(tmp_path / "picture.png"), "--engine", engine])
        printed.append(capsys.readouterr().out)
    for text in printed:
        assert "photograph    missile" in text and "perturbed     missile" not in text
        size = re.search(r"perturbation  L2 ([\d.]+), at most 0.8 allowed", text)[1]
        assert float(size) == pytest.approx(0.8, abs=0.01)
    seen = [re.search(r"perturbed     (.*) ([\d.]+)%", text).groups() for text in printed]
    assert seen[0][0] == seen[1][0] and float(seen[0][1]) == pytest.approx(float(seen[1][1]), abs=2)


def test_a_failure_is_called_one(tmp_path, capsys):
    options = ["--target", "none", "--norm", "l2", "--engine", "jax"]
    command.main(["--epsilon", "1e-6", "--steps", "2", "--out", str(tmp_path / "x.png"), *options])
    printed = capsys.readouterr().out
    assert "no success in 2 steps" in printed and "nothing to survive" in printed and "survives" not in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{folder}/missing.png"], "missing.png: no such file"),
        (["{folder}/text.png"], "text.png: not an image"),
        (["{folder}/cut.png"], "cut.png: cannot be read"),
        (["--target", "ostritch"], "efficientnet_lite0 has no class 'ostritch'; did you mean 'ostrich'"),
        (["--target", "1000"], "has the classes 0 to 999; found 1000"),
        (["--target", "tiger cat"], "is classified as tiger cat already"),
        (["--epsilon", "4/0"], "expected a positive number such as 0.02 or 4/255; found '4/0'"),
        (["--epsilon", "-1"], "expected a positive number"),
        (["--steps", "0"], "expected a whole number of at least 1; found '0'"),
        (["--out", "{folder}/text.png/picture.png"], "File exists"),
        (["--norm", "l3"], "invalid choice: 'l3'"),
        (["--norm", "l0"], "pgd measures perturbations in linf, l2, l1; found --norm l0: choose another"),
        (["--attack", "pdg"], "no attack on photographs is called 'pdg'; there are fgsm, "),
        (["--attack", "pgd,bim"], "a photograph takes one attack; found 2"),
        (["--attack", "fab", "--target", "ostrich"], "fab takes no target; found 'ostrich'"),
        (["--attack", "hop_skip_jump", "--evaluate", "digits", "--network", "digit"], "there is no network 'digit'"),
        (["--attack", "pgd,ddn", "--evaluate", "digits", "--network", "digits"], "ddn does not search in linf"),
        (["--evaluate", "{folder}"], "one folder for each class; found no image files there"),
    ],
)
def test_bad_input_exits_with_2_and_one_sentence(arguments, sentence, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(command.CAT.read_bytes()[:20_000])
    with pytest.raises(SystemExit) as stopped:
        command.main([argument.format(folder=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in error and "Traceback" not in error
    assert not list(tmp_path.glob("*_image.png"))


@pytest.mark.slow
def test_a_search_for_the_smallest_survives_or_not(tmp_path, capsys):
    """DDN keeps to 256 levels: what it finds is what the PNG holds, and smaller than the budget of the default."""
    command.main(
        ["--attack", "ddn", "--target", "none", "--steps", "20", "--survive", "--out", str(tmp_path / "cat.png")]
    )
    printed = capsys.readouterr().out
    size, saved = (float(each) for each in re.findall(r"L2 ([\d.]+)", printed))
    assert 0 < size < 1 and saved == size and "the attack survives saving" in printed
    assert re.search(r"^PNG +the attack survives$", printed, re.M)
    cat = command.CAT
    before = models.load("efficientnet_lite0").top(network_crop(read_image(cat))[None], 1)[0][0][1]
    compressed = attack.survives_distortions(
        LOAD("efficientnet_lite0"), read_image(tmp_path / "cat_image.png")[None], [before]
    )
    verdict = "survives" if compressed["JPEG, quality 50"][0] else "is gone"
    assert re.search(rf"^JPEG, quality 50 +the attack {verdict}$", printed, re.M)


@pytest.mark.slow
def test_a_curve_of_eight_budgets(tmp_path, capsys):
    command.main(["--steps", "4", "--curve", "--epsilon", "8/255", "--out", str(tmp_path / "cat.png")])
    rows = capsys.readouterr().out.split("L-infinity  ")[-1].splitlines()[1:10]
    assert [row.split()[0] for row in rows] == ["0", *(f"{level}.00/255" for level in range(1, 9))]
    ostrich = [float(row.split()[2].rstrip("%")) for row in rows]
    assert ostrich[0] < 1 and ostrich[-1] > 90
    assert (tmp_path / "cat_curve.png").is_file()


def test_an_evaluation_of_the_digits(tmp_path, capsys):
    arguments = [
        "--evaluate",
        "digits",
        "--network",
        "digits_robust",
        "--attack",
        "fgsm,pgd",
        "--epsilon",
        "0.15",
        "--steps",
        "10",
        "--batch",
        "357",
        "--out",
        str(tmp_path / "report"),
    ]
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "fgsm takes no --max-steps; found 10" in capsys.readouterr().err
    arguments.remove("--steps"), arguments.remove("10")
    command.main(arguments)
    printed = capsys.readouterr().out
    assert "98.3 % of 357 images are classified correctly" in printed and "worst case" in printed
    assert (tmp_path / "report" / "report.html").is_file() and (tmp_path / "report" / "curves.png").is_file()


def test_the_list_of_attacks_is_the_one_in_the_readme(capsys):
    command.main(["--list-attacks"])
    readme = (command.CAT.parents[2] / "attack" / "README.md").read_text()
    assert capsys.readouterr().out in readme
