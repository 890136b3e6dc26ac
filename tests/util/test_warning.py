"""Warnings point at the line that called diffprog."""

import contextlib
import warnings

import jax.numpy as jnp
import numpy as np

import diffprog.attack as attack


def test_a_warning_names_the_callers_line():
    blind = lambda images: jnp.zeros((len(images), 3))
    images, labels = np.full((2, 4), 0.5, np.float32), np.array([0, 1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attack.fgsm(blind, images, labels, epsilon=0.1)
        attack.pgd(blind, images, labels, epsilon=0.1, key=0)
        with contextlib.suppress(ValueError):
            attack.pgd(blind, images, labels, epsilon=2.0, key=0)
    assert {warning.category for warning in caught} == {attack.AttackWarning}
    assert {warning.filename for warning in caught} == {__file__}
