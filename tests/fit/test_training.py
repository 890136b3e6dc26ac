import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.fit import Examples, accuracy, fit, load_digits, mean_cross_entropy, mlp, visiting_order
from diffprog.optimize import ENGINES

KEY = jax.random.key(3)


def softmax_regression_by_hand(weights, inputs, labels, rate, batches):
    """Plain NumPy gradient descent: the gradient of the cross-entropy is inputs^T (softmax - one-hot) / batch."""
    weights = weights.astype(np.float64)
    for chosen in batches:
        logits = inputs[chosen] @ weights
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual = exponentials / exponentials.sum(axis=1, keepdims=True)
        residual[np.arange(len(chosen)), labels[chosen]] -= 1
        weights -= rate * inputs[chosen].T @ residual / len(chosen)
    return weights


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_fit_is_gradient_descent_on_the_visiting_order(batch):
    rng = np.random.default_rng(0)
    data = Examples(rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 3, 60).astype(np.int32))
    weights = rng.normal(size=(5, 3)).astype(np.float32)
    fitted = fit(
        lambda w, x: x @ w, weights, data, data, optax.sgd(0.05), batch_size=batch, epochs=4, key=KEY, engine="jax"
    )
    order = np.asarray(visiting_order(KEY, 60, 4))
    batches = order[: 240 // batch * batch].reshape(-1, batch)
    expected = softmax_regression_by_hand(weights, data.inputs, data.labels, 0.05, batches)
    np.testing.assert_allclose(fitted.parameters, expected, rtol=1e-4, atol=1e-5)
    assert fitted.epochs[-1] == pytest.approx(len(batches) * batch / 60)


def test_a_step_learns_from_perturbed_examples():
    rng = np.random.default_rng(1)
    data = Examples(rng.normal(size=(12, 5)).astype(np.float32), rng.integers(0, 3, 12).astype(np.int32))
    weights = rng.normal(size=(5, 3)).astype(np.float32)

    def perturb(apply, parameters, inputs, labels, key):  # depends on the parameters, which must not be felt
        return inputs + 0.1 * apply(parameters, inputs).sum(axis=1, keepdims=True) + labels[:, None]

    options = dict(batch_size=12, epochs=1, key=KEY, engine="jax")
    fitted = fit(lambda w, x: x @ w, weights, data, data, optax.sgd(0.05), perturb=perturb, **options)
    moved = perturb(lambda w, x: x @ w, weights, data.inputs, data.labels, None)
    expected = softmax_regression_by_hand(weights, moved, data.labels, 0.05, [np.arange(12)])
    np.testing.assert_allclose(fitted.parameters, expected, rtol=1e-4, atol=1e-5)


def test_curves_report_the_whole_sets():
    train, test = load_digits()
    parameters = mlp.initialize(KEY, (64, 16, 10))
    fitted = fit(mlp.apply, parameters, train, test, optax.sgd(0.1), batch_size=32, epochs=3, key=KEY, engine="jax")
    np.testing.assert_array_equal(fitted.epochs, [0, 1, 2, 3])
    for index, at in ((0, parameters), (-1, fitted.parameters)):
        loss = mean_cross_entropy(mlp.apply(at, train.inputs), train.labels)
        right = np.mean(np.argmax(mlp.apply(at, test.inputs), axis=1) == test.labels)
        np.testing.assert_allclose([fitted.train_loss[index], fitted.test_accuracy[index]], [loss, right], rtol=1e-5)


def test_visiting_order_is_a_permutation_per_epoch_that_more_epochs_only_extend():
    order = np.asarray(visiting_order(KEY, 50, 6)).reshape(6, 50)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(50), (6, 1)))
    assert len(np.unique(order, axis=0)) == 6
    np.testing.assert_array_equal(visiting_order(KEY, 50, 2), order[:2].ravel())


def test_cross_entropy_and_accuracy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    np.testing.assert_allclose(mean_cross_entropy(logits, jnp.array([0, 1])), (np.log(2) + np.log(5)) / 2, rtol=1e-6)
    assert float(accuracy(logits, jnp.array([0, 1]))) == 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_digits_are_learned(engine):
    train, test = load_digits()
    parameters = mlp.initialize(jax.random.key(0), (64, 64, 10))
    fitted = fit(
        mlp.apply,
        parameters,
        train,
        test,
        optax.sgd(0.03, momentum=0.9),
        batch_size=32,
        epochs=30,
        key=jax.random.key(1),
        engine=engine,
    )
    assert fitted.test_accuracy[-1] >= 0.97
    assert fitted.train_loss[-1] < 0.03


def test_engines_fit_the_same_parameters():
    train, test = load_digits()
    parameters = mlp.initialize(jax.random.key(0), (64, 32, 10))
    ours, theirs = (
        fit(
            mlp.apply,
            parameters,
            train,
            test,
            optax.sgd(0.1, momentum=0.9),
            batch_size=144,
            epochs=3,
            key=KEY,
            engine=engine,
        ).parameters
        for engine in ENGINES
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("batch", [0, 61])
def test_impossible_batch_is_refused(batch):
    data = Examples(np.zeros((60, 5), np.float32), np.zeros(60, np.int32))
    with pytest.raises(ValueError, match=f"batch_size must be between 1 and the 60 training examples; found {batch}"):
        fit(lambda w, x: x @ w, np.zeros((5, 3)), data, data, optax.sgd(0.1), batch_size=batch, epochs=1, key=KEY)


def test_what_the_network_reads_besides_its_parameters_is_read_in_each_fit():
    rng = np.random.default_rng(2)
    data = Examples(rng.normal(size=(12, 5)).astype(np.float32), rng.integers(0, 3, 12).astype(np.int32))
    weights, state = rng.normal(size=(4, 3)).astype(np.float32), {}

    def apply(w, x):
        return jnp.tanh(x @ state["features"]) @ w

    for scale in (0.1, 2.0):
        state["features"] = scale * rng.normal(size=(5, 4)).astype(np.float32)
        fitted = fit(apply, weights, data, data, optax.sgd(0.05), batch_size=12, epochs=1, key=KEY, engine="jax")
        expected = float(mean_cross_entropy(apply(weights, data.inputs), data.labels))
        assert fitted.train_loss[0] == pytest.approx(expected, 1e-5)
