import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.optimize._methods import line_search


@pytest.mark.parametrize(
    "value, slope",
    [
        (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),  # the first step is too short
        (lambda t: (50 * t - 1) ** 2, lambda t: 100 * (50 * t - 1)),  # and here too long
        (lambda t: -t / (t**2 + 2), lambda t: (t**2 - 2) / (t**2 + 2) ** 2),  # More & Thuente (1994), example 5.1
        (lambda t: np.inf if t > 0.1 else -t, lambda t: np.nan if t > 0.1 else -1.0),  # finite only nearby
    ],
)
def test_line_search_ends_at_a_step_that_satisfies_wolfe(value, slope):
    search, steps = line_search.init(jnp.float32(value(0)), jnp.float32(slope(0)), jnp.float32(100)), []
    update = jax.jit(line_search.update)
    for _ in range(line_search.MAX_TRIALS):
        steps.append(float(search.step))
        search, accepted, failed = update(search, *map(jnp.float32, (value(steps[-1]), slope(steps[-1]))))
        if accepted or failed:
            break
    step = steps[-1]
    if np.isfinite(value(1)):
        assert accepted and len(steps) < 8
        assert value(step) <= value(0) + 1e-3 * step * slope(0)
        assert abs(slope(step)) <= 0.9 * abs(slope(0))
    else:  # no such step exists: the bracket closes on the edge
        assert failed and abs(float(search.low.step) - 0.1) < 1e-3
