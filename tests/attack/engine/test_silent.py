"""No robustness in silence: gradients that lead nowhere, logits that are not finite."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog import attack
from diffprog.attack import AttackWarning, ExpectationOverTransformation

KEY = jax.random.key(0)
WEIGHTS = jnp.float32([[1, 0], [1, 0], [0, 1]])
IMAGES = np.float32([[0.26, 0.26, 0.4], [0.24, 0.24, 0.3]])
LABELS = np.zeros(2, int)

rounding = lambda x: jnp.round(x * 8) / 8 @ WEIGHTS
stopped = lambda x: jax.lax.stop_gradient(x) @ WEIGHTS
thresholds = lambda x: (x > 0.25).astype(jnp.float32) @ WEIGHTS + 0.1 * jnp.ones(2).at[1].set(0)
linear = lambda x: x @ WEIGHTS


@pytest.mark.parametrize(("model", "cause"), [(rounding, "round"), (stopped, "stop_gradient")])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "carlini_wagner", "deepfool", "lbfgs"])
def test_a_zero_gradient_is_told_with_its_cause(name, model, cause):
    with pytest.warns(attack.AttackWarning, match=f"(?s){name} found no usable gradient for 2 of 2 .*{cause}"):
        result = getattr(attack, name)(model, IMAGES, LABELS, key=KEY)
    assert result.no_gradient.tolist() == [True, True] and not result.success.any()


def test_a_zero_gradient_of_some_images_is_counted():
    half = lambda x: jnp.where(x[:, :1] > 0.25, jnp.round(x * 8) / 8, x) @ WEIGHTS
    with pytest.warns(attack.AttackWarning, match="no usable gradient for 1 of 2 searches"):
        result = attack.bim(half, IMAGES, LABELS, epsilon=0.02)
    assert result.no_gradient.tolist() == [True, False]


def test_attacks_without_gradients_and_those_that_succeed_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not attack.square(rounding, IMAGES, LABELS, key=KEY, epsilon=0.01).no_gradient.any()
        assert not attack.pgd(linear, IMAGES, LABELS, key=KEY, epsilon=0.01).no_gradient.any()
        assert attack.bim(linear, IMAGES, LABELS, epsilon=0.3).success.all()


def test_a_random_model_without_gradient_is_told_too():
    noisy = ExpectationOverTransformation(lambda x, key: rounding(x + 0.001 * jax.random.normal(key, x.shape)), 3)
    with pytest.warns(attack.AttackWarning, match="no usable gradient"):
        attack.bim(noisy, IMAGES, LABELS, epsilon=0.01)


@pytest.mark.parametrize("name", ["bim", "ddn", "deepfool", "fmn", "carlini_wagner", "apgd"])
def test_an_infinite_slope_does_not_stop_a_search(name):
    """A square root of black pixels: one of them, moved by 0.04, changes the class."""
    images = np.float32([[0, 0, 0.5, 0.4]])
    model = lambda x: jnp.sqrt(x) @ jnp.float32([[1, 0], [0, 1], [1, 0], [0, 1]])
    options = {"norm": attack.l2, "epsilon": 0.2} if name in ("bim", "apgd") else {}
    result = getattr(attack, name)(model, images, np.zeros(1, int), key=KEY, **options)
    assert result.success.all()
    lead = lambda x: np.sqrt(x[1]) + np.sqrt(x[3]) - np.sqrt(x[2])
    scale = np.linspace(0, 0.02, 101)
    grid = np.stack(np.meshgrid(scale, scale, scale, indexing="ij"), -1).reshape(-1, 3)
    points = np.array([0, 0, 0.5, 0.4])[:, None] + np.stack([0 * grid[:, 0], grid[:, 0], -grid[:, 1], grid[:, 2]])
    exact = np.linalg.norm(grid[lead(points) > 0], axis=1).min()
    farthest = {"bim": 0.2, "apgd": 0.2, "carlini_wagner": 10 * exact}  # Adam passes the valley in steps of 0.01
    assert result.distances["l2"][0] < farthest.get(name, 1.5 * exact)


def test_a_search_by_decisions_without_a_start_is_told():
    """A "defence" that answers NaN for all but its grid of gray levels: no image of noise is adversarial."""
    grid = np.tile(np.float32([10, 6]) / 16, (2, 1))
    defence = lambda x: jnp.where(jnp.abs(x * 16 - jnp.round(x * 16)).max(1, keepdims=True) > 1e-3, jnp.nan, 5 * x)
    with pytest.warns(AttackWarning, match="hop_skip_jump found no adversarial point to start from for 2"):
        found = attack.hop_skip_jump(defence, grid, np.zeros(2, int), key=jax.random.key(0), max_steps=1, init_trials=4)
    assert found.no_gradient.all()


def test_nan_on_the_way_counts_as_neither_robust_nor_broken():
    def answers_nan(x):
        off_grid = jnp.abs(x * 16 - jnp.round(x * 16)).max(1, keepdims=True) > 1e-3
        return jnp.where(off_grid, jnp.nan, 5 * x)

    images = np.tile(np.float32([10, 6]) / 16, (4, 1))
    for name in ("pgd", "square", "fmn"):
        options = {} if name == "fmn" else {"epsilon": 0.2}
        with pytest.warns(attack.AttackWarning, match="logits were NaN or infinite at points that .* tried for 4 of 4"):
            result = getattr(attack, name)(answers_nan, images, np.zeros(4, int), key=KEY, **options)
        assert result.nonfinite.all() and result.robust_accuracy == 0 and result.clean_accuracy == 1


def test_one_image_that_overflows_does_not_touch_the_others():
    images = np.float32([[0.6, 0.4], [0.9, 0.1]])
    model = lambda x: jnp.where(x[:, :1] > 0.8, jnp.where(x[:, :1] == np.float32(0.9), 5 * x, jnp.inf), 5 * x)
    with pytest.warns(attack.AttackWarning, match="tried for 1 of 2"):
        result = attack.pgd(model, images, np.zeros(2, int), key=KEY, epsilon=0.05)
    assert result.nonfinite.tolist() == [False, True]
    alone = attack.pgd(model, images[:1], np.zeros(1, int), key=KEY, epsilon=0.05)
    np.testing.assert_allclose(result.images[:1], alone.images, atol=1e-6)


def test_of_several_attacks_one_that_needs_no_gradient_is_a_search():
    """AutoAttack's members by gradient find none; Square, which follows values, searches: a failure like any other."""
    with pytest.warns(attack.AttackWarning, match="apgd found no usable gradient for 2 of 2"):
        result = attack.autoattack(rounding, IMAGES, LABELS, key=KEY, epsilon=0.005)
    assert result.failure.all() and not result.no_gradient.any()
