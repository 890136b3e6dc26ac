"""`import diffprog` is quick: what is not needed for gradients is loaded when it is first used."""

import re
import subprocess
import sys
from pathlib import Path

import diffprog as dp

LATER = ["optax", "PIL", "tqdm", "matplotlib", "diffprog.visualize", "diffprog.attack", "diffprog.models"]
LATER += ["diffprog.graph", "diffprog.diagnosis"]


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_heavy_is_loaded():
    assert run(f"import sys, diffprog; print([name for name in {LATER} if name in sys.modules])") == "[]"


def test_everything_is_there_when_asked_for():
    used = "dp.attack.pgd, dp.fit.mlp, dp.images.read_image, dp.models.load, dp.optimize.Descent, dp.visualize.render"
    assert run(f"import diffprog as dp; print(len([{used}]), set(dp.__all__) <= set(dir(dp)))") == "6 True"
    assert run("import diffprog as dp; print(dp.record is dp.record, dp.tap.__name__)") == "True tap"
    assert (
        run("from diffprog import *; print(attack.__name__, visualize.__name__)")
        == "diffprog.attack diffprog.visualize"
    )


def test_lazy_names_are_public_names():
    """What type checkers are told and what `__getattr__` loads are one list."""
    lazy = {*dp._LAZY_PACKAGES, *(name for names in dp._LAZY_NAMES.values() for name in names)}
    assert lazy <= set(dp.__all__)
    (checked,) = re.findall(r"^if TYPE_CHECKING:\n((?:    .*\n)+)", Path(dp.__file__).read_text(), re.M)
    assert lazy == {name for names in re.findall(r"import (.*)", checked) for name in names.split(", ")}


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", dp.__version__)
    root = Path(__file__).parents[1]
    assert f"\n## {dp.__version__}\n" in (root / "CHANGELOG.md").read_text()
    assert f"\nversion: {dp.__version__}\n" in (root / "CITATION.cff").read_text()
