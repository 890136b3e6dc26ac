"""Values and their types: what JAX takes for an array, what has a gradient, and zeros."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, typeof
from jax._src import ad_util, core, dtypes, layout, literals, pretty_printer
from jax._src.custom_derivatives import SymbolicZero
from jax._src.hijax import HiType
from jax._src.interpreters import ad
from jax._src.mesh import get_abstract_mesh
from jax._src.state.types import AbstractRef
from jax.sharding import NamedSharding, PartitionSpec

Trace = core.Trace
Tracer = core.Tracer
ShapedArray = core.ShapedArray
float0 = jax.dtypes.float0
_COMPILERS_CHOICE = getattr(layout, "AutoLayout", None)  # since JAX 0.11


class _Perturbed(ad.JVPTracer):
    """What `jax.closure_convert` looks for in a tracer to see that a derivative goes through it."""

    tangent = None

    def __init__(self):
        """Have no trace: it is never a value."""

    def _pretty_print(self, verbose=False):
        return pretty_printer.text("True")


PERTURBED = _Perturbed()


def canonical(value):
    """Turn `value` into what JAX sees: Python scalars and NumPy arrays in JAX's dtypes.

    Raises:
      TypeError: it is not an array.
    """
    return value if isinstance(value, Tracer) else dtypes.canonicalize_value(value)


def as_array(value):
    """Turn `value` into what a jitted function sees of it: JAX's own array, not Python's number or NumPy's array.

    Raises:
      TypeError: it is not an array.
    """
    value = canonical(value)
    is_foreign = isinstance(value, (np.ndarray, np.generic, bool, int, float, complex, literals.TypedNdArray))
    return jnp.asarray(value) if is_foreign and typeof(value).dtype != float0 else value


def is_array_type(value) -> bool:
    """Whether JAX accepts `value` as an array, a scalar or a key."""
    try:
        typeof(value)
    except TypeError:
        return False
    return True


def is_differentiable(value) -> bool:
    """Whether derivatives with respect to `value` exist: it is real, complex or of a user's own type (hijax).

    There are none for integers, booleans and keys.
    """
    return has_gradient(typeof(value))


def has_gradient(aval) -> bool:
    """Whether derivatives with respect to values of this type exist; see `is_differentiable`."""
    if not isinstance(aval, ShapedArray):
        return isinstance(aval, HiType)
    if isinstance(aval.dtype, np.dtype):
        return dtypes.issubdtype(aval.dtype, np.inexact)
    return cotangent_dtype(aval) != float0  # an extended dtype says what its tangents are


def is_reference(value) -> bool:
    """Whether `value` is a mutable array."""
    return isinstance(typeof(value), AbstractRef)


def cotangent_dtype(aval):
    """Get the dtype of the gradient of a value of this type: float0 for integers, None for a user's own type."""
    return getattr(aval.to_tangent_aval(), "dtype", None)


def same_type(actual, expected) -> bool:
    """Whether these are arrays of one shape and dtype, both or neither terms of a sum, or of one user's own type."""
    if not isinstance(expected, ShapedArray):
        return actual == expected
    if not (isinstance(actual, ShapedArray) and actual.shape == expected.shape and actual.dtype == expected.dtype):
        return False
    return _reductions(actual) == _reductions(expected)


def _reductions(aval) -> tuple:
    """Get the device axes over which a value is whole but a sum of terms (`unreduced`), and the other way round."""
    spec = aval.sharding.spec
    return spec.unreduced, spec.reduced, aval.mat.unreduced, aval.mat.reduced


def add(x, y):
    """Add two cotangents of one value."""
    aval = typeof(x)
    if isinstance(aval, ShapedArray) and isinstance(aval.dtype, np.dtype) and _has_usual_layout(aval):
        return lax.add(x, y)
    return ad_util.add_jaxvals(x, y)  # as a user's own type or dtype says, and in any layout


def _has_usual_layout(aval) -> bool:
    """Whether the compiler chooses the layout of an array; else, since JAX 0.11, its type names one."""
    return getattr(aval, "layout", _COMPILERS_CHOICE) is _COMPILERS_CHOICE


def concrete(value):
    """Get the array behind `value`, also through tracers; None where there is none yet, under `jit` or `vmap`."""
    return core.to_concrete_value(value)


def instantiate(aval):
    """Make a zero cotangent of a primal value of this type, as an array."""
    return zeros(aval.to_ct_aval())


def zero_tangent(aval):
    """Make a zero tangent of a primal value of this type, as an array."""
    return zeros(aval.to_tangent_aval())


def has_zero(aval) -> bool:
    """Whether there is a zero of this type: a user's own type need not have one."""
    return not isinstance(aval, HiType) or type(aval).vspace_zero is not HiType.vspace_zero


def any_tangent(value):
    """Make a tangent of this value to record a linear map at: zero or, where there is none, the value itself."""
    aval = typeof(value)
    tangent_aval = aval.to_tangent_aval()
    return zeros(tangent_aval) if has_zero(aval) or tangent_aval != aval else value


def zeros(aval):
    """Make zeros of exactly this type, which may say on which devices they lie and over which they vary."""
    if not isinstance(aval, ShapedArray):
        return ad_util.zeros_like_aval(aval)
    mesh = aval.sharding.mesh
    if not mesh.empty and mesh.are_all_axes_auto and get_abstract_mesh()._any_axis_manual:
        # of a value that a `shard_map` closes over, and that is the same on each device
        aval = aval.update(sharding=NamedSharding(get_abstract_mesh(), PartitionSpec(*[None] * aval.ndim)))
    value = ad_util.zeros_like_aval(aval)
    unreduced, reduced = tuple(aval.mat.unreduced), tuple(aval.mat.reduced)
    if unreduced:
        value = lax.pcast(lax.pcast(value, unreduced, to="varying"), unreduced, to="unreduced")
    return lax.pcast(value, reduced, to="reduced") if reduced else value


def is_symbolic_zero(value) -> bool:
    return type(value) in (ad_util.Zero, SymbolicZero)


def stacked(aval, length: int):
    """Get the type of `length` values of this type, stacked."""
    return core.unmapped_aval(length, 0, aval)
