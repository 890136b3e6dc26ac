"""The wheel, made from the source distribution, works alone: in a new environment, in an empty folder."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import diffprog

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, math, sys
import jax, jax.numpy as jnp
import diffprog as dp

train, test = dp.fit.load_digits()
model = dp.models.load("digits")
images, labels = test.inputs[:64].reshape(-1, 8, 8, 1), test.labels[:64]
attacked = dp.attack.pgd(model, images, labels, key=jax.random.key(0), epsilon=0.2, max_steps=20)
wrong = model(attacked.images).argmax(axis=1) != labels
dp.record(lambda x: jnp.tanh(x) ** 2)(0.3).backward().html("page.html")
print(json.dumps({
    "file": dp.__file__,
    "version": dp.__version__,
    "gradient": float(dp.grad(lambda x: jnp.sin(x) * x)(0.3)),
    "expected": math.cos(0.3) * 0.3 + math.sin(0.3),
    "success": float(attacked.success.mean()),
    "successes are mistakes": bool(wrong[attacked.success].all()),
    "largest change": float(abs(attacked.images - images).max()),
    "modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("tests", "demos", "benchmarks")),
}))
"""


def test_the_wheel_works_alone(tmp_path):
    """One test, so that one worker builds and installs once."""
    built, work = tmp_path / "dist", tmp_path / "empty"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run([*map(str, command)], cwd=work, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--outdir", built, ROOT)  # the wheel is made from the source distribution
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    check_contents(wheel, source)

    # Half of the time would go to a pip in the environment and to byte code of all that JAX and SciPy have.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    programs = tmp_path / "venv" / "bin"
    install = ("install", "-q", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", programs / "python", *install, wheel)

    seen = json.loads(run(programs / "python", "-c", PROGRAM).splitlines()[-1])
    assert Path(seen["file"]).is_relative_to(tmp_path / "venv") and seen["modules"] == []
    assert seen["version"] == diffprog.__version__
    assert abs(seen["gradient"] - seen["expected"]) < 1e-6
    assert seen["success"] > 0.5 and seen["successes are mistakes"] and seen["largest change"] <= 0.2
    assert "tanh" in (work / "page.html").read_text(encoding="utf-8")

    shown = run(programs / "diffprog", "--help")
    assert all(f" {name} " in shown for name in ("attack", "visualize", "record"))
    assert run(programs / "diffprog", "--version") == f"diffprog {diffprog.__version__}\n"
    robustness = run(programs / "diffprog", "attack", "--evaluate", "digits", "--batch", "32", "--out", "report")
    assert "worst case" in robustness and (work / "report" / "report.html").is_file()
    assert "dz/dx" in run(programs / "python", "-m", "diffprog", "tour", "1")


def check_contents(wheel, source):
    """Only the package and its data are installed; the source distribution holds what its tests need."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
        assert sum(entry.file_size for entry in archive.infolist()) < 5e6
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"diffprog"}
    assert {"diffprog/py.typed", "diffprog/fit/data/digits.npz", "diffprog/cli/data/chelsea.png"} <= set(names)
    tracked = subprocess.run(["git", "ls-files", "diffprog"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    notes = {name for name in tracked if name.endswith(".md")}
    assert set(tracked) - notes <= set(names)
    for field in ("Author: ", "Keywords: ", "Project-URL: ", "Classifier: Typing :: Typed", "License-Expression: "):
        assert f"\n{field}" in metadata
    with tarfile.open(source) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "demos/tour.py", "tests/test_wheel.py", "assets/chelsea.png"} <= shipped
