import re

import numpy as np
import pytest
from PIL import Image

from diffprog.cli import _fit as command
from diffprog.optimize import ENGINES


def accuracies(printed):
    return [float(number) for number in re.findall(r"([\d.]+)%$", printed, re.MULTILINE)]


def test_default_run_learns_the_digits_and_draws(tmp_path, capsys):
    picture = tmp_path / "new" / "curves.png"
    command.main(["--out", str(picture)])
    printed = capsys.readouterr().out
    rows = accuracies(printed)
    assert len(rows) == 6 and max(rows) >= 97 and min(rows) > 90
    assert str(picture) in printed
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert np.sum(np.all(pixels == color, axis=1)) > 500  # each batch size has its curves


def test_seed_and_engine(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "VARIANTS", command.VARIANTS[:4:3])

    def printed(*options):
        command.main(["--epochs", "1", "--out", str(tmp_path / "curves.png"), *options])
        return capsys.readouterr().out

    ours, theirs = (printed("--engine", engine) for engine in ENGINES)
    np.testing.assert_allclose(accuracies(ours), accuracies(theirs), atol=1.0)
    assert printed("--engine", "jax") == theirs != printed("--engine", "jax", "--seed", "1")


@pytest.mark.parametrize(
    "options", [["--epochs", "0"], ["--epochs", "many"], ["--engine", "torch"], ["--out", "/dev/null/x"]]
)
def test_bad_input_exits_with_2(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--epochs", "1", "--engine", "jax", *options])
    assert stopped.value.code == 2
    assert "diffprog fit: " in capsys.readouterr().err
