"""Tables of uses and misuses, each run with JAX and with diffprog: equal results, or the same class of error.

A case is a function of the library (`jax` or `diffprog`). Equal means: the same pytree, and for each leaf the same
kind of array, shape, dtype, weak type and value.
"""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffprog as dp
from tests.transforms.parity.calls import ARGNUMS, ARGUMENTS, FUNCTIONS, RESULTS
from tests.transforms.parity.common import FLOAT0, X
from tests.transforms.parity.custom import CUSTOM
from tests.transforms.parity.dtypes import DTYPES
from tests.transforms.parity.pullbacks import PULLBACKS, donated_inside, pullback
from tests.transforms.parity.switches import SWITCHES


def outcome(case, library):
    try:
        return case(library), None
    except Exception as error:
        return None, error


def kind(x):
    """What `jax.Array`s of equal values can differ in."""
    if isinstance(x, jax.Array):
        return "array", x.shape, x.dtype, getattr(x, "weak_type", None)
    if isinstance(x, float):
        return "float"  # or a subclass with which JAX tells its dtype
    return type(x).__name__, np.shape(x), getattr(x, "dtype", None)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert kind(a) == kind(b)
        if hasattr(b, "dtype") and jnp.issubdtype(b.dtype, np.inexact):
            close = 100 * float(jnp.finfo(b.dtype).eps)  # sums in another order
            wide = np.complex128 if jnp.issubdtype(b.dtype, np.complexfloating) else np.float64
            a, b = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
            np.testing.assert_allclose(
                a, b, rtol=close, atol=close * np.max(np.abs(b), initial=0, where=np.isfinite(b))
            )
        elif not hasattr(b, "dtype"):
            assert a == b
        elif b.dtype != FLOAT0 and not jnp.issubdtype(b.dtype, jax.dtypes.extended):
            np.testing.assert_array_equal(a, b)


TABLES = {
    "functions": FUNCTIONS,
    "argnums": ARGNUMS,
    "results": RESULTS,
    "arguments": ARGUMENTS,
    "dtypes": DTYPES,
    "pullbacks": PULLBACKS,
    "switches": SWITCHES,
    "custom": CUSTOM,
}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, cases in TABLES.items() for name in cases])
def test_as_jax(table, name):
    theirs, refused = outcome(TABLES[table][name], jax)
    ours, error = outcome(TABLES[table][name], dp)
    if refused is None:
        if error is not None:
            raise error
        assert_equal(ours, theirs)
    else:
        assert error is not None, f"JAX raises {refused!r}; diffprog returned {ours}"
        assert isinstance(error, type(refused)), f"JAX raises {refused!r}; diffprog {error!r}"


# ---------------------------------------------------------------- where we differ, on purpose

LEFT_OUT = {"reduce_axes", "saveable_args", "in_nzs"}  # deprecated; the others speak of JAX's own pullback object


@pytest.mark.parametrize("name", ["vjp", "grad", "value_and_grad", "jacrev", "hessian"])
def test_same_arguments(name):
    ours, theirs = (inspect.signature(getattr(library, name)).parameters for library in (dp, jax))
    described = lambda parameters: [(p.name, p.kind, p.default) for p in parameters.values() if p.name not in LEFT_OUT]
    added = [("memory", inspect.Parameter.KEYWORD_ONLY, None)] if name in ("vjp", "grad", "value_and_grad") else []
    assert described(ours) == described(theirs) + added


@pytest.mark.parametrize("name", ["jacrev", "hessian"])
def test_numpy_argnums(name):
    """A NumPy integer is an integer to us; JAX's `jacrev`, unlike its `grad`, takes it for a tuple."""
    fun = lambda x, y: x**2 * y**3
    assert_equal(getattr(dp, name)(fun, np.int64(1))(2.0, 3.0), getattr(jax, name)(fun, 1)(2.0, 3.0))


def test_traced_argnums():
    with pytest.raises(TypeError, match="argnums must be an integer"):
        jax.jit(lambda n: dp.grad(lambda x, y: x * y, n)(1.0, 2.0))(1)


def test_donated_inside():
    """JAX keeps what the inner call donated, and finds it deleted; we withdraw the donation."""
    expected = jax.grad(lambda x: jnp.sum(jnp.sin(2 * x) * 2 * x) + jnp.sum(x))(X)
    assert_equal(donated_inside(dp, extra=jnp.sum), expected)


def test_nothing_to_differentiate():
    assert dp.jacrev(lambda x: 1.0)(()) == ()
    assert dp.jacrev(lambda x: 1.0)(None) is None


def test_integers_and_keys_in_jacrev():
    np.testing.assert_array_equal(dp.jacrev(lambda n: n * X, allow_int=True)(True), np.zeros(3, bool))
    with pytest.raises(TypeError):
        dp.jacrev(jax.random.normal, allow_int=True)(jax.random.key(0))


def test_references_are_refused():
    with pytest.raises(TypeError, match="pass its value"):
        dp.grad(lambda ref: jnp.sum(ref[...]))(jax.new_ref(jnp.asarray(X)))


def test_pullbacks_are_not_pickled():
    """Neither JAX's nor ours."""
    for library in (dp, jax):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pickle.dumps(pullback(library))
