import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.fit import learning_rate_range

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(64, 5)) * [1, 1, 1, 1, 2]).astype(np.float32)
DATA = (X, X @ np.arange(5, dtype=np.float32))
START = jnp.zeros(5)


def loss(w, batch):
    x, y = batch
    return jnp.mean((x @ w - y) ** 2)


def test_the_rates_are_geometric_and_the_losses_those_of_a_run_by_hand():
    found = learning_rate_range(loss, START, DATA, lowest=1e-4, highest=1e-2, steps=50)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e-2, 50), rtol=1e-6)
    w, losses = np.zeros(5), []
    for rate in found.rates:
        residuals = X @ w - DATA[1]
        losses.append(np.mean(residuals**2))
        w = w - rate * 2 * X.T @ residuals / 64
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)


def test_it_ends_where_descent_is_unstable():
    """Of a quadratic, the loss rises beyond a rate of 2 / L, and a while of growth later is seen in its mean."""
    border = 2 / np.linalg.eigvalsh(2 * X.T @ X / 64)[-1]
    found = learning_rate_range(loss, START, DATA, lowest=1e-3, highest=100.0, steps=400)
    assert len(found.rates) < 400 and np.isfinite(found.losses).all()
    assert border / 2 < found.lowest_at < 3 * border
    assert found.steepest < found.lowest_at and found.suggestion == pytest.approx(found.lowest_at / 10)
    assert f"{found.suggestion:.2g}" in str(found)


def test_a_picture(tmp_path):
    path = learning_rate_range(loss, START, DATA, optax.adam, steps=30, batch_size=8).save_curve(tmp_path / "r.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_rates_that_do_not_grow_are_refused():
    with pytest.raises(ValueError, match="lowest must be below highest"):
        learning_rate_range(loss, START, DATA, lowest=1.0, highest=0.1)
    with pytest.raises(ValueError, match="must be finite for a few steps"):
        learning_rate_range(loss, START * np.nan, DATA)
