import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.fit import early_stop, fit
from diffprog.fit._checkpoints import read_newest, write_checkpoint

pytestmark = pytest.mark.filterwarnings("error:.*is damaged")  # a fit from the start has the same bits

RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(50, 4)).astype(np.float32), "y": RNG.normal(size=50).astype(np.float32)}
START = {"w": jnp.zeros(4), "b": jnp.zeros((), jnp.bfloat16), "n": 3}


def loss(p, batch, key=None):
    noise = 0.0 if key is None else 0.1 * jax.random.normal(key, batch["y"].shape)
    return jnp.mean((batch["x"] @ p["w"] + p["b"] - batch["y"] + noise) ** 2)


def run(directory=None, **changes):
    options = dict(
        batch_size=8, epochs=4, key=1, validation=DATA, validate_every=5, stop=early_stop(patience=100), average=0.9
    )
    given = {"loss": loss, "data": DATA, "optimizer": optax.adam(0.01), **options, **changes}
    return fit(given.pop("loss"), START, given.pop("data"), given.pop("optimizer"), directory=directory, **given)


def content(fitted):
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history]
    leaves = jax.tree.leaves((fitted.parameters, fitted.averaged, fitted.state))
    return rows, [np.asarray(leaf).tobytes() for leaf in leaves]


def stopped_at(step, directory, **options):
    def interrupt(row, parameters):
        if row["step"] >= step:
            raise KeyboardInterrupt

    return run(directory, callbacks=interrupt, **options)


@pytest.mark.parametrize("step", [5, 15, 25])
def test_an_interrupted_fit_ends_with_the_same_bits(tmp_path, step):
    whole = run()
    first = stopped_at(step, tmp_path)
    assert first.step == step and first.reason == f"interrupted after step {step}"
    measured = []
    again = measured_in(measured, tmp_path)
    assert content(again) == content(whole)
    assert measured[0] == step  # which the interrupt kept from being measured
    measured.clear()
    assert content(measured_in(measured, tmp_path)) == content(whole)
    assert measured == []  # there is nothing left to do
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 29)) and lines == again.history


def measured_in(measured, *args, **options):
    return run(*args, callbacks=lambda row, parameters: measured.append(row["step"]), **options)


def test_more_epochs_go_on(tmp_path):
    run(tmp_path, epochs=2, validate_every=7)  # the last step is measured in any case
    measured = []
    again = measured_in(measured, tmp_path, validate_every=7)
    assert content(again) == content(run(validate_every=7)) and measured == [21, 28]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"loss": lambda p, batch: loss(p, batch)}, "of other loss"),
        ({"data": DATA | {"x": DATA["x"] + 1}}, "of other data"),
        ({"optimizer": optax.adam(0.02)}, "of other optimizer"),
        ({"batch_size": 9}, r"of other settings \(batch_size: 8, not 9\)"),
        ({"key": 2}, r"of other settings \(key: "),
    ],
    ids=["loss", "data", "optimizer", "batch_size", "key"],
)
def test_another_fit_is_refused_and_what_differs_is_named(tmp_path, changes, what):
    run(tmp_path, epochs=1)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=rf"holds a fit {what}.*: give another directory, or the same"):
        run(tmp_path, **changes)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, damage):
    for epochs in (1, 2):
        run(tmp_path, epochs=epochs, validate_every=7)
    newest = max(tmp_path.glob("checkpoint-*"))
    written = bytearray(newest.read_bytes())
    written[-3] ^= 1
    newest.write_bytes({"cut": written[:-9], "flip": written, "empty": b""}[damage])
    measured = []
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged .*: it is now {newest.name}.damaged"):
        again = measured_in(measured, tmp_path, validate_every=7)
    assert content(again) == content(run(validate_every=7)) and measured == [14, 21, 28]
    assert (tmp_path / f"{newest.name}.damaged").exists()


def test_only_the_last_checkpoints_are_kept(tmp_path):
    run(tmp_path, checkpoint_seconds=1e-9, keep=3)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3


