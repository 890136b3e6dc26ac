"""All entries, and what becomes of them under each setting."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import jax

from tests.settings import SETTINGS, attacks, attribution, optimization, pictures, programs
from tests.settings.entries import Entry, difference

GROUPS = {
    "Programs": programs.ENTRIES,
    "Optimization": optimization.ENTRIES,
    "Attacks": attacks.ENTRIES,
    "Attribution": attribution.ENTRIES,
    "Pictures": pictures.ENTRIES,
}


class Outcome(NamedTuple):
    """What became of an entry under one setting.

    Attributes:
      difference: from the result without the setting, see `difference`; None if that is more than rounding.
      error: what was raised, in one line.
    """

    difference: float | None
    error: str = ""


class Row(NamedTuple):
    """An entry under all settings."""

    group: str
    name: str
    outcomes: dict[str, Outcome]


def outcome(entry: Entry, setting: str, usual: object) -> Outcome:
    """Run an entry under a setting."""
    try:
        with SETTINGS[setting]():
            found = entry.run()
        return Outcome(difference(entry, found, usual))
    except Exception as error:
        return Outcome(None, " ".join(f"{type(error).__name__}: {error}".split())[:300])


def row(group: str, position: int) -> Row:
    """Run an entry without a setting and with each."""
    entry = GROUPS[group][position]
    usual = entry.run()
    outcomes = {setting: outcome(entry, setting, usual) for setting in SETTINGS}
    jax.clear_caches()
    return Row(group, entry.name, outcomes)


def rows(names: list[str], num_processes: int) -> Iterator[Row]:
    """Run the entries whose names contain one of these, or all of them, in processes side by side."""
    chosen = [
        (group, position)
        for group, entries in GROUPS.items()
        for position, entry in enumerate(entries)
        if not names or any(name in entry.name for name in names)
    ]
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        yield from pool.map(row, *zip(*chosen, strict=True))
