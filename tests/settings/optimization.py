"""Optimizers, curvature, landscapes and what else training has around its loop."""

import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import diffprog as dp
from diffprog import fit, optimize
from diffprog.optimize import problems
from tests.settings.entries import Entry
from tests.settings.programs import KEY, LABELS, WEIGHTS, X, apply, fitted, loss

START = np.array([-1.2, 1.0, 0.5], np.float32)
TIMES = np.linspace(0, 3, 9, dtype=np.float32)
DECAY = 2 * np.exp(-0.7 * TIMES) + np.float32(0.01) * np.cos(9 * TIMES)


def valley(x):
    """Rosenbrock's, of three numbers, with less of a bend: few steps do not amplify a rounding."""
    return ((1 - x) ** 2).sum() + 5 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def decay(parameters):
    return parameters["height"] * jnp.exp(-parameters["rate"] * TIMES) - DECAY


FIRST_GUESS = {"height": np.float32(1.0), "rate": np.float32(0.3)}


def searched(optimizer, **options):
    found = optimize.minimize(valley, START, optimizer, key=KEY, keeps_path=True, **{"max_steps": 6, **options})
    return found.parameters, found.value, found.path, dict(found.evaluations), found.reason


def regressed(optimizer):
    found = optimize.least_squares(decay, FIRST_GUESS, optimizer)
    return found.parameters, found.value, found.residuals, found.covariance, found.standard_errors, found.converged


def anywhere():
    """A value in the middle of a program, and rows of problems, whose solutions are differentiated."""
    hidden = optimize.minimize(loss, WEIGHTS, optimize.lbfgs(), at="hidden", max_steps=5)
    shifted = lambda shift: (
        optimize.minimize(
            lambda x: ((x - shift) ** 2).sum() + jnp.cosh(x).sum(), START, optimize.newton_cg()
        ).parameters
    )
    shifts = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    return {
        "at": (hidden.parameters, hidden.value),
        "rows": jax.vmap(shifted)(shifts),
        "jit": jax.jit(shifted)(shifts[0]),
        "derivative": dp.jacrev(shifted)(shifts[0]),
    }


def bent():
    found = optimize.curvature(loss, WEIGHTS, num_density_probes=2, max_steps=8, key=KEY)
    advice = optimize.curvature(lambda x: (x * x * np.float32([1, 4, 9])).sum() / 2, START, key=KEY).advice
    sharpness = optimize.Sharpness(loss, max_steps=10, key=KEY)
    descent = optimize.Descent(lambda w, step: loss(w), optax.sgd(0.1))
    descent.run(descent.init(WEIGHTS), 4, block_size=2, callback=sharpness)
    return {
        "curvature": (found.value, found.gradient_norm, found.largest, found.smallest, found.trace, found.density),
        "advice": (advice.kind, advice.largest_step, [(plan.method, plan.alpha, plan.beta) for plan in advice.plans]),
        "sharpness": (sharpness.steps, sharpness.values),
    }


def sliced():
    run = [jax.tree.map(lambda w, i=i: w * np.float32(1 - i / 10), WEIGHTS) for i in range(4)]
    run[2]["in"] = run[2]["in"] + np.float32(0.1)
    shown = {
        "random": optimize.landscape(loss, WEIGHTS, num_points=5, key=KEY),
        "pca": optimize.landscape(loss, run[-1], "pca", path=run, num_points=5),
        "hessian": optimize.landscape(valley, np.ones(3, np.float32), "hessian", num_points=5, key=KEY),
    }
    values = {name: (found.values, found.coordinates, found.path) for name, found in shown.items()}
    with tempfile.TemporaryDirectory() as folder:
        written = shown["pca"].png(f"{folder}/landscape.png").stat().st_size > 1000
    return values, written, "<html" in shown["pca"].html()


def judged():
    functions = {
        "flat": lambda x: jnp.floor(x).sum(),
        "valley": lambda x: 20 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        "bowl": lambda x: (x * x).sum(),
        "kink": lambda x: jnp.abs(x).sum(),
    }
    found = {name: optimize.optimizable(f, START[:2], num_starts=4, key=KEY) for name, f in functions.items()}
    return {name: (one.kind, one.family, one.optimizers) for name, one in found.items()}


def explained():
    chosen = {"heavy ball": optimize.heavy_ball(0.02, 0.5), "L-BFGS": optimize.lbfgs()}
    found = optimize.explain(
        lambda x: 4 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, START[:2], chosen, max_steps=5, well_known=False
    )
    (numbers,) = found.numbers()["functions"]
    minima = [(minimum["point"], minimum["eigenvalues"]) for minimum in numbers["minima"]]
    families = [(one["name"], one["path"], one["values"], one["counts"]) for one in numbers["families"]]
    return minima, families, "L-BFGS" in found.html()


def known():
    nist = problems.nist("Misra1a")
    mgh = problems.MORE_GARBOW_HILLSTROM[0]
    starts = [np.float32(start) for start in (nist.starts[0], mgh.starts[0])]
    rates = optimize.rates
    return {
        # In single precision, which NIST's data are not: whose type they have is up to the setting.
        "values": np.float32([nist.function(starts[0]), mgh.function(starts[1]), problems.ACKLEY.function(START[:2])]),
        "best": [rates.best(method, 1.0, 50.0) for method in rates.METHODS],
        "floor": rates.stationary_variance("heavy ball", 0.1, 0.5, 2.0),
    }


