"""Programs whose gradient is NaN or infinite."""

import jax
import jax.numpy as jnp

from diffprog.cli._broken_programs import log_of_softmax, masked_distance
from tests.diagnosis.corpus import breaks
from tests.diagnosis.corpus.data import dense, normal, uniform

breaks("nan", "norm of zero behind a mask", after="jax#1052")(masked_distance)


@breaks("nan", "norm of zero", after="jax#4177")
def norm_of_residual():
    def regularized(w, x, y):
        return jnp.mean((x @ w - y) ** 2) + 0.1 * jnp.linalg.norm(w)  # here

    return regularized, (jnp.zeros(3), normal(4, 3), normal(4))


@breaks("nan", "norm of zero", after="jax#3058")
def pairwise_norms():
    def spread(points):
        distances = jnp.linalg.norm(points[:, None] - points[None, :], axis=-1)  # here
        return jnp.mean(distances)

    return spread, (normal(4, 3),)


@breaks("nan", "log of zero")
def entropy_of_a_certain_choice():
    def entropy(p):
        p = p / jnp.sum(p)
        return -jnp.sum(p * jnp.log(p))  # here

    return entropy, (jnp.array([0.5, 0.5, 0.0, 1.0]),)


@breaks("nan", "log of zero behind a mask", after="jax#5798")
def masked_entropy():
    def entropy(weights):
        p = weights / jnp.sum(weights)
        surprise = jnp.log(p)  # here
        return -jnp.sum(jnp.where(p > 0, p * surprise, 0.0))

    return entropy, (jnp.array([0.5, 0.5, 0.0, 1.0]),)


@breaks("nan", "infinity minus infinity")
def attention_row_masked_whole():
    def attend(params, x):
        scores = (x @ params["query"]) @ (x @ params["key"]).T
        mask = jnp.tril(jnp.ones((4, 4), bool), -1)  # nobody before the first to look at
        weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)  # here
        return jnp.sum((weights @ x) ** 2)

    return attend, ({"query": normal(3, 3), "key": normal(3, 3, seed=1)}, normal(4, 3, seed=2))


@breaks("nan", "overflow in exp")
def softmax_by_hand():
    def loss(w, x, labels):
        logits = x @ w
        weights = jnp.exp(logits)  # here
        return -jnp.mean(jnp.log(weights[jnp.arange(4), labels] / weights.sum(-1)))

    return loss, (normal(3, 3), 300 * normal(4, 3, seed=1), jnp.array([0, 1, 2, 0]))


breaks("nan", "log of zero")(log_of_softmax)


@breaks("nan", "log of zero", after="jax#13600")
def cross_entropy_of_a_sure_sigmoid():
    @jax.jit
    def loss(w, x, y):
        p = jax.nn.sigmoid(x @ w)
        right = y * jnp.log(p)
        return -jnp.mean(right + (1 - y) * jnp.log(1 - p))  # here

    x = 40 * jnp.ones((4, 3), jnp.float32) * jnp.sign(normal(3))
    return loss, (normal(3), x, jnp.array([0.0, 1.0, 0.0, 1.0], jnp.float32))


@breaks("nan", "zero divided by zero")
def cosine_of_an_empty_row():
    def similarity(embeddings):
        length = jnp.sqrt(jnp.sum(embeddings**2, -1, keepdims=True))
        unit = embeddings / length  # here
        return jnp.sum(unit @ unit.T)

    return similarity, (normal(4, 3).at[2].set(0.0),)


@breaks("nan", "norm of zero", after="jax#21723")
def epsilon_added_too_late():
    def contrastive(embeddings):
        length = jnp.linalg.norm(embeddings, axis=-1, keepdims=True)  # here
        unit = embeddings / (length + 1e-6)
        return jax.nn.logsumexp(unit @ unit.T)

    return contrastive, (normal(4, 3).at[2].set(0.0),)


