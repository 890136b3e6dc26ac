"""A program differentiated by diffprog and by JAX: values, types and gradients have to agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import diffprog as dp

# Relative to the largest element of the gradient, but at least TOLERANCE itself: values on the way are about 1, and a
# gradient that is small because a tanh is saturated has their rounding. Programs that compute in float32 somewhere are
# rounded there, in another order of operations, to 6e-8; what follows may enlarge it.
TOLERANCE, TOLERANCE_FLOAT32 = 1e-10, 1e-3

# The programs run once: less time to compile them.
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    QUICK_COMPILATION["xla_cpu_use_fusion_emitters"] = False  # newer ones do not know it


class Diffprog:
    """The engine under test."""

    grad, vjp, value_and_grad = dp.grad, dp.vjp, dp.value_and_grad

    @staticmethod
    def repeat(count, body, carry):
        step = lambda state: (state[0] + 1, body(*state[1]))
        return lax.while_loop(lambda state: state[0] < count, step, (0, carry))[1]


class JAX:
    """The oracle; it has no reverse mode for `while_loop`, and gets the same loop as a scan."""

    grad, vjp, value_and_grad = jax.grad, jax.vjp, jax.value_and_grad

    @staticmethod
    def repeat(count, body, carry):
        return lax.scan(lambda c, _: (body(*c), None), carry, length=count)[0]


def _is_real(x):
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _halves(program, ad, arguments):
    """The program as a function of its real arguments, that returns its real results and the others."""
    real = [i for i, x in enumerate(arguments) if _is_real(x)]

    def fun(*given):
        full = list(arguments)
        for i, x in zip(real, given, strict=True):
            full[i] = x
        results = program(ad, *full)
        return [x for x in results if _is_real(x)], [x for x in results if not _is_real(x)]

    return fun, [arguments[i] for i in real]


def _weights(x, seed=1.0):
    """Irregular numbers like x."""
    return np.cos(seed + np.arange(np.size(x))).reshape(np.shape(x)).astype(jnp.result_type(x))


def _loss(fun):
    def loss(*given):
        reals, others = fun(*given)
        return sum((jnp.sum(x * _weights(x)) for x in reals), 0.0), (reals, others)

    return loss


def gradient(program, ad, arguments):
    """Values and gradient."""
    fun, given = _halves(program, ad, arguments)
    return ad.value_and_grad(_loss(fun), tuple(range(len(given))), has_aux=True)(*given)


def mapped_gradient(program, ad, arguments):
    """The gradient under vmap, at two points."""
    fun, given = _halves(program, ad, arguments)
    points = [jnp.stack([jnp.asarray(x), 0.9 * jnp.asarray(x)]) for x in given]
    found, values = jax.vmap(ad.grad(_loss(fun), tuple(range(len(given))), has_aux=True))(*points)
    return values, found


def second_order(program, ad, arguments):
    """The gradient of the gradient along a direction."""
    fun, given = _halves(program, ad, arguments)
    everywhere = tuple(range(len(given)))

    def slope(*given):
        found, _ = ad.grad(_loss(fun), everywhere, has_aux=True)(*given)
        return sum(jnp.sum(g * _weights(g, 2.0)) for g in found)

    return (), ad.grad(slope, everywhere)(*given)


def pullbacks(program, ad, arguments):
    """Results, and what the pullback makes of two cotangents, of a combination of them, and of both under vmap.

    The oracle pulls back the two and combines them: so the pullback under test is linear, and maps.
    """
    fun, given = _halves(program, ad, arguments)
    results, pullback, others = ad.vjp(fun, *given, has_aux=True)
    first, second = ([_weights(x, seed) for x in results] for seed in (1.0, 2.0))
    combine = lambda x, y: x + 0.5 * y
    stack = partial(jax.tree.map, lambda x, y: jnp.stack([x, y]))
    if ad is JAX:
        one, two = pullback(first), pullback(second)
        return (results, others), (one, two, jax.tree.map(combine, one, two), stack(one, two))
    both = jax.vmap(pullback)(stack(first, second))
    combined = pullback(jax.tree.map(combine, first, second))
    return (results, others), (pullback(first), pullback(second), combined, both)


def written(program, ad, arguments):
    """The gradient of the backward pass as text."""
    fun, given = _halves(program, ad, arguments)
    everywhere = tuple(range(len(given)))
    loss = lambda *given: jnp.asarray(_loss(fun)(*given)[0])
    if ad is JAX:
        return (), jax.grad(loss, everywhere)(*given)
    return (), tuple(dp.backward_source(loss)(*given).function()(*given))


WAYS = {f.__name__: f for f in (gradient, pullbacks, second_order, mapped_gradient, written)}


def check(program, arguments, way="gradient", jit=False, tolerance=TOLERANCE):
    """Compare the engines on `program(ad, *arguments)` in one of the `WAYS`, op by op or compiled."""
    with jax.enable_x64(True):
        both = lambda *arguments: [WAYS[way](program, ad, arguments) for ad in (Diffprog, JAX)]
        if jit:
            both = jax.jit(both, compiler_options=QUICK_COMPILATION)
        ours, theirs = both(*arguments)
        _assert_same(ours, theirs, tolerance)


def _assert_same(ours, theirs, tolerance):
    """Equal types of values and of gradients, and equal numbers up to rounding.

    Whether the gradient of a Python number is weakly typed may differ: from one JAX to the next it does too (of `max`).
    """
    for name, found, expected in zip(("values", "gradients"), ours, theirs, strict=True):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        types, expected_types = (
            [str(jax.typeof(x)).lstrip("~" * (name == "gradients")) for x in jax.tree.leaves(tree)]
            for tree in (found, expected)
        )
        assert types == expected_types, f"types of {name}: {types}, JAX's: {expected_types}"
        found, expected = (list(map(np.asarray, jax.tree.leaves(x))) for x in (found, expected))
        scale = max((np.max(np.abs(x), initial=0.0) for x in expected if _is_real(x)), default=0.0)
        assert np.isfinite(scale), f"{name}: the oracle is not finite: {expected}"
        for a, b in zip(found, expected, strict=True):
            error = np.max(np.abs(a.astype(float) - b.astype(float)), initial=0.0)
            allowed = max(tolerance * scale, TOLERANCE) if _is_real(b) else 0.0
            assert error <= allowed, f"{name} differ by {error:.1e} at {scale:.1e}: found {a}, JAX finds {b}"
