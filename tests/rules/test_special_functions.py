"""Special functions in the arguments in which JAX does not differentiate them.

Reference values: mpmath 1.4.1 with 50 digits, numerical derivatives of its `zeta`, `betainc` and `gammainc`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diffprog as dp
from diffprog._rules.incomplete_gamma_beta import gamma_sample_slope
from tests.rules.finite_differences import check, jax_refuses


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# exponent, q, first and second derivative in the exponent
ZETA = [
    (1.01, 0.05, -9938.2222196833938, 2000184.9330610318),
    (2.5, 1.0, -0.38734195032620997, 0.58196892704206818),
    (12.0, 40.0, -9.3454722776896745e-19, 3.523244580584584e-18),
    (60.0, 0.5, 7.9914429032516598e17, 5.5392461169946718e17),
]

# a, b, x, derivatives in a, in b, in both
BETA = [
    (0.5, 0.5, 0.1, -0.59262002214337939, 0.27681552435835125, -0.47342123086420335),
    (2.0, 3.0, 0.3, -0.2460937277467235, 0.12954506096487189, -0.030286638966075345),
    (3.0, 1.0, 0.9, -0.076807815914555361, 0.41250056020138636, 0.047230939995438066),
    (0.01, 592.0, 0.001, -0.4678177700120436, 9.3587648985382168e-6, 0.00093620370720407147),
    (50.0, 20.0, 0.8, -0.0065913394950639777, 0.020836255862815008, 0.0022803229106017322),
    (900.0, 300.0, 0.76, -0.0047688775634436666, 0.014703143938458026, 0.00019070210775361355),
]

# a, x, second and third derivative of P(a, x) in a; at an integer a the continued fraction ends, its tangent does not
GAMMA = [
    (0.05, 0.2, 0.4033347863528042, 3.6480446337510062),
    (2.0, 3.0, -0.079308616296455419, 0.068739905710957873),
    (2.0, 30.0, -2.4444178300810299e-11, -6.3540445364423028e-11),
    (7.5, 0.5, 1.9290637723850071e-6, -5.1862706080854261e-6),
    (800.0, 830.0, -0.00029450859964278798, -8.4315993711825457e-7),
]


def total(fun):
    return lambda *args: jnp.sum(fun(*args))


@pytest.mark.parametrize(
    ("fun", "table", "orders", "rtol"),
    [
        (lax.zeta, ZETA, [(0,), (0, 0)], 1e-14),
        (lax.betainc, BETA, [(0,), (1,), (0, 1)], 1e-10),
        (lax.igamma_grad_a, GAMMA, [(0,), (0, 0)], 1e-11),
    ],
    ids=["zeta", "betainc", "igamma_grad_a"],
)
def test_against_reference_values(fun, table, orders, rtol):
    columns = jnp.asarray(table).T
    arguments, references = columns[: -len(orders)], columns[-len(orders) :]
    jax_refuses(fun, *arguments)
    for order, expected in zip(orders, references, strict=True):
        derivative = fun
        for i in order:
            derivative = dp.grad(total(derivative), i)
        np.testing.assert_allclose(derivative(*arguments), expected, rtol=rtol)
        np.testing.assert_allclose(jax.jit(derivative)(*arguments), expected, rtol=rtol)


def test_in_the_last_argument():
    """d/dq zeta = -s zeta(s + 1, q); d/dx dP/da is the same in either order."""
    s, q = jnp.array([1.5, 3.0]), jnp.array([0.4, 2.0])
    jax_refuses(lambda q: lax.zeta(s, q), q)
    np.testing.assert_allclose(dp.grad(total(lax.zeta), 1)(s, q), -s * lax.zeta(s + 1, q), rtol=1e-14)
    a, x = jnp.array([0.5, 2.0, 7.0]), jnp.array([1.5, 3.0, 0.8])
    one_way = dp.grad(total(dp.grad(total(lax.igamma), 0)), 1)(a, x)
    np.testing.assert_allclose(one_way, dp.grad(total(dp.grad(total(lax.igamma), 1)), 0)(a, x), rtol=1e-12)


def test_at_the_ends_of_the_interval():
    ends = jnp.array([0.0, 1.0])
    for i in range(2):
        np.testing.assert_array_equal(dp.grad(total(lax.betainc), i)(jnp.full(2, 2.0), jnp.full(2, 3.0), ends), 0)


def test_narrow_floats():
    """Computed in float32, rounded once."""
    a, b, x = (np.asarray(v, jnp.bfloat16) for v in (1.5, 2.5, 0.25))
    wide = dp.grad(lax.betainc)(*(np.float32(v) for v in (a, b, x)))
    assert dp.grad(lax.betainc)(a, b, x) == wide.astype(jnp.bfloat16)


def test_how_gamma_samples_move_with_their_parameter():
    """The slope of a sample, which JAX computes by a loop, has slopes itself: against differences."""
    check(gamma_sample_slope, jnp.array([0.4, 2.0, 9.0]), jnp.array([0.7, 1.1, 14.0]), tolerance=1e-6)


def test_second_derivative_of_gamma_samples():
    """JAX's reverse mode meets a while_loop; forward mode over it is the oracle."""
    loss = lambda a: jnp.sum(jax.random.gamma(jax.random.key(0), a) ** 2)
    a = jnp.array([0.3, 4.0])
    jax_refuses(jax.grad(loss), a)
    ours = dp.grad(total(dp.grad(loss)))(a)
    np.testing.assert_allclose(ours, jax.jvp(jax.grad(loss), (a,), (jnp.ones(2),))[1], rtol=1e-9)
