import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffprog.attack import adversarial_training, l2, linf, pgd
from diffprog.fit import load_digits
from diffprog.models import load
from diffprog.optimize import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", [linf, l2], ids=lambda norm: norm.name)
def test_examples_go_to_the_worst_point_of_the_ball(norm, engine):
    """Two classes split by a plane: the worst point is a step along its normal, of the size of the budget."""
    rng = np.random.default_rng(0)
    weights, inputs = rng.normal(size=(9,)), rng.uniform(0.4, 0.6, (5, 9)).astype(np.float32)
    apply = lambda w, x: jnp.stack([x @ w, -x @ w], axis=-1)
    perturb = jax.jit(adversarial_training(norm, 0.2, max_steps=40, engine=engine), static_argnums=0)
    moved = np.asarray(perturb(apply, jnp.float32(weights), inputs, np.zeros(5, int), jax.random.key(1)))
    direction = np.sign(weights) if norm is linf else weights / np.linalg.norm(weights)
    np.testing.assert_allclose(moved, inputs - 0.2 * direction, atol=1e-3)
    assert norm.measure(moved - inputs).max() <= 0.2


def test_a_norm_by_its_name_and_a_budget_of_zero():
    apply, inputs = lambda w, x: x @ w, np.full((2, 3), 0.5, np.float32)
    weights, labels = np.eye(3, dtype=np.float32), np.zeros(2, int)
    moved = lambda norm, epsilon: adversarial_training(norm, epsilon, 1)(
        apply, weights, inputs, labels, jax.random.key(0)
    )
    np.testing.assert_array_equal(moved("l2", 0.1), moved(l2, 0.1))
    np.testing.assert_array_equal(moved("linf", 0), inputs)


def test_lengths_are_checked_at_once():
    with pytest.raises(ValueError, match="epsilon must be a number of at least 0; found -1"):
        adversarial_training(linf, -1)


def test_the_networks_that_come_with_the_package():
    """Accuracies on the 357 digits that they were not trained on, as `demos/train_digits.py` printed them."""
    _, test = load_digits()
    images = test.inputs.reshape(-1, 8, 8, 1)
    for name, clean, robust in (("digits", 0.986, 0.048), ("digits_robust", 0.983, 0.675)):
        model = load(name)
        found = pgd(model, images, test.labels, key=jax.random.key(0), epsilon=0.15, early_stop=True)
        # Another processor rounds otherwise, which may turn one of 357.
        assert found.clean_accuracy == pytest.approx(clean, abs=0.003)
        assert found.robust_accuracy == pytest.approx(robust, abs=0.01)