@breaks("nan", "sqrt at zero")
def standard_deviation_of_a_constant():
    def whiten(x, w):
        spread = jnp.std(x, axis=0)  # here
        return jnp.sum(((x - x.mean(0)) / (spread + 1e-5)) @ w)

    return whiten, (normal(4, 3).at[:, 1].set(2.0), normal(3))


@breaks("nan", "atan2 of zero and zero")
def angle_of_the_origin():
    def bearing(xy):
        angle = jnp.arctan2(xy[:, 1], xy[:, 0])  # here
        return jnp.sum(jnp.cos(angle - 0.3))

    return bearing, (normal(4, 2).at[1].set(0.0),)


@breaks("nan", "power of zero")
def gamma_of_black():
    def loss(image, gamma):
        shown = image ** (1 / gamma)  # here
        return jnp.mean((shown - 0.5) ** 2)

    return loss, (uniform(4, 4).at[0, 1].set(0.0), 2.2)


@breaks("nan", "a negative number to a fractional power")
def root_of_a_negative_number():
    def speed(pressure, difference):
        return jnp.sum((pressure * difference) ** 1.5)  # here

    return speed, (normal(4), normal(4, seed=1))


@breaks("nan", "acos at the end of its domain")
def angle_between_equal_rotations():
    def geodesic(a, b):
        cosine = (jnp.trace(a @ b.T) - 1) / 2
        return jnp.arccos(cosine) ** 2  # here

    return geodesic, (jnp.eye(3), jnp.eye(3))


@breaks("nan", "eigh of repeated eigenvalues", after="jax#669")
def eigenvectors_of_a_symmetric_shape():
    def main_axis(inertia):
        _, vectors = jnp.linalg.eigh(inertia)  # here
        return jnp.sum(vectors[:, -1] * jnp.arange(3.0))

    return main_axis, (2.0 * jnp.eye(3),)


@breaks("nan", "svd of repeated singular values", after="jax#2311")
def singular_vectors_of_a_rotation():
    def first_vectors(a):
        u, s, vt = jnp.linalg.svd(a, full_matrices=False)  # here
        return u[0, 0] * 2 + vt[1, 0] + s[0]

    return first_vectors, (jnp.eye(3),)


@breaks("nan", "cholesky of a matrix that is not positive definite")
def process_without_jitter():
    def likelihood(scale, x, y):
        kernel = jnp.exp(-((x[:, None] - x[None, :]) ** 2) / scale) - 0.5 * jnp.eye(4)
        factor = jnp.linalg.cholesky(kernel)  # here
        solved = jax.scipy.linalg.cho_solve((factor, True), y)
        return y @ solved + jnp.sum(jnp.log(jnp.diagonal(factor)))

    return likelihood, (1.0, jnp.array([0.0, 0.1, 0.2, 0.3]), normal(4))


@breaks("nan", "singular")
def least_squares_with_a_copied_column():
    def fit(x, y):
        normal_matrix = x.T @ x
        w = jnp.linalg.solve(normal_matrix, x.T @ y)  # here
        return jnp.sum((x @ w - y) ** 2)

    return fit, (jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), normal(3))


@breaks("nan", "division by zero", after="jax#5696")
def newton_in_a_scan():
    def root(a):
        def step(x, _):
            slope = 3 * x**2 - 3
            return x - (x**3 - 3 * x + a) / slope, x  # here

        return jax.lax.scan(step, jnp.float32(1.0), None, length=3)[0]

    return root, (2.5,)


@breaks("nan", "sqrt of a negative number", after="jax#475")
def fall_in_a_while_loop():
    def time_to_ground(height, drag):
        def body(state):
            h, t = state
            v = jnp.sqrt(h - drag * t)  # here
            return h - 0.3 * v, t + 0.3

        return jax.lax.while_loop(lambda state: state[1] < 2.0, body, (height, jnp.float32(0.0)))[0]

    return time_to_ground, (1.0, 0.5)


