import json
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog._util.files import read_arrays, write_arrays, write_text
from diffprog._util.fingerprint import fingerprint
from diffprog._util.resumable import ResumableFolder, changed_setting, describe, read_entry

MANIFEST = {"settings": {"steps": 5, "rate": 0.1}, "key": [0, 3]}
opened = partial(ResumableFolder, holds="a piece of work", suffix=".txt")


def test_a_folder_goes_on_with_its_settings_and_refuses_others(tmp_path):
    folder = tmp_path / "new" / "work"
    kept = opened(folder, MANIFEST)
    assert not folder.exists() and not kept.has("a")  # nothing is claimed before there is an entry
    kept.write("a", lambda path: write_text(path, "A"))
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "manifest.json"]
    assert json.loads((folder / "manifest.json").read_text()) == MANIFEST
    again = opened(folder, {"key": (0, 3), "settings": {"rate": 0.1, "steps": 5}})
    assert again.has("a") and not again.has("b") and again.path("b") == folder / "b.txt"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for manifest, words in (
        (MANIFEST | {"settings": {"steps": 6, "rate": 0.1}}, r"\(settings.steps: 5, not 6\)"),
        (MANIFEST | {"settings": {"steps": 5}}, r"\(settings.rate: 0.1, not None\)"),
        (MANIFEST | {"size": 8}, r"\(size: None, not 8\)"),
    ):
        with pytest.raises(
            ValueError, match=f"work holds a piece of work of other settings {words}: give another"
        ) as e:
            opened(folder, manifest)
        assert "\n" not in str(e.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_was_refused_or_failed_leaves_no_claim(tmp_path):
    kept = opened(tmp_path, MANIFEST)
    other = opened(tmp_path, {})
    kept.write("a", lambda path: write_text(path, "A"))
    with pytest.raises(ValueError, match="of other settings"):  # the other came first
        other.write("a", lambda path: write_text(path, "B"))
    assert (tmp_path / "a.txt").read_text() == "A"


def test_folders_of_others_are_refused(tmp_path):
    write_text(tmp_path / "manifest.json", "{")
    with pytest.raises(ValueError, match=r"manifest.json must be a manifest in JSON; found none \(.*\): give another"):
        opened(tmp_path, MANIFEST)
    (tmp_path / "manifest.json").unlink()
    write_text(tmp_path / "mine.md", "")
    opened(tmp_path, MANIFEST)
    write_text(tmp_path / "mine.txt", "")
    with pytest.raises(ValueError, match=r"must be new or hold a piece of work; found .txt files without manifest"):
        opened(tmp_path, MANIFEST)


def test_entries_of_other_processes_are_waited_for(tmp_path):
    kept = opened(tmp_path, MANIFEST)
    kept.write("a", lambda path: write_text(path, ""))
    late = threading.Timer(0.3, lambda: write_text(tmp_path / "b.txt", ""))
    late.start()
    begin = time.monotonic()
    kept.wait(["a", "b"])
    assert kept.has("b") and time.monotonic() - begin >= 0.29


def test_an_entry_with_its_own_key_is_read_if_it_is_whole_and_current(tmp_path):
    path = tmp_path / "scores.npz"
    ask = lambda key: read_entry(path, read_arrays, lambda entry: entry["key"] == key)
    assert ask("a") is None
    write_arrays(path, {"key": np.array("a"), "scores": np.arange(3)})
    np.testing.assert_array_equal(ask("a")["scores"], [0, 1, 2])
    assert ask("b") is None
    assert sorted(read_arrays(path, {"scores", "none"})) == ["scores"]
    whole = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04 broken", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.warns(
            UserWarning, match=r"scores.npz is damaged \(.*\): it is now scores.npz.damaged\d?, and is made"
        ):
            assert ask("a") is None
        assert not path.exists() and ask("a") is None
    assert len(list(tmp_path.glob("scores.npz.damaged*"))) == 4
    text = lambda path: json.loads(path.read_text())
    for damaged in ("{", "[1]", "{}", "3"):
        write_text(tmp_path / "card.json", damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert read_entry(tmp_path / "card.json", text, lambda card: card["key"] == 1) is None
        assert len(caught) == (damaged == "{")  # the others are JSON, of another key


class Named:
    name = "linf"


def test_settings_are_described_as_json_has_them():
    large = np.arange(40.0)
    settings = {
        "none": None,
        "numbers": (1, 2.5, True, np.float32(0.5)),
        "path": Path("a/b"),
        "small": np.array([[1, 2]]),
        "large": jnp.asarray(large, jnp.float32),
        "key": jax.random.key(3),
        "named": Named(),
        "function": jnp.sin,
        "partial": partial(write_text, text=Path("x")),
        3: object(),
    }
    found = describe(settings)
    assert (
        json.loads(json.dumps(found))
        == found
        == {
            "none": None,
            "numbers": [1, 2.5, True, 0.5],
            "path": "a/b",
            "small": [[1, 2]],
            "large": f"float32 [40] {fingerprint(large.astype(np.float32))}",
            "key": [0, 3],
            "named": "linf",
            "function": "sin",
            "partial": {"function": "write_text", "arguments": [{"text": "x"}]},
            "3": "object",
        }
    )


def test_the_first_change_is_named():
    assert changed_setting({"a": {"b": 1}, "c": 2}, {"c": 2, "a": {"b": 1}}) == ""
    assert changed_setting({"a": {"b": 1}}, {"a": {"b": "x" * 99}}) == f"of other settings (a.b: 1, not {'x' * 60})"
