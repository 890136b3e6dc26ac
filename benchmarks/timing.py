"""Timing things side by side: in turn, so that a change in the machine's load meets all of them."""

import gc
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import jax

from diffprog._util.files import write_text


def rounds(runs: dict[str, Callable[[], Any]], seconds: float, min_rounds: int = 5, max_rounds: int = 200) -> dict:
    """Make runs in turn, after one round that isn't counted.

    As in `timeit`, Python's garbage collector is off while the clock runs; it runs before each measurement.

    Args:
      runs: functions by name.
      seconds: about how long all rounds together may take.
      min_rounds: smallest number of rounds.
      max_rounds: largest number of rounds.

    Returns:
      What each returned, in a list with an element a round.
    """
    found: dict[str, list[Any]] = {name: [] for name in runs}
    names = list(runs)
    for run in runs.values():
        run()
    with _collector_off():
        started, count = time.perf_counter(), 0
        while count < min_rounds or (count < max_rounds and time.perf_counter() - started < seconds):
            # Whichever goes first finds other caches: they take turns.
            for name in names if count % 2 else reversed(names):
                gc.collect()
                found[name].append(runs[name]())
            count += 1
    return found


def alternate(runs: dict[str, Callable[[], float]], seconds: float, min_rounds: int = 5, max_rounds: int = 200) -> dict:
    """Time runs, which return their seconds, in turn as `rounds` does; gives the median seconds of each."""
    return {name: median(values) for name, values in rounds(runs, seconds, min_rounds, max_rounds).items()}


@contextmanager
def _collector_off():
    gc.collect()
    gc.freeze()  # older objects need not be visited each time
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def clock(function: Callable, *args) -> Callable[[], float]:
    """Make a run that returns the seconds until `function(*args)` has its results."""

    def run():
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        return time.perf_counter() - start

    return run


def write_json(path: Path, rows: list[dict]):
    """Write the rows and the machine that they were measured on, whole or not at all."""
    machine = {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }
    write_text(path, json.dumps({**machine, "rows": rows}, indent=2) + "\n")
