"""What `optimizable` says of the functions in the page's gallery of failures."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffprog.optimize._hardness.optimizable import optimizable
from diffprog.optimize._page.objectives import two_wells
from diffprog.optimize.problems.functions import DISTILL


def _lessard(x):
    middle, right = x[0] ** 2 / 2 + 24 * x[0] - 12, 25 * x[0] ** 2 / 2 - 24 * x[0] + 36
    return jnp.where(x[0] < 1, 25 * x[0] ** 2 / 2, jnp.where(x[0] < 2, middle, right))


def _plateau(w):
    return (jax.nn.sigmoid(w[0]) - 0.1) ** 2


def _cliff(w):
    return (w[0] ** 20 - 0.5) ** 2


def _step(x):
    return jnp.floor(4 * jnp.abs(x[0])) / 4


def _kink(x):
    return jnp.abs(x[0])


GALLERY: dict[str, tuple[Callable[[Any], Any], tuple[float, ...]]] = {  # by the names in failures.js: function, start
    "hero": (DISTILL.function, (-1.21, 0.853)),
    "lessard": (_lessard, (3.3,)),
    "saddle": (two_wells, (1.0, 1e-8)),
    "plateau": (_plateau, (20.0,)),
    "cliff": (_cliff, (1.1,)),
    "step": (_step, (2.1,)),
    "kink": (_kink, (1.0,)),
}

OWN_LINE = re.compile(rf" at {re.escape(Path(__file__).name)}:\d+ [^;]*(?=\);)")  # of a function above: no user's


@cache
def verdicts() -> dict[str, str]:
    """Judge each function of the gallery, once in a process: it takes some seconds.

    Returns:
      Verdicts by name. Where one names a line of the program, it names the formula instead, which the page shows.
    """
    judged = {
        name: optimizable(function, jnp.array(start, jnp.float32)).verdict
        for name, (function, start) in GALLERY.items()
    }
    return {name: OWN_LINE.sub(" in the formula above", verdict) for name, verdict in judged.items()}
