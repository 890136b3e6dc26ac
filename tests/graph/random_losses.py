"""Random programs as losses: real arguments to a scalar."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.random_programs.checks import JAX, Diffprog, _halves, _loss
from tests.random_programs.generator import NAMESPACE, for_each


def for_each_loss(count, number, run):
    """Call run(loss, arguments, JAX's gradients) for random programs that compute in double precision throughout."""

    def one(program):
        if "float32" in program.source:
            return
        space = dict(NAMESPACE)
        exec(program.source, space)
        with jax.enable_x64(True):
            losses = []
            for engine in (Diffprog, JAX):
                fun, given = _halves(space["program"], engine, program.arguments)
                losses.append(lambda *args, fun=fun: jnp.sum(_loss(fun)(*args)[0]))
            given = [np.asarray(x, np.float64) for x in given]
            if given:
                run(losses[0], given, jax.jit(jax.grad(losses[1], tuple(range(len(given)))))(*given))

    for_each(count, number, one)
