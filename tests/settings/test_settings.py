"""Public entry points under every setting of JAX: the same results to rounding.

The quick tier runs some under two settings; `pytest -m slow tests/settings` runs the table, and so does
`python -m tests.settings`, which writes it.
"""

import functools

import pytest

from tests.settings import QUICK, SETTINGS
from tests.settings.entries import difference
from tests.settings.table import GROUPS

ENTRIES = {f"{group}: {entry.name}": entry for group, entries in GROUPS.items() for entry in entries}
SOME = {
    "Programs": ["record", "backward_source", "diagnose", "fit, adam", "minimize"],
    "Attacks": [f"{name}, linf" for name in ("pgd", "apgd", "square", "spsa", "fmn", "deepfool", "hop_skip_jump")],
    "Pictures": ["network", "wrap", "render", "dream"],
}


@functools.cache
def usual(name):
    return ENTRIES[name].run()


def check(name, setting):
    with SETTINGS[setting]():
        found = ENTRIES[name].run()
    difference(ENTRIES[name], found, usual(name))


@pytest.mark.parametrize("setting", QUICK)
@pytest.mark.parametrize("name", [f"{group}: {name}" for group, names in SOME.items() for name in names])
def test_some_entries_under_the_settings_that_change_programs_most(name, setting):
    check(name, setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_under_every_setting(name, setting):
    check(name, setting)
