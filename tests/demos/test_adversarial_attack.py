import re
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from demos import adversarial_attack
from diffprog import models
from diffprog.images import network_crop, read_image

LOAD = lru_cache(models.load)  # compiled once for all the tests


@pytest.fixture(autouse=True)
def one_model(monkeypatch):
    monkeypatch.setattr(models, "load", LOAD)


def test_the_cat_becomes_an_ostrich_on_disk(tmp_path, capsys):
    adversarial_attack.main(["--out", str(tmp_path / "new" / "cat.png")])
    printed = capsys.readouterr().out
    assert "the attack survives saving" in printed and "photograph    tiger cat" in printed
    assert Image.open(tmp_path / "new" / "cat.png").size == (1200, 600)

    saved = read_image(tmp_path / "new" / "cat_image.png")  # judged here from the file alone
    model = models.load("efficientnet_lite0")
    name, index, probability = model.top(saved[None], 1)[0][0]
    assert index == 9 and name.startswith("ostrich") and probability > 0.99
    steps = np.round((saved - network_crop(read_image(adversarial_attack.CAT))) * 255)
    assert np.abs(steps).max() == 4


def test_untargeted_l2_and_engine(tmp_path, capsys):
    rocket = adversarial_attack.CAT.with_name("rocket.jpg")
    arguments = [str(rocket), "--target", "none", "--norm", "l2", "--epsilon", "0.8", "--steps", "3", "--out"]
    printed = []
    for engine in ("diffprog", "jax"):
        adversarial_attack.main([*arguments, str(tmp_path / "picture.png"), "--engine", engine])
        printed.append(capsys.readouterr().out)
    for text in printed:
        assert "photograph    missile" in text and "perturbed     missile" not in text
        size = re.search(r"perturbation  L2 ([\d.]+), at most 0.8 allowed", text)[1]
        assert float(size) == pytest.approx(0.8, abs=0.01)
    seen = [re.search(r"perturbed     (.*) ([\d.]+)%", text).groups() for text in printed]
    assert seen[0][0] == seen[1][0] and float(seen[0][1]) == pytest.approx(float(seen[1][1]), abs=2)


def test_a_failure_is_called_one(tmp_path, capsys):
    adversarial_attack.main(["--epsilon", "1e-6", "--steps", "5", "--out", str(tmp_path / "x.png")])
    printed = capsys.readouterr().out
    assert "no success in 5 steps" in printed and "nothing to survive" in printed and "survives" not in printed


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["{folder}/missing.png"], "missing.png: no such file"),
    (["{folder}/text.png"], "text.png: not an image"),
    (["{folder}/cut.png"], "cut.png: cannot be read"),
    (["--target", "ostritch"], "no class is called 'ostritch'; did you mean 'ostrich'"),
    (["--target", "1000"], "class 1000 does not exist"),
    (["--target", "tiger cat"], "is classified as tiger cat already"),
    (["--epsilon", "4/0"], "expected a positive number such as 0.02 or 4/255; found '4/0'"),
    (["--epsilon", "-1"], "expected a positive number"),
    (["--steps", "0"], "expected a whole number of at least 1; found '0'"),
    (["--out", "{folder}/text.png/picture.png"], "File exists"),
    (["--norm", "l1"], "invalid choice: 'l1'"),
])
def test_bad_input_exits_with_2_and_one_sentence(arguments, sentence, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(adversarial_attack.CAT.read_bytes()[:20_000])
    with pytest.raises(SystemExit) as stopped:
        adversarial_attack.main([argument.format(folder=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in error and "Traceback" not in error
    assert not list(tmp_path.glob("*_image.png"))
