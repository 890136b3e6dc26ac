"""Operations that compute nothing: identities, barriers, marks for the compiler, debugging output."""

import jax.numpy as jnp
from jax import device_put, lax, typeof

from diffprog._tracer.rules import linear, no_derivative, rule

linear("copy", lambda g, x: jnp.copy(g))
linear("name", lambda g, x, **_: g)
linear("stage", lambda g, x: g)
linear("xla_metadata_value", lambda g, x, **_: g)
no_derivative("stop_gradient")


@rule("tie")
def _tie(primitive, needs_grad, args, params):
    """Pull back to the second argument, which is returned, ordered after the first."""
    return primitive.bind(*args, **params), lambda g: (None, g)


@rule("optimization_barrier")
def _optimization_barrier(primitive, needs_grad, args, params):
    results = primitive.bind(*args, **params)

    def pull(cotangents):
        arrived = [i for i, (g, want) in enumerate(zip(cotangents, needs_grad, strict=True)) if want and g is not None]
        passed = dict(zip(arrived, lax.optimization_barrier([cotangents[i] for i in arrived]), strict=True))
        return [passed.get(i) for i in range(len(cotangents))]

    return results, needs_grad, pull


@rule("device_put")
def _device_put(primitive, needs_grad, args, params):
    """Send cotangents back to where their arguments came from or, if that is not known, to their memory."""
    homes = [typeof(x).memory_space if home is None else home for x, home in zip(args, params["srcs"], strict=True)]

    def back(g, home):
        return g if g is None or typeof(g).memory_space == home else device_put(g, home)

    return primitive.bind(*args, **params), needs_grad, lambda cotangents: list(map(back, cotangents, homes))


no_derivative("inspect_sharding", "dce_sink")
no_derivative("random_bits", "random_seed", "random_split", "random_fold_in", "random_wrap", "random_unwrap")
