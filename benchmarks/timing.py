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

import jax


def alternate(runs: dict[str, Callable[[], float]], seconds: float, least: int = 5, most: int = 200) -> dict:
    """Median of what each run returns (its seconds), after one round that isn't counted.

    As in `timeit`, Python's garbage collector is off while the clock runs; before, it has cleared what the others left.

    Args:
      seconds: about how long all rounds together may take.
      least, most: bounds on the number of rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for run in runs.values():
        run()
    with _collector_off():
        started, rounds = time.perf_counter(), 0
        while rounds < least or (rounds < most and time.perf_counter() - started < seconds):
            # Whichever goes first finds other caches: they take turns.
            for name in names if rounds % 2 else reversed(names):
                gc.collect()
                times[name].append(runs[name]())
            rounds += 1
    return {name: median(values) for name, values in times.items()}


@contextmanager
def _collector_off():
    gc.collect()
    gc.freeze()  # what is there already need not be looked at again each time
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def clock(function: Callable, *args) -> Callable[[], float]:
    """A run that returns the seconds until `function(*args)` and its results are there."""

    def run():
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        return time.perf_counter() - start

    return run


def write_json(path: Path, rows: list[dict]):
    """The rows with what they were measured on, written whole or not at all."""
    machine = {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
    partial.replace(path)
