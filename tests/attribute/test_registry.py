"""The table says what the methods do: those it names exist, cost what it says, and leave a gap where it says so."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from diffprog import attribute
from diffprog.attribute import measures
from diffprog.attribute._registry import METHODS, table
from diffprog.attribute.measures._registry import MEASURES
from diffprog.attribute.measures._registry import table as table_of_measures

README = (Path(attribute.__file__).parent / "README.md").read_text(encoding="utf-8")
GENERATOR = np.random.default_rng(0)
FIRST, SECOND = (jnp.asarray(GENERATOR.normal(size=shape), jnp.float32) for shape in ((4, 9), (9, 2)))
X = GENERATOR.normal(size=(3, 4)).astype(np.float32)
DATA = GENERATOR.normal(size=(5, 4)).astype(np.float32)
FEW = {"samples": 6, "steps": 7}  # what the formulas are about, where a method takes it
OPTIONS = {
    "expected_gradients": {"baseline": DATA},
    "occlusion": {"window": 1},
    "feature_permutation": {"data": DATA},
    "rise": {"features": attribute.features.columns()},
    "owen_values": {"groups": [[0, 1], [2, 3]]},
    "kernel_shap": {"samples": 16},
}
KNOWN = {"features": 4, "windows": 4, **FEW}


def model(x):
    return dp.tap(jax.nn.relu(x @ FIRST), "hidden") @ SECOND


def model_with_positions(x):
    return jnp.sum(dp.tap(x[:, :, None] * FIRST, "hidden"), axis=1) @ SECOND


def run(name, of=model):
    of = model_with_positions if name == "grad_cam" else of
    method = getattr(attribute, name)
    takes = inspect.signature(method).parameters
    options = {key: value for key, value in FEW.items() if key in takes}
    options |= ({"key": 0} if "key" in takes else {}) | OPTIONS.get(name, {})
    if METHODS[name].needs == "inside":
        options["at"] = "hidden"
    return method(of, X, 1, **options), KNOWN | options


def test_every_method_is_in_the_table():
    returns = lambda name: inspect.signature(getattr(attribute, name)).return_annotation
    functions = [name for name in attribute.__all__ if inspect.isfunction(getattr(attribute, name))]
    assert {name for name in functions if returns(name) is attribute.Attribution} == set(METHODS)
    assert table() in README


def test_every_measure_is_in_the_table():
    functions = {name for name in measures.__all__ if inspect.isfunction(getattr(measures, name))}
    assert functions - {"mosaics"} == set(MEASURES)
    assert table_of_measures() in README


@pytest.mark.parametrize("name", METHODS)
def test_methods_cost_and_promise_what_is_stated(name):
    info, (found, known) = METHODS[name], run(name)
    bound, _, formula = info.evaluations.rpartition("<=")
    most = [eval(each, {}, known) for each in formula.split(", or ")]
    if bound or "<=" in info.evaluations:
        assert 1 < found.evaluations[0] <= max(most)
    else:
        assert found.evaluations[0] == most[0]
    assert (found.gap is None) == (info.sum == "no")
    if info.sum == "exact":
        np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    takes = inspect.signature(getattr(attribute, name)).parameters
    assert ("key" in takes) == (info.seed != "no")
    if "key" in takes:
        assert (takes["key"].default is inspect.Parameter.empty) <= (info.seed == "yes")


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs == "scores"])
def test_scores_are_enough(name):
    """A model without a derivative will do."""
    shape = lambda x: jax.ShapeDtypeStruct((len(x), 2), np.float32)
    opaque = lambda x: jax.pure_callback(lambda x: np.maximum(x @ FIRST, 0) @ SECOND, shape(x), x)
    found, expected = run(name, opaque)[0], run(name)[0]
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5)
