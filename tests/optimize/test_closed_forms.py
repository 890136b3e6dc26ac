"""Our loop against what mathematics says that it must do: iterates, borders, rates, noise, failures.

Many settings are one run: step sizes and momenta are arrays that broadcast over replicas of one small problem.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffprog.optimize import Descent, rates


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def path(objective, optimizer, start, num_steps, *, data=None, key=None, project=None, engine="diffprog"):
    """The parameters before each step and after the last."""
    loop = Descent(
        lambda p, step: (objective(p, step), p),
        optimizer,
        has_aux=True,
        project=project,
        engine=engine,
        allow_nonfinite=True,
    )
    state = loop.init(jnp.asarray(start, jnp.float64), key=key)
    state, history = loop.run(state, num_steps, data=data, block_size=max(num_steps, 1))
    return np.concatenate([history.aux, state.parameters[None]])


def last(objective, optimizer, start, num_steps, **options):
    loop = Descent(objective, optimizer, project=options.pop("project", None), allow_nonfinite=True)
    state = loop.init(jnp.asarray(start, jnp.float64), key=options.pop("key", None))
    return np.asarray(loop.run(state, num_steps, block_size=num_steps, **options)[0].parameters)


def optimizer_of(method, alpha, beta):
    if method == "gradient descent":
        return optax.sgd(alpha)
    return optax.sgd(alpha, momentum=beta, nesterov=method == "nesterov")


def modes(eigenvalues):
    eigenvalues = jnp.asarray(eigenvalues)
    return lambda x, step: jnp.sum(eigenvalues * x**2) / 2


# ---------------------------------------------------------------- quadratics without noise


ALPHA = np.array([0.01, 0.02, 0.3, 0.9])[:, None, None]
BETA = np.array([0.0, 0.5, 0.9, 0.99])[:, None]
LAMBDA = np.array([0.1, 1.0, 2.0])


@pytest.mark.parametrize("engine", ["diffprog", "jax"])
@pytest.mark.parametrize("method", rates.METHODS)
def test_iterates_are_the_powers_of_a_matrix(method, engine):
    start = np.full(np.broadcast_shapes(ALPHA.shape, BETA.shape, LAMBDA.shape), 3.0)
    found = path(modes(LAMBDA), optimizer_of(method, ALPHA, BETA), start, 100, engine=engine)
    steps = np.arange(101)[:, None, None, None]
    expected = rates.iterates(method, ALPHA, BETA, LAMBDA, steps, 3.0, lookahead=method == "nesterov")
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("method", rates.METHODS)
def test_converges_up_to_the_border_and_not_beyond(method):
    beta = np.array([0.0, 0.5, 0.9, 0.99])
    alpha = rates.largest_stable_step(method, beta, LAMBDA[:, None]) * np.array([0.999, 1.001])[:, None, None]
    start = np.ones(alpha.shape)
    below, above = np.abs(last(modes(LAMBDA[:, None]), optimizer_of(method, alpha, beta), start, 8000))
    assert below.max() < 1e-1 and above.min() > 10


def test_momentum_99_and_step_002_converge_below_eigenvalue_199():
    eigenvalues = np.array([1, 100, 198.9, 199.1])
    found = path(modes(eigenvalues), optax.sgd(0.02, momentum=0.99), np.ones(4), 4000)
    assert np.all(np.abs(found[-1, :3]) < 1e-7) and abs(found[-1, 3]) > 1
    np.testing.assert_allclose(rates.rate("heavy ball", 0.02, 0.99, eigenvalues[:3]), 0.99**0.5)


@pytest.mark.parametrize("method", rates.METHODS)
def test_best_settings_reach_a_millionth_when_predicted(method):
    smallest, largest = 0.03, 3.0
    eigenvalues = np.linspace(smallest, largest, 41)
    alpha, beta, _ = rates.best(method, smallest, largest)
    found = path(modes(eigenvalues), optimizer_of(method, alpha, beta), np.ones(41), 1000)
    if method == "nesterov":  # whose parameters are y; of y = x + beta (x - x_prev), x is found by going back
        y, found = found, np.ones((1, 41))
        for row in y[1:]:
            found = np.concatenate([found, [(row + beta * found[-1]) / (1 + beta)]])
    counted = np.flatnonzero(np.abs(found).max(1) > 1e-6)[-1] + 1
    assert counted == rates.steps_to(method, alpha, beta, eigenvalues, 1e-6)


def test_heavy_ball_is_best_at_its_best_settings():
    """In the run itself: no neighbor of alpha* and beta* is nearer to the minimum after many steps."""
    alpha, beta, rate = rates.best("heavy ball", 0.1, 1.0)
    alphas = alpha * np.array([0.8, 0.9, 1.0, 1.1, 1.2])[:, None, None]
    betas = (beta + np.array([-0.1, -0.03, 0.0, 0.03, 0.1]))[:, None]
    start = np.ones((5, 5, 2))
    error = np.abs(path(modes([0.1, 1.0]), optax.sgd(alphas, momentum=betas), start, 400)[-40:]).max((0, 3))
    assert np.unravel_index(error.argmin(), error.shape) == (2, 2)
    assert error.min() < 360 * rate**360 and np.sort(error.ravel())[1] > 1e3 * error.min()


def test_critical_damping_is_the_fastest_momentum():
    betas = np.linspace(0.5, 0.78, 29)
    error = np.abs(path(modes(4.0), optax.sgd(0.01, momentum=betas), np.ones(29), 1500)[-30:]).max(0)
    np.testing.assert_allclose(betas[error.argmin()], rates.critical_momentum(0.01, 4.0), atol=1e-9)


# ---------------------------------------------------------------- what no first-order method can do


FIRST_ORDER = {
    "sgd": optax.sgd(0.2),
    "heavy ball": optax.sgd(0.2, momentum=0.8),
    "nesterov": optax.sgd(0.2, momentum=0.8, nesterov=True),
    "adam": optax.adam(0.05),
    "rmsprop": optax.rmsprop(0.01),
    "adagrad": optax.adagrad(0.3),
    "lion": optax.lion(0.01),
}


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_worst_function_moves_one_element_a_step(name):
    """A method in the span of the gradients knows nothing of elements beyond the number of its steps."""
    kappa, size, num_steps = 100.0, 60, 40

    def worst(w, step):
        chain = (w[0] - 1) ** 2 / 2 + jnp.sum((w[:-1] - w[1:]) ** 2) / 2
        return chain + 2 * jnp.sum(w**2) / (kappa - 1)

    found = path(worst, FIRST_ORDER[name], np.zeros(size), num_steps)
    for k, w in enumerate(found):
        assert np.all(w[k:] == 0)
        assert np.all(w[:k] != 0)
    minimum = ((kappa**0.5 - 1) / (kappa**0.5 + 1)) ** np.arange(1, size + 1)  # of infinitely many elements
    errors = np.linalg.norm(found - minimum, axis=1)
    bounds = [np.linalg.norm(minimum[k:]) for k in range(num_steps + 1)]
    assert np.all(errors >= bounds)


# ---------------------------------------------------------------- noise


def test_noise_floors_are_the_stationary_variances():
    alpha, beta = np.array([(0.1, 0.0), (0.1, 0.5), (0.1, 0.9), (1.5, 0.3)]).T[:, :, None]
    replicas = 4000
    noisy = lambda x, step: jnp.sum(x**2 / 2 + 3 * x * jax.random.normal(step.key, x.shape))
    for nesterov, method in ((False, "heavy ball"), (True, "nesterov")):
        optimizer = optax.sgd(alpha[:3], momentum=beta[:3], nesterov=nesterov)
        found = last(noisy, optimizer, np.zeros((3, replicas)), 400, key=jax.random.key(0))
        expected = rates.stationary_variance(method, alpha[:3], beta[:3], 1.0, 9.0, lookahead=nesterov)[:, 0]
        within_three_errors(found**2, expected)
    found = last(noisy, optax.sgd(alpha, momentum=beta), np.zeros((4, replicas)), 400, key=jax.random.key(1))
    within_three_errors(found**2, rates.stationary_variance("heavy ball", alpha, beta, 1.0, 9.0)[:, 0])


def test_noise_floor_in_several_dimensions():
    rng = np.random.default_rng(0)
    hessian, factor = (lambda m: m @ m.T / 3 + np.eye(3))(rng.normal(size=(3, 3))), rng.normal(size=(3, 3))

    def noisy(x, step):
        noise = jax.random.normal(step.key, x.shape) @ factor.T
        return jnp.sum(x * (x @ hessian)) / 2 + jnp.sum(noise * x)

    found = last(noisy, optax.sgd(0.2), np.zeros((20_000, 3)), 100, key=jax.random.key(0))
    expected = rates.stationary_covariance(hessian, factor @ factor.T, 0.2)
    products = found[:, :, None] * found[:, None, :]
    within_three_errors(np.moveaxis(products, 0, -1), expected)


def within_three_errors(samples, expected):
    error = samples.std(-1) / samples.shape[-1] ** 0.5
    assert np.all(np.abs(samples.mean(-1) - expected) <= 3 * error), (samples.mean(-1), expected, error)


def regression(num_examples=12, size=3):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(num_examples, size))
    return features, features @ rng.normal(size=size) + 0.5 * rng.normal(size=num_examples)


@pytest.mark.parametrize("batch_size", [1, 3, 12])
def test_random_batches_of_least_squares_have_the_exact_second_moment(batch_size):
    features, targets = regression()
    replicas = 2000

    def loss(w, step):
        draws = jax.random.uniform(step.key, (replicas, 12))
        batch = jnp.argsort(draws, axis=1)[:, :batch_size]
        errors = jnp.einsum("rbd,rd->rb", jnp.asarray(features)[batch], w) - jnp.asarray(targets)[batch]
        return jnp.sum(jnp.mean(errors**2, axis=1)) / 2

    found = path(loss, optax.sgd(0.05), np.zeros((replicas, 3)), 400, key=jax.random.key(3))
    minimum = np.linalg.lstsq(features, targets, rcond=None)[0]
    squares = np.sum((found - minimum) ** 2, axis=2)
    expected = rates.least_squares_moments(features, targets, np.zeros(3), 0.05, batch_size, 400)
    if batch_size == 12:  # no noise: every replica is the mean
        np.testing.assert_allclose(squares.mean(1), expected, rtol=1e-9)
    else:
        steps = [1, 3, 10, 30, 100, 400]
        within_three_errors(squares[steps], expected[steps])


# ---------------------------------------------------------------- the implicit regularizer


@pytest.mark.parametrize("batch_size, orders", [(1, (2, 2, 3)), (2, (2, 2, 3)), (4, (2, 3, 3))])
def test_mean_epoch_follows_the_flow_of_the_regularized_loss(batch_size, orders):
    """Errors of the mean over all orders of an epoch, to the flow of the loss and of two modified ones."""
    rng = np.random.default_rng(0)
    features, targets = jnp.asarray(rng.normal(size=(4, 2))), jnp.asarray(rng.normal(size=4))
    start = jnp.asarray([0.3, -0.5])
    example = lambda w, x, y: (jnp.tanh(x @ w) - y) ** 2 / 2
    permutations = jnp.asarray(list(itertools.permutations(range(4))))
    alphas = 0.1 / 2.0 ** np.arange(4)

    def loss(w, step):  # w (step sizes, orders, 2)
        batch = jax.lax.dynamic_slice_in_dim(permutations, step.num_steps * batch_size, batch_size, axis=1)
        rows = jax.vmap(jax.vmap(example, (None, 0, 0)), (0, 0, 0))
        return jnp.sum(jnp.mean(jax.vmap(rows, (0, None, None))(w, features[batch], targets[batch]), axis=-1))

    begin = jnp.broadcast_to(start, (4, 24, 2))
    ends = last(loss, optax.sgd(alphas[:, None, None]), begin, 4 // batch_size).mean(1)

    def modified(alpha, size):
        def value(w):
            gradients = jax.vmap(jax.grad(example), (None, 0, 0))(w, features, targets)
            mean = gradients.mean(0)
            spread = jnp.mean(jnp.sum((gradients - mean) ** 2, axis=1))
            noise = (4 - size) / (3 * size) * spread
            return jnp.mean(jax.vmap(example, (None, 0, 0))(w, features, targets)) + alpha / 4 * (mean @ mean + noise)

        return value

    def flow(value, time):
        slope, h = lambda w: -jax.grad(value)(w), time / 20

        def advance(_, w):  # Runge-Kutta, whose error of h^4 is far below what is measured
            a = slope(w)
            b = slope(w + h / 2 * a)
            c = slope(w + h / 2 * b)
            return w + h / 6 * (a + 2 * b + 2 * c + slope(w + h * c))

        return jax.lax.fori_loop(0, 20, advance, start)

    whole = jax.jit(jax.vmap(lambda alpha: flow(modified(alpha, batch_size), alpha * (4 // batch_size))))
    descent = jax.jit(jax.vmap(lambda alpha: flow(modified(alpha, 4), alpha * (4 // batch_size))))
    plain = jax.jit(jax.vmap(lambda alpha: flow(modified(0.0, 4), alpha * (4 // batch_size))))
    for target, order in zip((plain, descent, whole), orders, strict=True):
        error = np.linalg.norm(ends - target(jnp.asarray(alphas)), axis=1)
        np.testing.assert_allclose(np.log2(error[-2] / error[-1]), order, atol=0.1)
    gradients = np.asarray(jax.vmap(jax.grad(example), (None, 0, 0))(start, features, targets))
    added = modified(0.1, batch_size)(start) - modified(0.0, 4)(start)
    np.testing.assert_allclose(rates.implicit_regularizer(gradients, 0.1, batch_size), added, rtol=1e-12)


# ---------------------------------------------------------------- failures


def piecewise(x, step):
    """Strongly convex, mu 1 and L 25, with a continuous gradient: 25 x, x + 24, 25 x - 24."""
    middle, right = x**2 / 2 + 24 * x - 12, 25 * x**2 / 2 - 24 * x + 36
    return jnp.sum(jnp.where(x < 1, 25 * x**2 / 2, jnp.where(x < 2, middle, right)))


def test_heavy_ball_cycles_for_ever_where_gradient_descent_converges():
    alpha, beta, _ = rates.best("heavy ball", 1, 25)
    np.testing.assert_allclose([alpha, beta], [1 / 9, 4 / 9])
    start = np.array([3.07, 3.1, 3.3, 3.46, 3.0, 3.5])
    ball = path(piecewise, optax.sgd(1 / 9, momentum=4 / 9), start, 900)
    cycle = np.array([792, -2208, 2592]) / 1225
    for row in ball[-3:]:
        assert np.all(np.min(np.abs(row[:4, None] - cycle), axis=1) < 1e-12)
    np.testing.assert_allclose(np.sort(ball[-3:, :4], axis=0), np.sort(cycle)[:, None] * np.ones(4), atol=1e-12)
    assert np.all(np.abs(ball[-1, 4:]) < 1e-12)
    assert np.all(np.abs(last(piecewise, optax.sgd(2 / 26), start, 900)) < 1e-12)


def test_adam_ends_at_the_wrong_end():
    factor, schedule = 3.0, lambda count: 0.5 / jnp.sqrt(count + 1.0)
    loss = lambda x, step: x * jnp.where(step.num_steps % 3 == 0, factor, -1.0)
    clip = lambda x, step: jnp.clip(x, -1, 1)
    b2 = 1 / (1 + factor**2)
    optimizers = {
        "adam": optax.adam(schedule, b1=0.0, b2=b2),
        "amsgrad": optax.amsgrad(schedule, b1=0.0, b2=b2),
        "sgd": optax.sgd(schedule),
    }
    ends = {name: float(last(loss, o, 0.0, 30_000, project=clip)) for name, o in optimizers.items()}
    assert ends["adam"] > 0.99  # the mean slope is 1/3: the minimum is at -1
    assert ends["sgd"] < -0.99 and ends["amsgrad"] < -0.99


DISTILL = [  # alpha, beta, x and y after 150 steps, f there
    (0.003, 0, -0.08498378, 0.00276069, 1.177212),
    (0.003, 0.74, 0.90462409, 0.27254542, 0.0091066026),
    (0.003, 0.9, 0.99988891, 0.33334206, 1.246003e-6),
    (0.003, 0.98, 0.96690317, 0.21873500, 1.5545328),
    (0.003, 0.99, -0.30556609, -0.13234973, 6.5147349),
]


def test_momentum_on_the_function_of_distills_article():
    function = lambda p: (1 - p[..., 0]) ** 2 + 20 * (3 * p[..., 1] - p[..., 0] ** 2) ** 2
    start = np.array([-1.21, 0.853])
    np.testing.assert_allclose(function(start), 28.8602202, atol=5e-8)
    table = np.array(DISTILL)
    optimizer = optax.sgd(table[:, :1], momentum=table[:, 1:2])
    found = last(lambda p, step: jnp.sum(function(p)), optimizer, np.tile(start, (5, 1)), 150)
    np.testing.assert_allclose(found, table[:, 2:4], atol=5e-9)
    np.testing.assert_allclose(function(found), table[:, 4], rtol=5e-7)
    steps = np.array([[0.0062, 0.0], [0.0062, 0.98], [0.02, 0.0], [0.02, 0.9], [0.02, 0.99]])
    flown = path(
        lambda p, step: jnp.sum(function(p)),
        optax.sgd(steps[:, :1], momentum=steps[:, 1:]),
        np.tile(start, (5, 1)),
        10,
    )
    finite = np.isfinite(flown).all(axis=2).sum(axis=0)  # iterates before overflow, the start included
    np.testing.assert_array_equal(finite, [9, 9, 7, 7, 7])
    hessian = jax.hessian(function)(jnp.array([1.0, 1 / 3]))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [1.38297436, 520.61702564], atol=5e-9)
