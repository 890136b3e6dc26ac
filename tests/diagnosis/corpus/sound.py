"""Programs in which nothing is wrong, though they look like some in which something is: numerics that stay finite."""

import jax
import jax.numpy as jnp

from diffprog.cli._broken_programs import double_where_distance
from tests.diagnosis.corpus import works
from tests.diagnosis.corpus.data import dense, normal, uniform

works(double_where_distance)


@works
def distances_of_distinct_points():
    def spread(points, others):
        return jnp.mean(jnp.linalg.norm(points[:, None] - others[None, :], axis=-1))

    return spread, (normal(4, 3), normal(4, 3, seed=1))


@works
def entropy_by_xlogy():
    def entropy(p):
        p = p / jnp.sum(p)
        return -jnp.sum(jax.scipy.special.xlogy(p, p))

    return entropy, (jnp.array([0.5, 0.5, 0.1, 1.0]),)


@works
def causal_attention():
    def attend(params, x):
        scores = (x @ params["query"]) @ (x @ params["key"]).T
        mask = jnp.tril(jnp.ones((4, 4), bool))
        weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
        return jnp.sum((weights @ x) ** 2)

    return attend, ({"query": normal(3, 3), "key": normal(3, 3, seed=1)}, normal(4, 3, seed=2))


@works
def attention_with_a_large_negative_bias():
    def attend(params, x, is_token):
        scores = (x @ params["query"]) @ (x @ params["key"]).T / 3**0.5
        weights = jax.nn.softmax(scores + jnp.where(is_token, 0.0, -1e10), axis=-1)
        return jnp.sum((weights @ x) ** 2)

    params = {"query": normal(3, 3), "key": normal(3, 3, seed=1)}
    return attend, (params, normal(4, 3, seed=2), jnp.array([True, True, True, False]))


@works
def cross_entropy_of_logits():
    def loss(params, x, labels):
        logits = x @ params["w"] + params["b"]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), labels])

    return loss, (dense(3, 3), normal(4, 3, seed=1), jnp.array([0, 1, 2, 0]))


@works
def sigmoid_cross_entropy():
    @jax.jit
    def loss(w, x, y):
        logits = x @ w
        return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits)

    return loss, (normal(3), 5 * normal(4, 3, seed=1), jnp.array([0.0, 1.0, 0.0, 1.0]))


@works
def unit_vectors_with_epsilon_inside():
    def contrastive(embeddings):
        unit = embeddings * jax.lax.rsqrt(jnp.sum(embeddings**2, -1, keepdims=True) + 1e-6)
        similar = unit @ unit.T / 0.5
        return jnp.mean(jax.nn.logsumexp(similar, axis=1) - jnp.diagonal(similar, 1).mean())

    return contrastive, (normal(4, 3),)


@works
def polar_coordinates():
    def bearing(xy):
        return jnp.sum(jnp.cos(jnp.arctan2(xy[:, 1], xy[:, 0]) - 0.3) * jnp.hypot(xy[:, 0], xy[:, 1]))

    return bearing, (normal(4, 2),)


@works
def whole_powers_of_negative_numbers():
    def polynomial(c, x):
        return jnp.sum((c[0] + c[1] * x + c[2] * x**2 + c[3] * x**3) ** 2)

    return polynomial, (normal(4), normal(4, seed=1))


@works
def square_of_zero():
    def loss(w, x, y):
        return jnp.mean((x @ w - y) ** 2) + 0.01 * jnp.sum((w - 1) ** 2)

    return loss, (jnp.zeros(3), normal(4, 3), normal(4))


@works
def eigenvalues_of_a_symmetric_shape():
    def stretch(inertia):
        values, _ = jnp.linalg.eigh(inertia)
        return jnp.sum(values**2)

    return stretch, (2.0 * jnp.eye(3),)


@works
def projector_onto_distinct_eigenvectors():
    def projected(a, x):
        _, vectors = jnp.linalg.eigh(a + a.T)
        top = vectors[:, -2:]
        return jnp.sum((x @ top @ top.T) ** 2)

    return projected, (normal(3, 3), normal(4, 3))


@works
def nuclear_norm():
    def penalty(a):
        return jnp.sum(jnp.linalg.svd(a, compute_uv=False))

    return penalty, (normal(4, 3),)


@works
def process_with_jitter():
    def likelihood(scale, noise, x, y):
        kernel = jnp.exp(-((x[:, None] - x[None, :]) ** 2) / scale) + noise * jnp.eye(4)
        factor = jnp.linalg.cholesky(kernel)
        solved = jax.scipy.linalg.cho_solve((factor, True), y)
        return y @ solved + 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))

    return likelihood, (1.0, 0.1, jnp.array([0.0, 0.1, 0.2, 0.3]), normal(4))


@works
def ridge_regression():
    def fit(x, y, strength):
        w = jnp.linalg.solve(x.T @ x + strength * jnp.eye(2), x.T @ y)
        return jnp.sum((x @ w - y) ** 2)

    return fit, (normal(4, 2), normal(4), 0.1)


