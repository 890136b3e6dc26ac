"""Every attack under every setting of JAX: the same results to rounding.

The quick tier runs some attacks under two settings; `pytest -m slow tests/attack/test_settings.py` runs the table.
"""

import inspect
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._registry import ATTACKS
from tests.settings import QUICK, SETTINGS

IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (5, 4, 4, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal((48, 4)).astype(np.float32)
BUDGETS = {"linf": 0.05, "l2": 0.4, "l1": 1.0, "l0": 4.0}
OPTIONS = {"patch": {"size": 2}, "blended": {"towards": 0.5}, "square": {"max_steps": 30}}
TABLE = [(name, norm) for name, info in ATTACKS.items() for norm in info.norms or (None,)]
SOME = ("pgd", "apgd", "square", "spsa", "fmn", "ddn", "deepfool", "hop_skip_jump")


def model(images):
    pixels = images.reshape(len(images), -1)
    return (pixels - jnp.full_like(pixels, 0.5)) @ jnp.asarray(WEIGHTS, images.dtype)


def run(name, norm, network=model):
    parameters = inspect.signature(getattr(attack, name)).parameters
    options = {"max_steps": 12} if "max_steps" in parameters else {}
    options |= OPTIONS.get(name, {})
    if norm is not None and "norm" in parameters:
        options["norm"] = norm
    if "epsilon" in parameters:
        options["epsilon"] = BUDGETS[norm.name]
    labels = (IMAGES.reshape(5, -1) - np.float32(0.5)) @ WEIGHTS
    key = jax.random.key(3, impl="threefry2x32")
    result = getattr(attack, name)(network, IMAGES, labels.argmax(1), key=key, **options)
    return getattr(result, "result", result)


@cache
def plain(name, norm):
    return run(name, norm)


def check(name, norm, setting):
    expected = plain(name, norm)
    with SETTINGS[setting]():
        found = run(name, norm)
    np.testing.assert_array_equal(found.success, expected.success)
    assert found.images.dtype == np.float32
    # Searches that halve and compare amplify a rounding, in a few elements.
    far = np.abs(found.images - expected.images) > 1e-4
    assert far.mean() <= (0.05 if name in ("fab", "ead", "jsma", "sigma_zero", "hop_skip_jump") else 0), far.mean()


@pytest.mark.parametrize("setting", QUICK)
@pytest.mark.parametrize("name", SOME)
def test_some_attacks_under_the_settings_that_change_programs_most(name, setting):
    check(name, ATTACKS[name].norms[0], setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("name", "norm"), TABLE, ids=[f"{name}-{norm and norm.name}" for name, norm in TABLE])
def test_every_attack_under_every_setting(name, norm, setting):
    check(name, norm, setting)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_networks_of_16_bits(dtype):
    network = lambda images: model(images.astype(dtype))
    labels = np.asarray(network(IMAGES)).argmax(1)
    for name in ("pgd", "apgd", "fmn", "deepfool"):
        options = {"epsilon": 0.1} if name in ("pgd", "apgd") else {}
        result = getattr(attack, name)(network, IMAGES, labels, key=jax.random.key(0), **options)
        np.testing.assert_array_equal(np.asarray(network(result.images)).argmax(1) != labels, result.success)
        assert result.success.all()
