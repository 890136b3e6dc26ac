"""Rows of special functions."""

import jax
import numpy as np

from tests.rules.rows.row import Row

_KEY = np.array([0, 1], np.uint32)
POSITIVE = (0.3, 5.0)

SPECIAL_FUNCTIONS = [
    Row("random gamma", lambda a: jax.random.gamma(_KEY, a) * a, ((4,),), POSITIVE, order=1),
    Row("random dirichlet", lambda a: jax.random.dirichlet(_KEY, a), ((4,),), POSITIVE, order=1),
]