@breaks("nan", "overflow in")
def half_precision_sum_of_squares():
    def loss(w, x):
        squares = (x @ w) ** 2  # here
        return jnp.mean(squares)

    return loss, (jnp.full((3, 3), 200, jnp.float16), jnp.ones((4, 3), jnp.float16))


@breaks("nan", "norm of zero", after="pytorch#2421")
def gradient_penalty():
    def penalty(params, x):
        critic = lambda x: jnp.tanh(x @ params["w"] + params["b"]) @ params["head"]
        slopes = jax.vmap(jax.grad(critic))(x)
        return jnp.mean((jnp.linalg.norm(slopes, axis=-1) - 1) ** 2)  # here

    return penalty, (dense(3, 3) | {"head": jnp.zeros(3)}, normal(4, 3))


@breaks("nan", "power of zero")
def curvature_at_zero():
    def force_squared(x):
        energy = lambda x: jnp.sum(x**1.5)  # here
        return jnp.sum(jax.grad(energy)(x) ** 2)

    return force_squared, (jnp.array([0.0, 1.0, 2.0]),)


@breaks("nan", "rsqrt of zero")
def layer_norm_without_epsilon():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm(epsilon=0.0)(x)  # here
            return nn.Dense(2)(x)

    x = normal(4, 3).at[1].set(0.0)
    params = Net().init(jax.random.key(0), x)
    return lambda params, x: jnp.sum(Net().apply(params, x) ** 2), (params, x)


@breaks("nan", "division by zero behind a mask", after="jax#20601")
def reciprocal_in_the_dead_branch():
    @jax.jit
    def mean_of_known(total, count):
        mean = jnp.where(count > 0, total / count, 0.0)  # here
        return jnp.sum(mean**2)

    return mean_of_known, (normal(4), jnp.array([1.0, 0.0, 2.0, 3.0]))


@breaks("nan", "log of zero")
def mixture_without_components():
    def log_likelihood(means, x, alive):
        log_p = -0.5 * (x[:, None] - means) ** 2
        return jnp.sum(jax.nn.logsumexp(jnp.where(alive, log_p, -jnp.inf), axis=1))  # here

    return log_likelihood, (normal(3), normal(4, seed=1), jnp.zeros(3, bool))


@breaks("nan", "log of a negative number")
def likelihood_with_a_negative_scale():
    def loss(params, x):
        residual = (x - params["mean"]) / params["scale"]
        return jnp.sum(0.5 * residual**2 + jnp.log(params["scale"]))  # here

    return loss, ({"mean": jnp.float32(0.1), "scale": jnp.float32(-0.2)}, normal(4))


