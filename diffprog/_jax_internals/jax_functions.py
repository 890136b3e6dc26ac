"""Functions inside JAX that rules speak of; see `diffprog._rules.jax_functions`."""

from jax._src.lax.other import logaddexp, logaddexp2
from jax._src.numpy.lax_numpy import _piecewise as piecewise
from jax._src.scipy.linalg import _solve as solve
from jax._src.scipy.linalg import _solve_sylvester_2d as solve_sylvester
from jax._src.scipy.linalg import _sqrtm as sqrtm
from jax._src.scipy.special import _dawsn as dawsn
from jax._src.scipy.special import _spence as spence
from jax._src.third_party.scipy.betaln import betaln
from jax._src.third_party.scipy.linalg import _algorithm_11_1_1 as parlett

__all__ = [
    "betaln",
    "dawsn",
    "logaddexp",
    "logaddexp2",
    "parlett",
    "piecewise",
    "solve",
    "solve_sylvester",
    "spence",
    "sqrtm",
]
