"""The comparison as its user runs it."""

import json

import numpy as np
import pytest

from demos import compare_with_jax
from demos.networks import NETWORKS


def test_networks_agree_with_jax_and_the_json_says_so(capsys, tmp_path):
    file = tmp_path / "report.json"
    small = [name for name in NETWORKS if name != "efficientnet_lite0"]
    compare_with_jax.main([*small, "--seconds", "0", "--json", str(file)])
    assert "largest relative difference" in capsys.readouterr().out
    reports = json.loads(file.read_text())
    assert [report["name"] for report in reports] == small
    for report in reports:
        assert report["leaves"]
        # float32 sums in another order: a few units in the last place of the largest element
        assert max(leaf["relative"] for leaf in report["leaves"]) < 2e-6
    assert list(tmp_path.iterdir()) == [file]


def test_a_function_of_the_users_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\ndef make():\n    return (lambda x: jnp.sum(x**3)), (jnp.arange(3.0),)\n"
        "def bad():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    compare_with_jax.main(["--function", "mine:make", "--seconds", "0"])
    assert "float32[3]" in capsys.readouterr().out
    for spec, words in [
        ("mine:bad", "must return"),
        ("mine:none", "cannot find"),
        ("nowhere:x", "cannot find"),
        ("mine", "MODULE:NAME"),
    ]:
        with pytest.raises(SystemExit) as stop:
            compare_with_jax.main(["--function", spec])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def test_unknown_network(capsys):
    with pytest.raises(SystemExit) as stop:
        compare_with_jax.main(["lstn"])
    assert stop.value.code == 2
    assert "lstm" in capsys.readouterr().err


def test_networks_are_reproducible():
    one, two = (NETWORKS["lstm"](np.random.default_rng(0))[1] for _ in range(2))
    np.testing.assert_array_equal(one[0]["in"], two[0]["in"])
