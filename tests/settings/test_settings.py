"""Public entry points under every setting of JAX: the same results to rounding.

The quick tier runs some under two settings; `pytest -m slow tests/settings` runs the table, and so does
`python -m tests.settings`, which writes it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import models
from diffprog.attack._attacks.square import window_sides
from tests.settings import QUICK, SETTINGS
from tests.settings.entries import difference
from tests.settings.promotion import promotes_itself
from tests.settings.table import GROUPS

ENTRIES = {f"{group}: {entry.name}": entry for group, entries in GROUPS.items() for entry in entries}
SOME = {
    "Programs": ["record", "diagnose", "fit, adam", "minimize"],
    "Optimization": ["minimize, spsa", "least_squares, levenberg_marquardt"],
    "Attacks": [f"{name}, linf" for name in ("pgd", "square", "fmn", "hop_skip_jump")],
    "Attribution": ["attribute.deeplift", "attribute.shapley", "measures, road", "measures, randomization"],
    "Pictures": ["wrap", "render"],
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


def test_whose_promotion_it_is():
    """What a program of a test promotes is told from what diffprog does, also behind an error that follows."""

    def caught(function):
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), pytest.raises(Exception) as raised:
            function()
        return promotes_itself(raised.value)

    broadcasting = lambda x: (x + jnp.ones(3)).sum()
    rows = jnp.ones((2, 3))
    assert caught(lambda: broadcasting(rows)) and caught(lambda: jax.jit(dp.grad(broadcasting))(rows))
    assert caught(lambda: models.wrap(lambda images: (images + np.ones(3)).mean((1, 2)), size=8))
    # A private function of ours: attacks call it under JAX's defaults.
    assert not caught(lambda: window_sides((8, 8), jnp.float32(0.5), odd=jnp.bool_(True)))
    assert not caught(lambda: 1 / 0)
