"""Train the two networks for digits that come with the package: one on digits, one on attacked digits.

    %(prog)s --out out/digits_networks.npz

A 64-64-10 ReLU network is trained on 1440 handwritten digits twice: on the digits as they are, and on digits that
seven steps of projected gradient descent change by up to 0.15 in L-infinity, anew in every step. Accuracies under
attack are printed, and the weights are written.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from diffprog import attack
from diffprog.cli._command_line import add_engine, command_parser, launch, positive
from diffprog.fit import Examples, fit, load_digits, mean_cross_entropy, mlp
from diffprog.models import _digits as digits

EPSILON = 0.15
BATCH_SIZE = 48
NAMES = {"digits": "plain", "digits_robust": "adversarial"}


def main(arguments: Sequence[str] | None = None, prog: str = "diffprog train-digits") -> None:
    """Run the command."""
    parser = command_parser(prog, __doc__)
    parser.add_argument("--epochs", type=positive, default=100, help="passes over the training set (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="decides weights, order and attacks (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default="out/digits_networks.npz",
        metavar="FILE",
        help="where the weights go (default: %(default)s)",
    )
    add_engine(parser)
    launch(parser, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Train both networks, write their weights and print their accuracies."""
    train, test = load_digits()
    key = jax.random.key(options.seed)
    learning_rate = optax.cosine_decay_schedule(2e-3, options.epochs * len(train.labels) // BATCH_SIZE)
    perturb = attack.adversarial_training(epsilon=EPSILON, engine=options.engine)
    networks = {}
    for name, caption in NAMES.items():
        fitted = fit(
            loss_on(perturb if name == "digits_robust" else None),
            mlp.initialize(jax.random.fold_in(key, 0), digits.SIZES),
            train,
            optax.adamw(learning_rate, weight_decay=1e-3),
            batch_size=BATCH_SIZE,
            epochs=options.epochs,
            key=jax.random.fold_in(key, 1),
            engine=options.engine,
            progress=caption,
        )
        networks[name] = jax.tree.map(jax.device_get, fitted.parameters)
    digits.save(networks, options.out)
    for name in NAMES:
        model = digits.model(name, networks[name])
        result = attack.pgd(
            model,
            test.inputs.reshape(-1, 8, 8, 1),
            test.labels,
            key=jax.random.key(options.seed),
            epsilon=EPSILON,
            early_stop=True,
            engine=options.engine,
        )
        print(
            f"{NAMES[name]:12} {result.clean_accuracy:.1%} right on {len(test.labels)} new digits, "
            f"{result.robust_accuracy:.1%} after an attack of {EPSILON}"
        )
    print(f"weights in {options.out}")


def loss_on(perturb: Callable | None) -> Callable:
    """Make the mean cross-entropy on digits, or on digits that `perturb` has attacked."""

    def loss(weights: list, batch: Examples, key: jax.Array) -> jax.Array:
        inputs = jnp.asarray(batch.inputs)
        if perturb is not None:
            attacked = perturb(mlp.apply, jax.lax.stop_gradient(weights), inputs, batch.labels, key)
            inputs = jax.lax.stop_gradient(attacked)
        return mean_cross_entropy(mlp.apply(weights, inputs), batch.labels)

    return loss
