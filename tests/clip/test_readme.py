"""The README's examples run, on a file that is made here."""

import re
from pathlib import Path

import numpy as np

from diffprog import clip
from tests.clip import weights
from tests.models.torch_writer import scripted

README = (Path(clip.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("ViT-B-32.pt").write_bytes(scripted(weights.state("vit")))
    photographs = [photograph.astype(np.float32) / 255 for photograph in weights.photographs()[:2]]
    names = {"photographs": photographs}
    for source in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S):
        exec(compile(source, "diffprog/clip/README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("TorchScript with OpenAI's names; ViT of 2 blocks of 128, patches of 8")
    assert np.abs(names["fooled"].images - names["square"]).max() <= 8 / 255 + 1e-6
    assert names["speaks"].values.shape == names["square"].shape
    before, after = (np.asarray(names["network"](x))[0] for x in (names["square"], names["fooled"].images))
    margin = lambda logits: logits[1] - max(logits[0], logits[2])
    assert margin(before) < margin(after)
