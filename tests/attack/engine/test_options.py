"""What every attack takes: parsed once, refused with a sentence, and shown by help()."""

import inspect

import jax
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack._engine.options import (
    Options,
    QueryOptions,
    Settings,
    SteeredOptions,
    is_blind,
    is_steered,
    parse_options,
)
from diffprog.attack._registry import ATTACKS


def test_defaults_are_those_of_the_settings():
    assert parse_options({}) == Settings()
    assert set(Settings._fields) == SteeredOptions.__annotations__.keys() | QueryOptions.__annotations__.keys()
    assert parse_options({"bounds": [-1, 1], "restarts": 2}) == Settings(bounds=(-1.0, 1.0), restarts=2)


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(TypeError, match=r"^bim has no argument 'steps': the number of steps is max_steps="):
        attack.bim(lambda x: x, np.zeros((1, 3), np.float32), [0], steps=3)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"restarts": 0}, "restarts must be a whole number of at least 1; found 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; found 0"),
        ({"confidence": -1.0}, "confidence must be a number of at least 0; found -1.0"),
        ({"confidence": None}, "confidence must be a number of at least 0; found None"),
        ({"bounds": (1, 0)}, r"bounds must be \(lowest, highest\), numbers or arrays .*; found \(1, 0\)"),
    ],
)
def test_bad_options_get_one_sentence(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_options(option)


@pytest.mark.parametrize("name", ATTACKS)
def test_help_shows_every_option(name):
    text = inspect.getdoc(getattr(attack, name))
    options = SteeredOptions if is_steered(name) else QueryOptions if is_blind(name) else Options
    for option in options.__annotations__:
        assert text.count(f"\n  {option}: ") == 1, option
    assert "**options" not in text and text.index("Args:") < text.index("\n  progress: ") < text.index("Returns:")


def test_success_rate_is_among_the_images_that_could_be_attacked():
    success = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    wrong, nonfinite = np.array([[0, 0, 1, 0], [1, 1, 1, 0]], bool), np.array([[0, 0, 0, 0], [0, 0, 0, 1]], bool)
    zeros = np.zeros((2, 4))
    result = attack.AttackResult(zeros, success, success, wrong, nonfinite, {}, *[zeros] * 7, "none")
    np.testing.assert_allclose(result.success_rate, [2 / 3, np.nan])
    assert result._replace(success=success[0], initially_wrong=wrong[0], nonfinite=nonfinite[0]).success_rate == 2 / 3


def test_the_confidence_of_a_search_is_a_lead_that_is_reached():
    weights = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    model = lambda x: x @ weights
    images = np.full((4, 8), 0.5, np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    result = attack.fmn(model, images, labels, key=jax.random.key(0), confidence=0.2)
    logits = np.asarray(model(result.images))
    assert result.success.all() and np.all(logits.max(axis=1) - logits[np.arange(4), labels] >= 0.2 - 1e-5)
