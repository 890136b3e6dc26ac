"""The command that races optimizers, as its user runs it."""

import re

import numpy as np
import pytest
from PIL import Image

from diffprog.cli import _optimize as command
from diffprog.optimize._page.families import known_optimizers

MINE = """
import jax.numpy as jnp
def valley():
    return (lambda v: (1 - v[0]) ** 2 + 5 * (v[1] - v[0] ** 2) ** 2), (jnp.array([-1.0, 2.0], jnp.float32),)
def tree():
    start = {"w": jnp.zeros(3, jnp.float32), "b": jnp.float32(2.0)}
    return (lambda p: jnp.sum((p["w"] - 1) ** 2) + p["b"] ** 4), (start,)
def pair():
    return (lambda x, y: (x - 3) ** 2 + (y + 1) ** 2), (jnp.float32(0.0), jnp.float32(0.0))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Words of the command line -> what it prints; its files are in `out`."""
    (tmp_path / "mine_to_optimize.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        command.main([*arguments, "--out", "out"])
        return capsys.readouterr().out

    return run


def rows(printed):
    """The table: for each optimizer its cells."""
    lines = printed.splitlines()
    head = next(line for line in lines if line.startswith("optimizer"))
    table = lines[lines.index(head) + 1 :]
    return {re.split(r"  +", line)[0]: re.split(r"  +", line)[1:] for line in table if re.search(r"\d", line)}


def colors(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(map(int, color)) for color in np.unique(pixels, axis=0)}


def test_a_function_of_two_numbers_has_table_picture_and_page(run, tmp_path):
    printed = run("--function", "mine_to_optimize:valley", "--optimizer", "heavy-ball", "L-BFGS", "--max-steps", "60")
    table = rows(printed)
    assert list(table)[:2] == ["heavy ball", "L-BFGS"]
    value, steps, functions, gradients = (float(x) for x in table["L-BFGS"][:4])
    assert value < 1e-8 and functions == gradients == steps + 1 < 60
    assert "curvatures 0.3875 and 51.61" in printed and "the gradient is small enough" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"optimize.png", "optimize.html"}
    assert {(0x1D, 0x1C, 0x1A), (0xD5, 0x5E, 0x00)} <= colors(tmp_path / "out" / "optimize.png")
    assert "mine_to_optimize:valley" in (tmp_path / "out" / "optimize.html").read_text()


def test_bounds_and_a_pytree_have_no_page(run, tmp_path):
    printed = run("--function", "mine_to_optimize:tree", "--bounds", "0.5", "3", "--optimizer", "lbfgsb", "adam")
    assert "4 numbers" in printed
    assert float(rows(printed)["L-BFGS-B"][0]) == pytest.approx(0.5**4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["optimize.png"]


def test_several_arguments_and_a_start(run):
    printed = run("--function", "mine_to_optimize:pair", "--optimizer", "lbfgs", "--start", "1", "2", "--engine", "jax")
    assert "from (1, 2)" in printed and "at (3, -1)" in printed


def test_names(run):
    listed = run("--list")
    names = ["Rosenbrock", "mgh14", "Misra1a", "levenberg_marquardt", *known_optimizers()]
    assert all(name in listed for name in names)
    printed = run("rosenbrock", "--optimizer", "lbfgs", "trust_region", "--max-steps", "100")
    assert "Rosenbrock, from (-1.2, 1)" in printed
    assert float(rows(printed)["L-BFGS"][0]) < 1e-15 and float(rows(printed)["trust region"][0]) < 1e-15
    printed = run("mgh15", "--optimizer", "trust_region")
    assert "15 Kowalik-Osborne, 4 numbers" in printed
    assert float(rows(printed)["trust region"][0]) == pytest.approx(3.0750560e-4, rel=2e-6)  # six digits are printed


def test_a_data_set_of_nist_beside_its_certified_values(run, tmp_path):
    printed = run("Misra1a", "--max-steps", "100")
    found = [line.split() for line in printed.splitlines() if line.startswith("levenberg marquardt")]
    assert [row[2] for row in found] == ["1", "2"] and all(float(row[3]) > 8 for row in found)
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("b1"))
    assert row[2] == "2.3894212918e+02" and float(row[3]) > 8  # NIST's certified value of b1
    assert row[5] == "2.7070075241e+00" and float(row[6]) > 4  # and its standard deviation
    assert (tmp_path / "out" / "optimize.png").is_file()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["rosenbrok"], "there is no problem 'rosenbrok': did you mean rosenbrock?"),
        (["Misra1a", "--optimizer", "lbfgs"], "there is no optimizer of residuals 'lbfgs': choose from levenberg_"),
        (["--optimizer", "newton"], "there is no optimizer 'newton': choose from random_search, "),
        (["--function", "mine_to_optimize:valley", "--start", "1"], "--start must be 2 numbers; found 1"),
        (["--function", "mine_to_optimize:none"], "cannot find mine_to_optimize:none"),
        (["--function", "mine_to_optimize:valley", "--optimizer", "lbfgs", "--bounds", "0", "1"], "knows no bounds"),
        (["--function", "mine_to_optimize:valley", "rosenbrock"], "give either a name or --function, not both"),
        (["--bounds", "0", "1"], "--bounds needs a function"),
        (["--max-steps", "0"], "expected a whole number of at least 1"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
