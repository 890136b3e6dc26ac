"""Derivatives, recordings, diagnosis, minima and fits: programs that themselves hold under every setting."""

import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import diffprog as dp
from diffprog import attack, fit, images, optimize
from tests.settings.entries import Entry

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 5)).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 6).astype(np.int32)
WEIGHTS = {
    "in": RANDOM.normal(size=(5, 4)).astype(np.float32) / 2,
    "out": RANDOM.normal(size=(4, 3)).astype(np.float32) / 2,
}
DIRECTION = jax.tree.map(lambda w: RANDOM.normal(size=w.shape).astype(np.float32), WEIGHTS)
SYMMETRIC = X[:5].T @ X[:5] + np.diag(np.arange(5, dtype=np.float32))
PICTURE = RANDOM.uniform(size=(12, 10, 3)).astype(np.float32)
KEY = jax.random.key(0, impl="threefry2x32")


def apply(weights, inputs):
    hidden = dp.tap(jnp.tanh(inputs @ weights["in"]), "hidden")
    return hidden @ weights["out"]


def loss(weights, inputs=X):
    logits = apply(weights, inputs)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], axis=1)
    return -chosen.mean()


def stepwise(weights, inputs=X):
    """A jitted scan, a cond and a loop of unknown length."""

    @jax.jit
    def layer(state, row):
        state = jnp.tanh(row @ weights["in"] + state)
        return lax.cond(state[0] > 0, jnp.sin, lambda s: s * 0.5, state), state.sum()

    state, sums = lax.scan(layer, jnp.zeros(4, inputs.dtype), inputs)
    state = lax.while_loop(lambda s: jnp.abs(s).max() > 0.1, lambda s: s * 0.7, state)
    return (state @ weights["out"]).sum() + (sums**2).sum()


def matrices(a):
    """Factorizations, a solve, a sort and a convolution."""
    spectrum, vectors = jnp.linalg.eigh(a)
    solved = jnp.linalg.solve(a, a[0])
    triangle = jnp.linalg.cholesky(a)
    singular = jnp.linalg.svd(a, compute_uv=False)
    smooth = jnp.convolve(jnp.sort(a[1]), a[2], mode="same")
    return spectrum[0] + vectors[0, 0] ** 2 + solved.sum() + triangle.sum() + singular[1] + (smooth * a[3]).sum()


@jax.custom_vjp
def squashed(x):
    return jnp.tanh(x)


squashed.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (2 * g * (1 - jnp.tanh(x) ** 2),))


@jax.custom_jvp
def softplus(x):
    return jnp.log1p(jnp.exp(x))


softplus.defjvp(lambda primals, tangents: (softplus(*primals), tangents[0] * jax.nn.sigmoid(primals[0])))


def customized(x):
    return squashed(x).sum() + softplus(x).sum() + jax.checkpoint(jnp.sin)(x).sum()


def derivatives():
    column, row = X[:, 0], X[0]
    value, pullback = dp.vjp(apply, WEIGHTS, X)
    return {
        "grad": dp.grad(loss)(WEIGHTS),
        "value_and_grad": dp.value_and_grad(loss, argnums=(0, 1))(WEIGHTS, X),
        "vjp": (value, pullback(value)),
        "jacrev": dp.jacrev(apply)(WEIGHTS, X),
        "hessian": dp.hessian(lambda x: (x**3).prod())(row),
        "hvp": dp.hvp(loss, (WEIGHTS,), (DIRECTION,)),
        "batched": jax.vmap(dp.grad(lambda x: jnp.sin(x) ** 2))(column),
    }


def recorded():
    recording = dp.record(loss)(WEIGHTS).backward()
    pages = (recording.text(), recording.svg(), recording.dot(), recording.html(), recording.explain())
    return {
        "values": recording.values("hidden"),
        "gradients": recording.gradients("hidden"),
        "replayed": recording.replay(),
        "inputs": [node.gradient for node in recording.inputs],
        "shown": ["hidden" in page for page in pages],
    }


def recorded_loop():
    recording = dp.record(stepwise)(WEIGHTS).backward()
    return recording.output, [node.gradient for node in recording.inputs], recording.values("tanh")


def intervened():
    halved = dp.intervene(loss, {"hidden": lambda h: h * 0.5})
    return {
        "grad_at": dp.grad_at(loss, ["hidden", "tanh"], with_value=True)(WEIGHTS),
        "activations": dp.activations(apply, ["hidden"], with_output=True)(WEIGHTS, X),
        "intervene": (halved(WEIGHTS), dp.grad(halved)(WEIGHTS)),
        "hook": dp.grad(dp.hook(loss, {"hidden": lambda g: g * 2}))(WEIGHTS),
    }


def source(fun):
    return dp.backward_source(fun)(WEIGHTS).function()(*jax.tree.leaves(WEIGHTS))


