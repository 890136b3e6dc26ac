"""Our L-BFGS-B on 64 images at once beside SciPy's on one after the other: `python -m benchmarks.lbfgsb [--json FILE]`.

The problem is that of an attack: a digit (8 x 8 pixels, in [0, 1]) is to be moved as little as possible to where a
trained 64-64-10 network reads the next digit: |r|^2 plus 10 cross-entropies. SciPy calls a compiled value and gradient
of one image; both remember 10 steps and stop where an iteration lowers the value by less than a ten millionth. Nothing
is compiled while the clock runs. Reported per activation of the network: seconds of both, evaluations per image, and by
how much our objective is above SciPy's on an image.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize as scipy_optimize

from benchmarks.timing import alternate, write_json
from diffprog.fit import fit, load_digits, mean_cross_entropy, mlp
from diffprog.optimize import lbfgsb, minimize

IMAGES, WEIGHT = 64, 10.0
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def trained(activation):
    """A network that reads digits, and the images to move."""
    train, test = load_digits()

    def network(parameters, inputs):
        (first, bias), (second, offset) = parameters
        return activation(inputs @ first + bias) @ second + offset

    start = mlp.initialize(jax.random.key(0), (64, 64, 10))
    loss = lambda parameters, batch: mean_cross_entropy(network(parameters, batch.inputs), batch.labels)
    optimizer = optax.sgd(0.1, momentum=0.9)
    fitted = fit(loss, start, train, optimizer, batch_size=32, epochs=10, key=jax.random.key(1))
    return lambda inputs: network(fitted.parameters, inputs), test.inputs[:IMAGES], (test.labels[:IMAGES] + 1) % 10


def measure(activation, seconds):
    model, images, targets = trained(ACTIVATIONS[activation])

    def objective(points, images, targets):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(points), targets)
        return jnp.sum((points - images) ** 2, axis=-1) + WEIGHT * losses

    @jax.jit
    @jax.value_and_grad
    def single(point, image, target):
        return objective(point[None], image[None], target[None])[0]

    @jax.jit
    @jax.vmap
    def rows(image, target):
        alone = lambda point: objective(point[None], image[None], target[None])[0]
        return minimize(alone, image, lbfgsb(value_tolerance=1e-7), bounds=(0.0, 1.0))

    def ours():
        started = time.perf_counter()
        ours.result = jax.block_until_ready(rows(jnp.asarray(images), jnp.asarray(targets)))
        return time.perf_counter() - started

    def one_by_one():
        started = time.perf_counter()
        one_by_one.results = [scipys(single, image, target) for image, target in zip(images, targets, strict=True)]
        return time.perf_counter() - started

    times = alternate({"ours": ours, "SciPy": one_by_one}, seconds, min_rounds=3)
    theirs = np.array([result.fun for result in one_by_one.results])
    excess = np.asarray(ours.result.value) / theirs - 1
    return {
        "activation": activation,
        **times,
        "ratio": times["SciPy"] / times["ours"],
        "our evaluations": float(ours.result.evaluations["gradient"].mean()),
        "SciPy's evaluations": float(np.mean([result.nfev for result in one_by_one.results])),
        "largest excess": float(excess.max()),
        "mean excess": float(excess.mean()),
        "above 1 %": int((excess > 0.01).sum()),
    }


def scipys(single, image, target):
    def evaluate(point):
        value, gradient = single(jnp.asarray(point, jnp.float32), image, target)
        return float(value), np.asarray(gradient, np.float64)

    return scipy_optimize.minimize(
        evaluate,
        image.astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, 1)] * image.size,
        options={"maxcor": 10, "ftol": 1e-7, "maxiter": 1000},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--seconds", type=float, default=20, help="about how long to measure each network")
    options = parser.parse_args()
    rows = [measure(activation, options.seconds) for activation in ACTIVATIONS]
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
