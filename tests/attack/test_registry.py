"""The table says what the functions do: those it names exist, and refuse what it says they do not take."""

import inspect

import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._registry import ATTACKS, table

IMAGES, LABELS = np.full((2, 6, 6, 1), 0.5, np.float32), np.array([0, 1])
NOT_ATTACKS = {
    "adversarial_training",
    "apply_patch",
    "apply_universal",
    "cross_entropy",
    "dlr",
    "evaluate",
    "input_diversity",
    "least_likely",
    "margin",
    "nesterov",
    "random_targets",
    "second_likely",
    "top_k_margin",
    "survives_distortions",
    "translation_invariant",
    "variance_tuned",
}


def test_every_public_attack_is_in_the_table():
    functions = {name for name in attack.__all__ if inspect.isfunction(getattr(attack, name))}
    assert functions - NOT_ATTACKS == set(ATTACKS)
    assert len(table().splitlines()) == len(ATTACKS) + 2


@pytest.mark.parametrize("name", ATTACKS)
def test_norms_and_kinds_are_as_stated(name):
    find, stated = getattr(attack, name), ATTACKS[name]
    parameters = inspect.signature(find).parameters
    assert ("epsilon" in parameters) == (stated.goal == "budget" or name == "universal")
    if "norm" not in parameters:
        assert len(stated.norms) <= 1
        return
    required = {"key": None} if "key" in parameters else {}
    required |= {"towards": "noise"} if "towards" in parameters else {}
    for norm in set(attack.NORMS.values()) - set(stated.norms):
        with pytest.raises(ValueError, match=rf"norm must be one of .*; found {norm.name}"):
            find(lambda x: x.reshape(len(x), -1), IMAGES, LABELS, norm=norm, **required)