def diagnosed():
    programs = {
        "not a number": lambda x: jnp.where(x > 0, jnp.sqrt(jnp.maximum(x, 0)), 0.0).sum(),
        "rounded": lambda x: jnp.round(x).sum(),
        "vanishing": lambda x: (jax.nn.sigmoid(x * 1000.0) * 1e-30).sum(),
        "a kink": lambda x: jnp.maximum(x, 0.0).sum(),
        "healthy": lambda x: jnp.sin(x).sum(),
        "a loop": lambda x: lax.scan(lambda c, y: (jnp.sqrt(c * y), None), x[0] * 0, x)[0],
    }
    x = np.array([0.0, 1.0, -2.0], np.float32)
    # Without JAX's own check, which would end the program where the diagnosis begins.
    with jax.debug_nans(False):
        found = {name: dp.diagnose(program)(x) for name, program in programs.items()}
    return {name: [(one.kind, one.cause, one.fix) for one in said.findings] for name, said in found.items()}


def held():
    report = dp.memory(loss)(WEIGHTS)
    return sorted({(row.source.line, row.phase) for row in report.rows}), 0.9 < report.peak / report.temporary <= 1


def compared():
    report = dp.compare(loss, WEIGHTS, seconds=0.0)
    leaves = [(leaf.name, leaf.shape, leaf.dtype, leaf.relative < 1e-5) for leaf in report.leaves]
    return leaves, [timing.stage for timing in report.timings], report.jax_error, report.missed


def fitted(optimizer, perturb=None, **options):
    data = fit.Examples(X / 4 + np.float32(0.5), LABELS)

    def cross_entropy(weights, batch, key=None):
        inputs = batch.inputs
        if perturb is not None and key is not None:
            inputs = jax.lax.stop_gradient(perturb(apply, jax.lax.stop_gradient(weights), inputs, batch.labels, key))
        return fit.mean_cross_entropy(apply(weights, inputs), batch.labels)

    options = {"batch_size": 2, "epochs": 2, "key": KEY, "validation": data, **options}
    found = fit.fit(cross_entropy, WEIGHTS, data, optimizer, **options)
    return found.parameters, [row["loss"] for row in found.history], found.history[-1]["validation_loss"]


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.01),
    "adamw": optax.adamw(0.01),
    "rmsprop": optax.rmsprop(0.01),
    "a schedule": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(0.1, 6))),
}


def descended():
    descent = optimize.Descent(
        lambda w, step: (loss(w), w["out"].sum()),
        optax.adam(0.1),
        project=lambda w, step: jax.tree.map(lambda leaf: jnp.clip(leaf, -1, 1), w),
        track=lambda best, w, value, aux: jnp.minimum(value, best),
        maximize=True,
        has_aux=True,
    )
    state = descent.init(WEIGHTS, key=KEY, tracked=jnp.float32(np.inf))
    state, history = descent.run(state, 4)
    return state.parameters, state.tracked, history.value, history.aux


def minimized():
    found = optimize.minimize(lambda x: ((x - 0.3) ** 2 + x**4).sum(), X, optax.sgd(0.1), bounds=(-0.5, 0.5))
    return found.parameters, found.value


def evaluated():
    network = lambda x: apply(WEIGHTS, x)
    pgd = partial(attack.pgd, max_steps=5)
    points = np.clip(X / 4 + np.float32(0.5), 0, 1)
    found = attack.evaluate(
        network, points, LABELS, attacks={"pgd": pgd, "apgd": attack.apgd}, epsilons=[0.0, 0.1, 0.5], key=KEY
    )
    return found.clean_accuracy, found.robust_accuracy()


def pictures():
    with tempfile.TemporaryDirectory() as folder:
        read = images.read_image(images.save_png(f"{folder}/picture.png", PICTURE))
    return images.resize(PICTURE, 7, 9), read


ENTRIES = [
    Entry("grad, vjp, jacrev, hessian, hvp", derivatives),
    Entry("grad through loops and branches", lambda: dp.value_and_grad(stepwise)(WEIGHTS)),
    Entry("grad through factorizations", lambda: dp.value_and_grad(matrices)(SYMMETRIC), 1e-4, 1e-4),
    Entry("grad through custom rules, checkpoint", lambda: (dp.grad(customized)(X), dp.hessian(customized)(X[0]))),
    Entry("record", recorded),
    Entry("record a loop", recorded_loop),
    Entry("grad_at, activations, intervene, hook", intervened),
    Entry("backward_source", lambda: source(loss)),
    Entry("backward_source of loops", lambda: source(stepwise)),
    Entry("diagnose", diagnosed),
    Entry("memory", held),
    Entry("compare", compared),
    *(Entry(f"fit, {name}", partial(fitted, optimizer), 1e-4, 1e-4) for name, optimizer in OPTIMIZERS.items()),
    Entry("fit, JAX's gradients", lambda: fitted(optax.sgd(0.1), engine="jax"), 1e-4, 1e-4),
    Entry("fit, adversarial training", lambda: fitted(optax.sgd(0.1), perturb=attack.adversarial_training())),
    Entry("Descent", descended, 1e-4, 1e-4),
    Entry("minimize", minimized, 1e-4, 1e-4),
    Entry("attack.evaluate", evaluated),
    Entry("images", pictures),
]
