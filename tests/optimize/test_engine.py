import jax
import pytest

from diffprog.optimize import ENGINES, value_and_grad


def test_jax_engine_is_jax():
    assert value_and_grad("jax") is jax.value_and_grad


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_differentiates(engine):
    value, gradient = value_and_grad(engine)(lambda x: x**3)(2.0)
    assert (float(value), float(gradient)) == (8.0, 12.0)


def test_unknown_engine_is_refused_by_name():
    with pytest.raises(ValueError, match="engine 'torch' is not known; use one of 'diffprog', 'jax'"):
        value_and_grad("torch")
