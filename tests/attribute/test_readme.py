"""Every example of the package's README runs, in the order in which they are read, and says what it says it does."""

import re
from pathlib import Path

import numpy as np

from diffprog import attribute

README = (Path(attribute.__file__).parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, source in enumerate(BLOCKS):
        exec(compile(source, f"README.md:{number}", "exec"), names)
    assert "nan" not in capsys.readouterr().out
    assert names["found"].converged.all()
    np.testing.assert_allclose(names["contrast"].gap, 0, atol=1e-6)
    np.testing.assert_allclose(names["game"].gap, 0, atol=1e-6)
    assert set(names["report"].methods) == {"gradient", "deeplift", "IG, 20 points"}
    assert (tmp_path / "out/attribution/report.html").is_file()
