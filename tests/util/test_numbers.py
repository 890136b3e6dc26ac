import jax.numpy as jnp
import numpy as np
import pytest

from diffprog._util.numbers import check_positive


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int64(3), np.array(0.5), jnp.float32(2)])
def test_positive_numbers_come_back(value):
    assert check_positive(value, "length") is value


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "a", None, [1.0], True, 1j])
def test_others_are_refused_by_name(value):
    with pytest.raises(ValueError, match="length must be a positive number; found "):
        check_positive(value, "length")
