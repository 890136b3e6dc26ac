"""Runs each file of `tests/devices` in a process of its own, which has eight virtual devices: the others have one."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["collectives", "shard_map", "shardings"])
def test_on_eight_devices(name):
    command = [sys.executable, "-m", "pytest", "-n", "0", f"tests/devices/{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
