import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.fit import Examples, accuracy, early_stop, fit, load_digits, mean_cross_entropy, mlp, visiting_order
from diffprog.optimize import ENGINES
from tests.compilations import counted

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


def batches_by_hand(num_examples, size, epochs, last_batch):
    order = np.asarray(visiting_order(KEY, num_examples, epochs + 1)).reshape(-1, num_examples)
    if size == num_examples:
        return [np.arange(num_examples)] * epochs
    if last_batch == "carry":
        steps = -(-epochs * num_examples // size)
        return order.ravel()[: steps * size].reshape(-1, size)
    cuts = range(0, num_examples, size)
    batches = [epoch[first : first + size] for epoch in order[:epochs] for first in cuts]
    return [batch for batch in batches if last_batch == "short" or len(batch) == size]


def softmax_loss(weights, batch):
    return mean_cross_entropy(batch.inputs @ weights, batch.labels)


def examples(seed=0, n=60):
    rng = np.random.default_rng(seed)
    data = Examples(rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n).astype(np.int32))
    return data, rng.normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("last_batch", ["short", "drop", "carry"])
@pytest.mark.parametrize("size", [1, 7, 20, 60])
def test_fit_is_gradient_descent_on_the_visiting_order(size, last_batch):
    data, weights = examples()
    options = {} if size == 60 else {"batch_size": size}
    fitted = fit(softmax_loss, weights, data, optax.sgd(0.05), epochs=4, key=KEY, last_batch=last_batch, **options)
    batches = batches_by_hand(60, size, 4, last_batch)
    expected = softmax_regression_by_hand(weights, data.inputs, data.labels, 0.05, batches)
    np.testing.assert_allclose(fitted.parameters, expected, rtol=1e-4, atol=1e-5)
    assert fitted.step == len(batches) == len(fitted.history)
    examples_seen = np.cumsum([len(batch) for batch in batches])
    assert [row["examples"] for row in fitted.history] == examples_seen.tolist()
    assert [row["step"] for row in fitted.history] == list(range(1, len(batches) + 1))
    if last_batch == "drop":
        examples_seen = examples_seen * 60 / (60 // size * size)
    np.testing.assert_allclose([row["epoch"] for row in fitted.history], examples_seen / 60)


def test_rows_were_measured_before_the_update_and_validation_after_it():
    data, weights = examples()
    fitted = fit(
        softmax_loss,
        weights,
        data,
        optax.sgd(0.5),
        steps=6,
        validation=data,
        metrics={"accuracy": lambda w, batch: accuracy(batch.inputs @ w, batch.labels)},
        validate_every=2,
    )
    losses = [row["loss"] for row in fitted.history]
    assert ["validation_loss" in row for row in fitted.history] == [False, True] * 3
    measured = [row["validation_loss"] for row in fitted.history[1::2]]
    np.testing.assert_allclose(measured[:2], losses[2::2], rtol=1e-6)
    last = fitted.history[-1]
    np.testing.assert_allclose(last["validation_loss"], softmax_loss(fitted.parameters, data), rtol=1e-6)
    right = np.mean(np.argmax(data.inputs @ fitted.parameters, axis=1) == data.labels)
    np.testing.assert_allclose(last["validation_accuracy"], right, rtol=1e-6)
    value, gradient = jax.value_and_grad(softmax_loss)(weights, data)
    np.testing.assert_allclose(fitted.history[0]["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(fitted.history[0]["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_digits_are_learned(engine):
    train, test = load_digits()
    parameters = mlp.initialize(jax.random.key(0), (64, 64, 10))
    fitted = fit(
        lambda p, batch: mean_cross_entropy(mlp.apply(p, batch.inputs), batch.labels),
        parameters,
        train,
        optax.sgd(0.03, momentum=0.9),
        batch_size=32,
        epochs=30,
        key=1,
        validation=test,
        metrics={"accuracy": lambda p, batch: accuracy(mlp.apply(p, batch.inputs), batch.labels)},
        engine=engine,
    )
    assert fitted.history[-1]["validation_accuracy"] >= 0.97
    assert np.mean([row["loss"] for row in fitted.history[-45:]]) < 0.03


def test_a_second_fit_compiles_nothing_and_reads_what_is_there_now():
    data, weights = examples()
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(5, 5)).astype(np.float32))

    def run(features, data, seed):
        loss = lambda w, batch: mean_cross_entropy(jnp.tanh(batch.inputs @ features) @ w, batch.labels)
        options = dict(batch_size=16, epochs=3, key=seed, validation=data, average=0.9, accumulate=2)
        return fit(loss, weights, data, optax.adam(0.1), **options)

    first = run(features, data, 0)
    other, more, other_features = examples(1)[0], examples(2)[0], 2 * features
    run(features, other, 1)
    with counted() as compilations:
        second = run(other_features, more, 2)
    assert compilations == [0]
    expected = mean_cross_entropy(jnp.tanh(more.inputs @ other_features) @ second.parameters, more.labels)
    assert second.history[-1]["validation_loss"] == pytest.approx(float(expected), 1e-5)
    assert first.history[-1]["loss"] != second.history[-1]["loss"]


def test_accumulated_pieces_are_one_batch():
    data, weights = examples()
    whole = fit(softmax_loss, weights, data, optax.adam(0.05), batch_size=25, epochs=2, key=KEY)
    pieces = fit(softmax_loss, weights, data, optax.adam(0.05), batch_size=25, epochs=2, key=KEY, accumulate=4)
    np.testing.assert_allclose(pieces.parameters, whole.parameters, rtol=1e-4, atol=1e-5)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(
            [r.get(name, 0) for r in pieces.history], [r.get(name, 0) for r in whole.history], rtol=1e-4
        )


def test_averaged_weights_are_the_mean_of_those_after_each_step():
    data, weights = examples()
    path = []
    fitted = fit(
        softmax_loss,
        weights,
        data,
        optax.sgd(0.5),
        steps=5,
        average=0.8,
        callbacks=lambda row, parameters: path.append(np.asarray(parameters)) and None,
        validate_every=1,
        validation=data,
    )
    shares = 0.8 ** np.arange(5)[::-1]
    expected = np.tensordot(shares / shares.sum(), np.stack(path), 1)
    np.testing.assert_allclose(fitted.averaged, expected, rtol=1e-5)
    measured = float(softmax_loss(expected, data))
    assert fitted.history[-1]["averaged_validation_loss"] == pytest.approx(measured, 1e-5)


def test_clipping_and_freezing():
    data, weights = examples()
    loss = lambda p, batch: softmax_loss(p["w"], batch) + mean_cross_entropy(p["b"] + jnp.zeros((60, 3)), batch.labels)
    parameters = {"w": weights, "b": np.array([3.0, 0.0, 0.0], np.float32)}
    fitted = fit(loss, parameters, data, optax.sgd(1.0), steps=1, train="b", clip_norm=0.1)
    np.testing.assert_array_equal(fitted.parameters["w"], weights)
    assert np.linalg.norm(fitted.parameters["b"] - parameters["b"]) == pytest.approx(0.1, 1e-4)
    assert fitted.history[0]["gradient_norm"] > 0.1  # as it was before


def test_lbfgs_fits():
    data, weights = examples()
    fitted = fit(softmax_loss, weights, data, optax.lbfgs(), steps=25)
    gradient = jax.grad(softmax_loss)(fitted.parameters, data)
    assert np.linalg.norm(gradient) < 1e-4


def test_evaluations_of_a_line_search_are_counted(tmp_path):
    data, weights = examples()
    asked = []

    def loss(w, batch):
        jax.debug.callback(lambda: asked.append(1))
        return softmax_loss(w, batch)

    def searched(steps):
        search = optax.chain(optax.sgd(100.0), optax.scale_by_backtracking_linesearch(10))
        fitted = fit(loss, weights, data, search, steps=steps, directory=tmp_path)
        jax.effects_barrier()
        return [row["evaluations"] for row in fitted.history]

    for steps in (3, 8):  # the second goes on
        counted = searched(steps)
        assert counted[-1] == len(asked) > 1.5 * steps
    assert len(counted) == 8 and (np.diff(counted) >= 1).all()
    plain = fit(softmax_loss, weights, data, optax.sgd(0.1), steps=3)
    assert [row["evaluations"] for row in plain.history] == [1, 2, 3]


# ---------------------------------------------------------------- how a fit ends


def test_early_stop_returns_the_parameters_it_measured():
    data, weights = examples()
    seen = {}

    def remember(row, parameters):
        seen[row["step"]] = np.asarray(parameters)

    def overfit(w, batch):  # the validation data have other labels
        return softmax_loss(w, batch)

    other = data._replace(labels=np.roll(data.labels, 7))
    fitted = fit(
        overfit,
        weights,
        data,
        optax.sgd(0.5),
        steps=300,
        validation=other,
        validate_every=3,
        stop=early_stop(patience=4),
        callbacks=remember,
    )
    rows = [row for row in fitted.history if "validation_loss" in row]
    best = min(rows, key=lambda row: row["validation_loss"])
    assert rows[-1]["step"] == best["step"] + 12 == fitted.step < 300
    np.testing.assert_array_equal(fitted.parameters, seen[best["step"]])
    assert float(softmax_loss(fitted.parameters, other)) == pytest.approx(best["validation_loss"], 1e-6)
    assert f"at step {best['step']}, and not better in 4 measurements" in fitted.reason and fitted.finished


def test_the_best_parameters_are_returned_without_a_stop_too():
    data, weights = examples()
    other = data._replace(labels=np.roll(data.labels, 7))
    options = dict(validation=other, validate_every=3, stop=early_stop(patience=100))
    fitted = fit(softmax_loss, weights, data, optax.sgd(0.5), steps=60, **options)
    best = min(row["validation_loss"] for row in fitted.history if "validation_loss" in row)
    assert float(softmax_loss(fitted.parameters, other)) == pytest.approx(best, 1e-6)
    assert best < fitted.history[-1]["validation_loss"]


def test_stop_and_callbacks_end_a_fit():
    data, weights = examples()
    fitted = fit(
        softmax_loss, weights, data, optax.sgd(0.5), steps=60, validate_every=5, stop=lambda row: row["step"] >= 20
    )
    assert fitted.step == 20 and fitted.reason == "stop ended it after step 20"
    fitted = fit(
        softmax_loss, weights, data, optax.sgd(0.5), steps=60, validate_every=5, callbacks=[lambda row, p: True]
    )
    assert fitted.step == 5 and fitted.reason == "a callback ended it after step 5"


def test_nan_ends_a_fit_with_the_last_good_parameters():
    data, weights = examples()
    bad = data._replace(inputs=data.inputs.copy())
    bad.inputs[17, 2] = np.nan
    order = np.asarray(visiting_order(KEY, 60, 1))
    step = int(np.flatnonzero(order == 17)[0]) // 7
    with pytest.warns(UserWarning, match=rf"fit ended: the loss is nan in step {step + 1}; "):
        fitted = fit(softmax_loss, weights, bad, optax.sgd(0.05), batch_size=7, epochs=4, key=KEY)
    assert fitted.step == step == len(fitted.history) and not fitted.finished
    expected = softmax_regression_by_hand(weights, data.inputs, data.labels, 0.05, order[: 7 * step].reshape(-1, 7))
    np.testing.assert_allclose(fitted.parameters, expected, rtol=1e-4, atol=1e-5)
    assert "batch.inputs[4, 2] is not finite" in str(fitted.diagnose())


def test_an_interrupt_keeps_everything():
    data, weights = examples()

    def interrupt(row, parameters):
        if row["step"] == 15:
            raise KeyboardInterrupt

    fitted = fit(softmax_loss, weights, data, optax.sgd(0.5), steps=60, validate_every=5, callbacks=interrupt)
    shorter = fit(softmax_loss, weights, data, optax.sgd(0.5), steps=15)
    assert fitted.reason == "interrupted after step 15" and not fitted.finished
    assert [row["loss"] for row in fitted.history] == [row["loss"] for row in shorter.history]
    np.testing.assert_array_equal(fitted.parameters, shorter.parameters)


def test_no_steps_return_the_start():
    data, weights = examples()
    fitted = fit(softmax_loss, weights, data, optax.sgd(0.5), epochs=0)
    np.testing.assert_array_equal(fitted.parameters, weights)
    assert fitted.history == [] and fitted.step == 0


def test_progress_and_curves(capsys, tmp_path):
    data, weights = examples()
    fitted = fit(softmax_loss, weights, data, optax.sgd(0.5), steps=30, progress="learning", validation=data)
    shown = capsys.readouterr().err
    assert "learning" in shown and "30/30" in shown
    assert fitted.save_curves(tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- small parts


def test_visiting_order_is_a_permutation_per_epoch_that_more_epochs_only_extend():
    order = np.asarray(visiting_order(KEY, 50, 6)).reshape(6, 50)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(50), (6, 1)))
    assert len(np.unique(order, axis=0)) == 6
    np.testing.assert_array_equal(visiting_order(KEY, 50, 2), order[:2].ravel())
    np.testing.assert_array_equal(visiting_order(KEY, 50, 2, 3), order[3:5].ravel())


def test_cross_entropy_and_accuracy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    np.testing.assert_allclose(mean_cross_entropy(logits, jnp.array([0, 1])), (np.log(2) + np.log(5)) / 2, rtol=1e-6)
    assert float(accuracy(logits, jnp.array([0, 1]))) == 0.5