@breaks("nan", "log of zero")
def poisson_rate_behind_relu():
    import equinox as eqx

    class Rate(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return jax.nn.relu(self.layer(x) - 1.0)

    def loss(model, x, counts):
        rate = jax.vmap(model)(x)
        return jnp.mean(rate - counts * jnp.log(rate))  # here

    return loss, (Rate(eqx.nn.Linear(3, 2, key=jax.random.key(0))), normal(4, 3), jnp.ones((4, 2)))


@breaks("nan", "atanh at")
def squashed_action():
    def log_probability(mean, action):
        raw = jnp.arctanh(action)  # here
        return jnp.sum(-0.5 * (raw - mean) ** 2 - jnp.log1p(-(action**2) + 1e-6))

    return log_probability, (normal(3), jnp.tanh(jnp.array([0.3, 20.0, -1.0])))


@breaks("nan", "zero to a negative power", after="jax-gcm#558")
def gravity_of_oneself():
    def push(positions, masses):
        apart = positions[:, None] - positions[None, :]
        strength = jnp.sum(apart**2, -1) ** -1.5  # here
        others = 1 - jnp.eye(4)
        return jnp.sum((masses[:, None, None] * apart * (strength * others)[..., None]).sum(0) ** 2)

    return push, (normal(4, 3), uniform(4))


@breaks("nan", "norm of zero", after="jax#2630")
def rotation_by_no_angle():
    def rotated(axis_angle, point):
        angle = jnp.linalg.norm(axis_angle)  # here
        sinc = jnp.where(angle > 1e-6, jnp.sin(angle) / jnp.maximum(angle, 1e-6), 1.0)
        return jnp.sum((point + sinc * jnp.cross(axis_angle, point)) ** 2 * jnp.arange(3.0))

    return rotated, (jnp.zeros(3), normal(3))


@breaks("nan", "lgamma at a pole")
def dirichlet_with_a_dead_class():
    def log_likelihood(alpha, p):
        return jnp.sum((alpha - 1) * jnp.log(p)) - jnp.sum(jax.scipy.special.gammaln(alpha))  # here

    return log_likelihood, (jnp.array([1.5, 0.0, 2.0]), jnp.array([0.2, 0.3, 0.5]))


@breaks("nan", "sqrt at zero", after="jax#347")
def triplet_of_copies():
    def triplet(anchor, positive, negative):
        distance = jax.vmap(lambda a, b: jnp.sqrt(jnp.dot(a - b, a - b)))  # here
        return jnp.mean(jax.nn.softplus(distance(anchor, positive) - distance(anchor, negative)))

    return triplet, (normal(4, 3), normal(4, 3), normal(4, 3, seed=1))


@breaks("nan", "rsqrt", after="jax#383")
def normalized_padding():
    def encode(x, scale, is_token):
        mean_square = jnp.mean(x**2, -1, keepdims=True)
        normalized = x * jax.lax.rsqrt(mean_square) * scale  # here
        return jnp.sum(jnp.where(is_token[:, None], normalized, 0.0) ** 2 * jnp.arange(3.0))

    return encode, (normal(4, 3).at[3].set(0.0), normal(3, seed=1), jnp.array([True, True, True, False]))


@breaks("nan", "log1p")
def checkpointed_flow():
    def flow(shift, x):
        @jax.checkpoint
        def layer(x):
            y = jnp.tanh(x + shift)
            return y, jnp.log1p(-(y**2))  # here

        y, log_slope = layer(x)
        return jnp.sum(y**2) - jnp.sum(log_slope)

    return flow, (0.5, jnp.array([0.1, 30.0, -0.4]))


@breaks("nan", "overflow in", after="diffrax#742")
def blow_up_of_an_ode():
    def final(x0):
        def step(x, _):
            return x + 0.5 * x**2, None  # here

        return jax.lax.scan(step, x0, None, length=12)[0]

    return final, (2.0,)


@breaks("nan", "sqrt at zero", after="jax#25701")
def friction_at_rest():
    import diffprog as dp

    def power(velocity):
        drag = lambda v: jnp.sum(v * jnp.sqrt(jnp.abs(v)))  # here
        return jnp.sum(dp.grad(drag)(velocity) * velocity)

    return power, (jnp.array([0.0, 1.0, 2.0]),)


@breaks("nan", "zero divided by zero behind a mask", after="cosine similarity of padded sets")
def similarities_with_an_empty_prototype():
    def loss(batch, prototypes, known):
        lengths = jnp.linalg.norm(prototypes, axis=1, keepdims=True)
        unit = prototypes / lengths  # here
        similarity = batch @ unit.T
        return jnp.sum(jnp.where(known, similarity, 0.0) ** 2)

    return loss, (normal(2, 3), normal(4, 3, seed=1).at[1].set(0.0), jnp.array([True, False, True, True]))


@breaks("nan", "norm of zero")
def similarities_within_a_padded_set():
    def loss(rows, mask):
        lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)  # here
        unit = rows / jnp.where(mask[:, :1], lengths, 1.0)
        return jnp.sum(jnp.where(mask, unit @ unit.T, 0.0))

    rows, alive = normal(3, 5).at[2].set(0.0), jnp.array([True, True, False])
    return loss, (rows, alive[:, None] & alive)
