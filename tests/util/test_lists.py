"""Selecting from lists by masks, and back."""

import random

import pytest
from jax._src.util import merge_lists, partition_list
from jax._src.util import split_list as jax_split_list

from diffprog._util.lists import expand, select, split_list


def test_as_jax_does():
    random.seed(0)
    for _ in range(100):
        mask = [random.random() < 0.5 for _ in range(random.randrange(6))]
        values = [random.random() for _ in mask]
        without, chosen = partition_list(mask, values)
        assert select(values, mask) == chosen
        assert expand(chosen, mask) == merge_lists(mask, [None] * len(without), chosen)
        sizes = [random.randrange(3) for _ in range(2)]
        if sum(sizes) <= len(values):
            assert split_list(values, sizes) == jax_split_list(values, sizes)


def test_lengths_have_to_agree():
    with pytest.raises(ValueError):
        select([1, 2], [True])