def test_every_type_is_stored_by_its_bytes(tmp_path):
    tree = {
        "a/b": jnp.arange(3),
        "a": {"b": jnp.float32(0.1)},
        "half": jnp.ones(2, jnp.bfloat16) / 3,
        "eighth": jnp.array([0.1, 2.0], jnp.float8_e4m3fn),
        "complex": jnp.array([1 + 2j]),
        "key": jax.random.key(7),
        "rbg": jax.random.key(7, impl="rbg"),
        "flag": jnp.array(True),
        "empty": jnp.zeros((0, 2)),
    }
    write_checkpoint(tmp_path, 3, tree, {"step": 3}, 2)
    like = jax.tree.map(lambda leaf: leaf, tree)
    found, notes = read_newest(tmp_path, like)
    assert notes == {"step": 3}
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        x, y = (jax.random.key_data(x), jax.random.key_data(y)) if is_key else (x, y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# ---------------------------------------------------------------- batches that come one by one


class Grain:
    """An iterator of Grain's protocol: `get_state` and `set_state`, and shapes that differ at the end."""

    def __init__(self):
        self.index = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.index >= 30:
            raise StopIteration
        self.index += 1
        size = 3 if self.index % 7 == 0 else 8
        rows = np.random.default_rng(self.index).integers(0, 50, size)
        return {name: leaf[rows] for name, leaf in DATA.items()}

    def get_state(self):
        return {"next_index": self.index}

    def set_state(self, state):
        self.index = state["next_index"]


BATCHES = [{name: leaf[first : first + 8] for name, leaf in DATA.items()} for first in range(0, 50, 8)]


@pytest.mark.parametrize("make", [Grain, lambda: BATCHES], ids=["iterator", "list"])
def test_a_stream_goes_on_at_its_place(tmp_path, make):
    options = dict(batch_size=None, epochs=None, steps=28)
    whole = run(data=make(), **options)
    stopped_at(15, tmp_path, data=make(), **options)
    again = run(tmp_path, data=make(), **options)
    assert content(again) == content(whole) and whole.step == 28


def test_a_list_of_batches_is_what_arrays_are():
    streamed = fit(loss, START, BATCHES, optax.sgd(0.05), epochs=3)
    assert streamed.step == 21 and streamed.history[-1]["examples"] == 150
    p = {"w": np.zeros(4), "b": 0.0}
    for batch in BATCHES * 3:
        residual = 2 * (batch["x"] @ p["w"] + p["b"] - batch["y"]) / len(batch["y"])
        p = {"w": p["w"] - 0.05 * batch["x"].T @ residual, "b": p["b"] - 0.05 * residual.sum()}
    fixed = fit(lambda w, batch: loss({"w": w, "b": 0.0}, batch), jnp.zeros(4), BATCHES, optax.sgd(0.05), epochs=3)
    assert fixed.step == 21
    np.testing.assert_allclose(streamed.parameters["w"], p["w"], atol=0.02)  # the bias is of 8 bits


def test_an_iterator_that_ends_says_so():
    fitted = run(data=Grain(), batch_size=None, epochs=None, steps=100)
    assert fitted.step == 30 and fitted.reason == "the data ended after step 30"


def test_an_iterator_without_a_place_cannot_go_on(tmp_path):
    stream = (batch for batch in BATCHES)
    with pytest.raises(
        ValueError, match=r"data cannot tell their place.*get_state and set_state; or leave directory out"
    ):
        run(tmp_path, data=stream, batch_size=None, epochs=None, steps=3)
    assert run(data=(batch for batch in BATCHES), batch_size=None, epochs=None, steps=3).step == 3


# ---------------------------------------------------------------- killed


PROGRAM = """
import sys
import numpy as np
from tests.fit import test_resume as t
if sys.argv[1] == "kill":
    import time
    slow = lambda row, parameters: time.sleep(0.03)
    t.run(sys.argv[2], checkpoint_seconds=1e-9, callbacks=slow, epochs=60)
"""


def killed(directory, delays):
    """Run it in processes that are killed after a while each."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    counts = []
    for delay in delays:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "kill", str(directory)], env=environment, stderr=subprocess.PIPE
        )
        before = len(list(directory.glob("checkpoint-*")))
        deadline = time.monotonic() + 60
        start = max((path.stat().st_mtime_ns for path in directory.glob("checkpoint-*")), default=0)
        while time.monotonic() < deadline and process.poll() is None:  # until it has begun to write
            if (
                max((p.stat().st_mtime_ns for p in list(directory.glob("checkpoint-*")) if p.exists()), default=0)
                > start
            ):
                break
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
        counts.append(before)
    return counts


def check_kills(directory, delays):
    killed(directory, delays)
    reached = max(int(path.stem.split("-")[1]) for path in directory.glob("checkpoint-*"))
    assert 0 < reached < 60 * 7
    assert not [path for path in directory.iterdir() if path.name.endswith(".damaged")]
    again = run(directory, epochs=60, checkpoint_seconds=1e9)
    assert content(again) == content(run(epochs=60))


def test_five_kills_at_random_moments_change_no_bit(tmp_path):
    check_kills(tmp_path, np.random.default_rng(0).uniform(0, 0.2, 5))


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit(tmp_path):
    check_kills(tmp_path, np.random.default_rng(1).uniform(0, 0.03, 50))
