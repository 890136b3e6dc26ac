"""Eigenvalues and vectors of tridiagonal matrices, which JAX finds by bisection: derivatives of the dense matrix's."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg

from diffprog._rules.jax_functions import batch_first
from diffprog._rules.linear_algebra.spectral_sums import evenly_framed_eigh
from diffprog._tracer.errors import MissingDerivative
from diffprog._tracer.rules import rule_of_function
from diffprog._tracer.vjp import run_taped
from diffprog._util.lists import expand


def _tridiagonal(d, e):
    """Make the Hermitian matrices with these diagonals."""
    n = d.shape[-1]
    e = jnp.pad(e, [(0, 0)] * (e.ndim - 1) + [(0, 1)])
    diagonal, below = jnp.eye(n, dtype=d.dtype), jnp.expand_dims(e, -2) * jnp.eye(n, k=-1, dtype=e.dtype)
    return jnp.expand_dims(d, -1) * diagonal + below + jnp.conj(below.mT)


def _places(values, spectrum):
    """Find out which of all eigenvalues these are, some in a row."""
    starts = np.arange(spectrum.shape[-1] - values.shape[-1] + 1)
    rows = np.add.outer(starts, np.arange(values.shape[-1]))
    distances = jnp.sum(jnp.abs(spectrum[..., rows] - values[..., None, :]), -1)
    return jnp.argmin(distances, -1)[..., None] + np.arange(values.shape[-1])


def _shapes_of_diagonals(inputs, outputs):
    """Take the batch from the eigenvalues, and the matrices' size from the numbers in their diagonals."""
    batch = outputs[0].shape[:-1]
    n = inputs[0].size // (np.prod(batch, dtype=int) if inputs[0].ndim == len(batch) + 1 else 1)
    return batch, [(n,), (n - 1,)]


def _are_eigenvalues(args, found):
    spectrum = np.linalg.eigvalsh(_tridiagonal(*map(jnp.asarray, args)))
    return np.max(np.min(np.abs(found[..., :, None] - spectrum[..., None, :]), -1)) < 1e-4


@rule_of_function(linalg.eigh_tridiagonal)
def _eigh_tridiagonal(run, needs_grad, args, jaxpr):
    """Take the values that JAX finds, and let them move as those of the dense matrix do.

    Of equal eigenvalues, whose derivatives depend on the direction, each has an equal share.
    """
    orders = batch_first(jaxpr, _shapes_of_diagonals, _are_eigenvalues)
    if orders is None:
        raise MissingDerivative(
            "diffprog does not find the batch in a call of jax.scipy.linalg.eigh_tridiagonal under jax.vmap, used",
            None,
            "map over first axes, or make the matrix dense and use jax.numpy.linalg.eigh",
        )
    values, *vectors = found = run(*lax.stop_gradient(args))

    def program(d, e, *others):
        v, spectrum, *_ = evenly_framed_eigh(_tridiagonal(*map(jnp.transpose, (d, e), orders)))
        places = _places(values, lax.stop_gradient(spectrum))
        computed = [jnp.take_along_axis(spectrum, places, -1)]
        for x in vectors:  # each is a fixed combination of those of equal eigenvalues
            turn = lax.stop_gradient(jnp.matmul(jnp.conj(v.mT), x, precision="highest"))
            computed.append(jnp.matmul(v, turn, precision="highest"))
        return [x + (moving - lax.stop_gradient(moving)) for x, moving in zip(found, computed, strict=True)]

    results, taped = run_taped(program, args, needs_grad)
    return results, taped.active, lambda cotangents: expand(taped.pull(cotangents), needs_grad)
