"""Rows of what computes across devices, as far as one device goes; `tests/devices` has the rest."""

import jax
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from tests.rules.rows.row import Row


def _here():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


DEVICES = [
    Row("psum under vmap", jax.vmap(lambda x: lax.psum(x * x, "i") * x, axis_name="i"), ((3, 4),), complex_too=True),
    Row("sharding_constraint", lambda x: lax.with_sharding_constraint(x * x, _here()) ** 2, ((3, 4),)),
    Row("layout_constraint", lambda x: with_layout_constraint(x * x, Layout((1, 0))) ** 2, ((3, 4),)),
]
