"""The call primitives that JAX had before 0.11."""

import jax
import jax.numpy as jnp
import pytest
from jax._src import core, linear_util

import diffprog as dp
from tests.transforms.test_reverse import assert_same


@pytest.mark.skipif(not hasattr(core, "call"), reason="JAX 0.11 removed them")
def test_a_call_is_inlined():
    def called(x):
        debug = core.DebugInfo("test", "square", None, None)
        return core.call_p.bind(x, subfuns=(linear_util.wrap_init(lambda x: [x * jnp.sin(x)], debug_info=debug),))[0]

    assert_same(dp.grad(called)(2.0), jax.grad(lambda x: x * jnp.sin(x))(2.0))
