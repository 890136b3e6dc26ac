"""Over devices and over processes: each in processes of their own, all at once."""

import os
import socket
import subprocess
import sys

import numpy as np

from tests.attack.evaluation import job


def start(folder, *how, devices=1):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "tests.attack.evaluation.job", str(folder), *map(str, how)]
    return subprocess.Popen(
        command, env=os.environ | {"XLA_FLAGS": flags}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_devices_and_processes_come_to_the_same_verdicts(whole, tmp_path):
    folder, expected = whole
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = [
        start(tmp_path / "devices", "devices", 8, devices=8),
        *(start(tmp_path / "processes", "process", which, port) for which in range(2)),
    ]
    for each in running:
        said, _ = each.communicate(timeout=240)
        assert each.returncode == 0, said[-4000:]

    for where, names in (("devices", ["pgd"]), ("processes", ["clean", "pgd", "walk"])):
        for attack in names:
            one, other = (job.kept(place, attack) for place in (folder, tmp_path / where))
            for name in set(one) & {"success", "exceeded", "invalid", "nonfinite", "predictions"}:
                np.testing.assert_array_equal(one[name], other[name])
            if where == "processes" and attack != "clean":  # the same programs, in other processes
                np.testing.assert_array_equal(one["size"], other["size"])
    for which in range(2):  # each process returns the whole
        with np.load(tmp_path / f"processes/process{which}.npz") as found:
            np.testing.assert_array_equal(found["smallest"], expected.minimum_norm)
            np.testing.assert_array_equal(found["accuracy"], expected.robust_accuracy())
    assert (tmp_path / "processes" / "report.html").is_file()
    assert job.BATCH % 8 == 0
