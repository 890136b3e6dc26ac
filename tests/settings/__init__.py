"""Settings of JAX that a user may have on, under each of which every public function gives the same results.

`test_*.py` beside this file list the functions. A few pairs are run always; `pytest -m slow tests/settings` runs all.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
import numpy as np
import pytest

SETTINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "x64": lambda: jax.enable_x64(True),
    "strict dtypes": lambda: jax.numpy_dtype_promotion("strict"),
    "strict ranks": lambda: jax.numpy_rank_promotion("raise"),
    "debug NaNs": lambda: jax.debug_nans(True),
    "no jit": lambda: jax.disable_jit(),
    "highest precision": lambda: jax.default_matmul_precision("highest"),
    "rbg keys by default": lambda: jax.default_prng_impl("rbg"),
    "check leaks": lambda: jax.checking_leaks(),
    "a default device": lambda: jax.default_device(jax.devices()[-1]),
    "a mesh": lambda: jax.set_mesh(jax.make_mesh((1,), ("rows",))),
}
ALWAYS = ("x64", "strict dtypes", "strict ranks")


def pairs(entries: dict[str, Callable], always: tuple[str, ...]) -> list:
    """All (entry, setting), of which those outside of `always` and `ALWAYS` are slow."""
    quick = lambda entry, setting: entry in always and setting in ALWAYS
    return [
        pytest.param(entry, setting, marks=[] if quick(entry, setting) else pytest.mark.slow, id=f"{entry}, {setting}")
        for entry in entries
        for setting in SETTINGS
    ]


def check(entry: Callable, usual, setting: str, atol: float) -> None:
    """Compare what an entry gives under a setting with what it gives without."""
    with SETTINGS[setting]():
        found = entry()
    assert jax.tree.structure(found) == jax.tree.structure(usual)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(usual), strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-3)
