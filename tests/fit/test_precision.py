import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.fit import fit
from diffprog.fit._precision import in_precision, scaled_value_and_grad
from diffprog.optimize import ENGINES

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
W = jnp.array([0.5, -1.0, 2.0])


def quadratic(factor):
    def loss(w, x):
        assert w.dtype == x.dtype == jnp.float16
        return jnp.mean((x @ w * jnp.float16(factor)) ** 2 * jnp.float16(factor))

    return loss


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("factor", [1e-3, 1.0, 12.0])
def test_gradients_neither_vanish_nor_overflow(engine, factor):
    """With 0.001 cotangents are below float16's smallest number; with 12, scaled ones are above its largest."""
    loss = in_precision(quadratic(factor), "float16")
    value, gradient = jax.jit(scaled_value_and_grad(engine)(lambda w: loss(w, X)))(W)
    exact = float(jnp.float16(factor)) ** 3 * 2 * X.T @ (X @ W) / len(X)
    assert gradient.dtype == jnp.float32 and value.dtype == jnp.float32
    np.testing.assert_allclose(gradient, exact, rtol=1e-2, atol=1e-2 * np.abs(exact).max())


def test_without_a_scale_they_do_vanish():
    loss = in_precision(quadratic(1e-3), "float16")
    plain = jax.grad(lambda w: loss(w, X))(W)
    exact = 1e-9 * 2 * X.T @ (X @ W) / len(X)
    assert np.abs(plain - exact).max() > 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_fit_in_half_precision(precision):
    seen = []

    def loss(w, batch):
        x, y = batch
        seen.append((w.dtype, x.dtype))
        return jnp.mean((x @ w - y) ** 2)

    y = X @ W
    fitted = fit(loss, jnp.zeros(3), (X, y), optax.sgd(0.1), steps=300, precision=precision)
    assert fitted.parameters.dtype == jnp.float32 and set(seen) == {(jnp.dtype(precision),) * 2}
    np.testing.assert_allclose(fitted.parameters, W, atol=0.02)  # a few units of bfloat16's last place
    with pytest.raises(ValueError, match="precision must be one of bfloat16, float16"):
        fit(loss, jnp.zeros(3), (X, y), optax.sgd(0.1), steps=1, precision="half")
