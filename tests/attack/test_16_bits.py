"""Networks of 16 bits are attacked, and their verdicts hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from tests.settings.attacks import IMAGES, model


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_networks_of_16_bits(dtype):
    network = lambda images: model(images.astype(dtype))
    labels = np.asarray(network(IMAGES)).argmax(1)
    for name in ("pgd", "apgd", "fmn", "deepfool"):
        options = {"epsilon": 0.1} if name in ("pgd", "apgd") else {}
        result = getattr(attack, name)(network, IMAGES, labels, key=jax.random.key(0), **options)
        np.testing.assert_array_equal(np.asarray(network(result.images)).argmax(1) != labels, result.success)
        assert result.success.all()
