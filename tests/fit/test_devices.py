"""Fits over 8 devices of one process, and over two processes, which must be those of one device."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from diffprog import fit
from tests.fit.distributed import STEPS, losses


def start(rank, count, port, folder, devices=1):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "tests.fit.distributed", str(rank), str(count), str(port), str(folder)]
    return subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags}, stdout=subprocess.PIPE, text=True)


def result(process):
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    return json.loads(printed.splitlines()[-1])


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def test_losses_are_those_of_one_device(tmp_path):
    expected = losses(np.asarray, None)
    assert len(expected) == 2 * (STEPS + STEPS // 4)
    eight = result(start(0, 1, 0, tmp_path / "eight", devices=8))
    assert eight["devices"] == 8
    port = free_port()
    both = [start(rank, 2, port, tmp_path / "two") for rank in range(2)]
    first, second = map(result, both)
    assert first == second and first["devices"] == 2
    for found in (eight, first):
        np.testing.assert_allclose(found["losses"], expected, rtol=1e-6)
    rows = [json.loads(line) for line in (tmp_path / "two/45/history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))


def test_examples_over_an_explicit_axis_are_refused():
    """JAX differentiates no sum over them without being told where the result is to lie."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    examples = jax.device_put(np.ones((4, 2), np.float32), NamedSharding(mesh, P("data")))
    loss = lambda w, x: ((x @ w) ** 2).mean()
    with pytest.raises(ValueError, match=r"data is spread over the mesh axis 'data' of type Explicit.*AxisType\.Auto"):
        fit.fit(loss, np.ones(2, np.float32), examples, optax.sgd(0.1), steps=1)
    with pytest.raises(ValueError, match="validation is spread over the mesh axis 'data'"):
        fit.fit(loss, np.ones(2, np.float32), np.asarray(examples), optax.sgd(0.1), steps=1, validation=examples)
    copied = jax.device_put(examples, NamedSharding(mesh, P()))
    assert fit.fit(loss, np.ones(2, np.float32), copied, optax.sgd(0.1), steps=1).history[0]["loss"] == 4
