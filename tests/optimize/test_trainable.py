from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffprog.optimize._trainable import split


class Pair(NamedTuple):
    slope: float
    count: int


TREE = {
    "array": jnp.ones(2),
    "numpy": np.ones(3),
    "half": jnp.ones(2, jnp.bfloat16),
    "complex": jnp.ones(2, jnp.complex64),
    "float": 1.5,
    "scalar": np.float32(2),
    "pair": Pair(0.5, 3),
    "list": [0.25, 7],
    "int": 3,
    "ints": jnp.arange(3),
    "bools": np.array([True]),
    "flag": True,
    "text": "relu",
    "function": jnp.tanh,
    "none": None,
    "key": jax.random.key(0),
    "raw key": jax.random.PRNGKey(0),
}
TRAINED = ["array", "complex", "float", "half", "list/0", "numpy", "pair/slope", "scalar"]


def paths(tree):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def test_inexact_arrays_and_floats_are_trained_and_the_rest_is_kept():
    trainable, join = split(TREE)
    assert paths(trainable) == TRAINED
    moved = join(jax.tree.map(lambda leaf: leaf + 1, trainable))
    assert jax.tree.structure(moved) == jax.tree.structure(TREE)
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved):
        before = dict(jax.tree_util.tree_leaves_with_path(TREE))[path]
        if jax.tree_util.keystr(path, simple=True, separator="/") in TRAINED:
            np.testing.assert_array_equal(np.asarray(leaf, complex), np.asarray(before, complex) + 1)
        else:
            assert leaf is before


def test_an_equinox_model_goes_in_as_it_is():
    class Network(eqx.Module):
        layers: eqx.nn.MLP
        dropout: eqx.nn.Dropout

    network = Network(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.nn.Dropout(0.1))
    trainable, join = split(network)
    expected = eqx.filter(network, eqx.is_inexact_array)
    assert paths(trainable) == paths(expected) and len(paths(expected)) == 4
    assert join(trainable).layers(jnp.ones(2)).shape == (3,)
    assert join(trainable).dropout.p == 0.1  # a setting, though it is a float


def test_an_nnx_module_keeps_its_keys():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.dropout = nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    network = Network(nnx.Rngs(0))
    trainable, join = split(network)
    assert paths(trainable) == ["linear/bias/value", "linear/kernel/value"]
    assert join(trainable).linear(jnp.ones((1, 2))).shape == (1, 3)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("list*", ["list/0"]),
        ("list", ["list/0"]),
        (["half", "pair"], ["half", "pair/slope"]),
        (lambda path, leaf: np.ndim(leaf) == 0, ["float", "list/0", "pair/slope", "scalar"]),
    ],
    ids=["glob", "parent", "several", "test"],
)
def test_leaves_are_chosen_by_path_or_by_a_test(train, expected):
    assert paths(split(TREE, train)[0]) == expected


def test_what_chooses_nothing_is_refused():
    with pytest.raises(ValueError, match="train='arrays' fits no leaf; there are array"):
        split(TREE, "arrays")
    with pytest.raises(ValueError, match="train='ints' fits no leaf"):  # there, but not trainable
        split(TREE, ["array", "ints"])
    with pytest.raises(ValueError, match="train chooses no leaf; there are array, "):
        split(TREE, lambda path, leaf: False)
    with pytest.raises(ValueError, match="train must be a glob for paths, several, or a test"):
        split(TREE, [3])
    assert jax.tree.leaves(split({"n": 3})[0]) == []