def averaged_digits():
    """A table of pictures, a ready network, a test of rates, and a fit that goes on from its folder."""
    train, _ = fit.load_mnist1d(40, 10)
    few = fit.load_digits()[0]
    digits = fit.Examples(few.inputs[:64], few.labels[:64])
    # `fit.mlp.initialize` makes numbers of JAX's default type, which jax_enable_x64 changes.
    rng, layers = np.random.default_rng(1), ((64, 8), (8, 10))
    network = [(rng.normal(size=shape).astype(np.float32) / 8, np.zeros(shape[1], np.float32)) for shape in layers]
    cross_entropy = lambda parameters, batch: fit.mean_cross_entropy(
        fit.mlp.apply(parameters, batch.inputs), batch.labels
    )
    train_more = lambda folder, steps: fit.fit(
        cross_entropy, network, digits, optax.adam(0.01), steps=steps, batch_size=16, key=KEY, directory=folder
    )
    with tempfile.TemporaryDirectory() as folder:
        train_more(folder, 4)
        resumed = train_more(folder, 8)
    ranged = fit.learning_rate_range(cross_entropy, network, digits, steps=12, highest=0.1, key=KEY)
    return {
        "mnist1d": train,
        "visited": fit.visiting_order(KEY, 10, 2),
        "resumed": (resumed.parameters, [row["loss"] for row in resumed.history]),
        "accuracy": fit.accuracy(fit.mlp.apply(resumed.parameters, digits.inputs), digits.labels),
        "range": (ranged.rates, ranged.losses, ranged.smoothed),
    }


def stateful():
    """Running means beside the parameters, and batches that come one by one."""

    def loss(weights, batch, state):
        inputs, labels = batch
        mean = state * 0.9 + jax.lax.stop_gradient(inputs.mean(axis=0)) * 0.1
        return fit.mean_cross_entropy(apply(weights, inputs - mean[None]), labels), mean

    batches = [(X[first : first + 2], LABELS[first : first + 2]) for first in (0, 2, 4)]
    found = fit.fit(loss, WEIGHTS, batches, optax.sgd(0.1), epochs=2, key=KEY, state=np.zeros(5, np.float32))
    return found.parameters, found.state, [row["loss"] for row in found.history]


OPTIMIZERS = {
    "lbfgs": optimize.lbfgs(),
    "lbfgsb": optimize.lbfgsb(),
    "newton_cg": optimize.newton_cg(),
    "trust_region": optimize.trust_region(solver="exact"),
    "trust_region, by CG": optimize.trust_region(solver="cg"),
    "heavy_ball": optimize.heavy_ball(0.01, 0.5),
    "nesterov": optimize.nesterov(0.01, 0.5),
    "random_search": optimize.random_search(num_points=4),
    "spsa": optimize.spsa(),
    "nelder_mead": optimize.nelder_mead(),
    "cma_es": optimize.cma_es(sigma=0.3),
    "Optax": optax.adam(0.1),
    "Optax's L-BFGS": optax.lbfgs(),
}
FITS = {
    "weights averaged": {"average": 0.9},
    "pieces accumulated": {"accumulate": 2, "batch_size": 4},
    "some leaves, clipped": {"train": "out", "clip_norm": 0.1},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "metrics, early stop": {
        "metrics": {"accuracy": lambda w, batch: fit.accuracy(apply(w, batch.inputs), batch.labels)},
        "stop": fit.early_stop("validation_accuracy", patience=2, maximize=True),
        "last_batch": "carry",
    },
}

ENTRIES = [
    *(Entry(f"minimize, {name}", partial(searched, optimizer), 1e-4, 1e-4) for name, optimizer in OPTIMIZERS.items()),
    Entry("minimize, in a box", partial(searched, optimize.lbfgsb(), bounds=(-2, 0.8)), 1e-4, 1e-4),
    Entry("minimize at a value, in rows, differentiated", anywhere, 1e-4, 1e-4),
    Entry("least_squares, levenberg_marquardt", partial(regressed, optimize.levenberg_marquardt()), 1e-4, 1e-4),
    Entry("least_squares, gauss_newton", partial(regressed, optimize.gauss_newton()), 1e-4, 1e-4),
    Entry("curvature, advice, sharpness", bent, 1e-4, 1e-4),
    Entry("landscape", sliced, 1e-4, 1e-4),
    Entry("optimizable", judged),
    Entry("explain", explained, 1e-4, 1e-4),
    Entry("problems, rates", known),
    *(
        # Without jit each operation rounds to 16 bits, and not what is fused.
        Entry(
            f"fit, {name}", partial(fitted, optax.sgd(0.1), **options), *((1e-2,) * 2 if "16" in name else (1e-4,) * 2)
        )
        for name, options in FITS.items()
    ),
    Entry("fit, a state, batches of a list", stateful, 1e-4, 1e-4),
    Entry("fit, resumed; learning_rate_range; data", averaged_digits, 1e-4, 1e-4),
]