@works
def log_determinant():
    def volume(a):
        return jnp.linalg.slogdet(a)[1] + 0.1 * jnp.linalg.det(a)

    return volume, (normal(3, 3),)


@works
def newton_in_a_while_loop():
    def root(a):
        def body(state):
            x, _ = state
            new = 0.5 * (x + a / x)
            return new, jnp.abs(new - x)

        return jax.lax.while_loop(lambda state: state[1] > 1e-5, body, (a, jnp.ones_like(a)))[0]

    return root, (jnp.float32(2.0),)


@works
def spring_by_a_scan():
    def final(q, v, stiffness):
        def step(state, _):
            q, v = state
            v = v - 0.1 * stiffness * q
            return (q + 0.1 * v, v), q

        (q, _), path = jax.lax.scan(step, (q, v), None, length=20)
        return q**2 + 0.1 * jnp.sum(path**2)

    return final, (1.0, 0.2, 2.0)


@works
def gravity_softened():
    def potential(positions, masses):
        apart = positions[:, None] - positions[None, :]
        strength = (jnp.sum(apart**2, -1) + 1e-2) ** -0.5
        return -jnp.sum(masses[:, None] * masses * strength * (1 - jnp.eye(4)))

    return potential, (normal(4, 3), uniform(4))


@works
def half_precision_with_sums_in_single():
    def loss(w, x):
        error = (x @ w).astype(jnp.float32) - 1
        return jnp.mean(error**2)

    return loss, (normal(3, 2).astype(jnp.bfloat16), normal(4, 3, seed=1).astype(jnp.bfloat16))


@works
def curvature_away_from_zero():
    def force_squared(x):
        energy = lambda x: jnp.sum(x**1.5)
        return jnp.sum(jax.grad(energy)(x) ** 2)

    return force_squared, (jnp.array([0.5, 1.0, 2.0]),)


@works
def gradient_penalty_of_a_smooth_critic():
    import diffprog as dp

    def penalty(params, x):
        critic = lambda x: jnp.sum(jnp.tanh(x @ params["w"] + params["b"]) ** 2)
        slopes = jax.vmap(dp.grad(critic))(x)
        return jnp.mean((jnp.linalg.norm(slopes, axis=-1) - 1) ** 2)

    return penalty, (dense(3, 3), normal(4, 3, seed=1))


@works
def mixture_with_one_component_off():
    def log_likelihood(means, x, alive):
        log_p = -0.5 * (x[:, None] - means) ** 2
        return jnp.sum(jax.nn.logsumexp(jnp.where(alive, log_p, -jnp.inf), axis=1))

    return log_likelihood, (normal(3), normal(4, seed=1), jnp.array([True, False, True]))


@works
def dead_branch_that_reaches_nothing():
    @jax.jit
    def safe(x):
        inverse = jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1.0), 0.0)
        shown = 1 / jax.lax.stop_gradient(x)  # infinite; only counted
        return jnp.sum(inverse**2 + x) + 0.0 * jnp.sum(jnp.isfinite(shown))

    return safe, (jnp.array([1.0, 0.0, 2.0, 3.0]),)


@works
def nan_that_is_not_in_the_result():
    def loss(w, x):
        ratio = x / (x - x)  # after jax#5698: for the log alone
        return jnp.sum((x * w - 1) ** 2), {"ratio": jnp.nanmean(jnp.where(jnp.isnan(ratio), 0.0, 1.0))}

    return lambda w, x: loss(w, x)[0], (1.5, normal(4))


@works
def empty_segment():
    def pooled(x, w, segment):
        totals = jax.ops.segment_sum(x @ w, segment, num_segments=4)
        counts = jax.ops.segment_sum(jnp.ones(4), segment, num_segments=4)
        return jnp.sum((totals / jnp.maximum(counts, 1.0)) ** 2)

    return pooled, (normal(4, 3), normal(3, seed=1), jnp.array([0, 0, 1, 3]))


@works
def gamma_likelihood():
    def log_likelihood(log_alpha, x):
        alpha = jnp.exp(log_alpha)
        return jnp.sum((alpha - 1) * jnp.log(x) - x - jax.scipy.special.gammaln(alpha))

    return log_likelihood, (0.3, uniform(4, low=0.5, high=2.0))


@works
def flow_with_checkpoints():
    def flow(shift, x):
        @jax.checkpoint
        def layer(x):
            y = jnp.tanh(x + shift)
            return y, jnp.log1p(-(y**2) + 1e-6)

        y, log_slope = layer(x)
        return jnp.sum(y**2) - jnp.sum(log_slope)

    return flow, (0.5, jnp.array([0.1, 1.0, -0.4]))


@works
def product_with_a_zero():
    return lambda x: jnp.prod(x) + jnp.sum(x), (jnp.array([2.0, 0.0, 3.0]),)


@works
def spectrum():
    def power(signal, filter):
        bands = jnp.abs(jnp.fft.rfft(signal * filter)) ** 2
        return jnp.sum(bands * jnp.arange(1.0, 4.0))

    return power, (normal(4), uniform(4, low=0.5))
