"""Every attack, with every norm that it takes."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import attack
from diffprog.attack._registry import ATTACKS
from tests.settings.entries import Entry

IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (5, 4, 4, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal((48, 4)).astype(np.float32)
BUDGETS = {"linf": 0.05, "l2": 0.4, "l1": 1.0, "l0": 4.0}
OPTIONS = {"patch": {"size": 2}, "blended": {"towards": 0.5}, "square": {"max_steps": 30}}
LINES = {"linear_search_steps": 10, "binary_search_steps": 5}  # each takes a second without jit
# What part of the elements may differ: searches that halve amplify a rounding, in a few elements; where HopSkipJump
# knows decisions alone, one that rounding turns sends an image of the five another way, to an end 0.001 off.
FAR = {**dict.fromkeys(("fab", "ead", "jsma", "sigma_zero"), 0.05), "hop_skip_jump": 0.2}


def model(images):
    pixels = images.reshape(len(images), -1)
    return (pixels - jnp.full_like(pixels, 0.5)) @ jnp.asarray(WEIGHTS, images.dtype)


def run(name, norm):
    parameters = inspect.signature(getattr(attack, name)).parameters
    options = {"max_steps": 12} if "max_steps" in parameters else {}
    options |= OPTIONS.get(name, {}) | {option: steps for option, steps in LINES.items() if option in parameters}
    if norm is not None and "norm" in parameters:
        options["norm"] = norm
    if "epsilon" in parameters:
        options["epsilon"] = BUDGETS[norm.name]
    labels = (IMAGES.reshape(5, -1) - np.float32(0.5)) @ WEIGHTS
    key = jax.random.key(3, impl="threefry2x32")
    result = getattr(attack, name)(model, IMAGES, labels.argmax(1), key=key, **options)
    result = getattr(result, "result", result)
    return {"images": result.images, "success": result.success}


ENTRIES = [
    Entry(
        f"{name}, {norm.name}" if norm else name,
        partial(run, name, norm),
        atol=1e-4,
        far=FAR.get(name, 0.0),
    )
    for name, info in ATTACKS.items()
    for norm in info.norms or (None,)
]
