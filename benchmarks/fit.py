"""Our `fit` beside loops written by hand and other libraries: `python -m benchmarks.fit [--json FILE] [--peers ...]`.

A 64-64-10 ReLU network is fitted to 1440 digits by SGD with momentum 0.9, at batch sizes 1, 32 and 1440, from the same
weights. Ours runs with its default settings, history and progress included. Whole calls are timed in turn, after a
first one in which everything is compiled. A ratio is ours over theirs at an equal number of steps, the median over
rounds, each of which has both: of seconds of the CPU, which the machine's other load changes little, and of the
clock. The bars are for the first, and for calls of about a second or more. `scan` is one
compiled `lax.scan` over all steps, `loop` a jitted step called from Python with batches that NumPy cuts. Others take
part if they are installed (the extra `bench`). A ratio above its bar is marked with `!`.
"""

import argparse
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import rounds, write_json
from diffprog.fit import fit, load_digits, mean_cross_entropy, mlp, visiting_order
from tests.compilations import counted

SIZES, MOMENTUM = (64, 64, 10), 0.9
CASES = {1: (250, 0.003), 32: (1000, 0.03), 1440: (1500, 0.3)}  # batch size: passes over the digits, learning rate
BARS = {
    ("scan", 1): 1.1,
    ("scan", 32): 1.1,
    ("scan", 1440): 1.1,
    ("loop", 1): 0.1,
    ("loop", 32): 0.5,
    ("loop", 1440): 1,
}
KEY = jax.random.key(0)
TRAIN, _ = load_digits()
START = mlp.initialize(jax.random.fold_in(KEY, 1), SIZES)


def loss(parameters, batch):
    return mean_cross_entropy(mlp.apply(parameters, batch.inputs), batch.labels)


def timed(run):
    def clocked():
        started = np.array([time.process_time(), time.perf_counter()])
        clocked.result = run()
        return np.array([time.process_time(), time.perf_counter()]) - started

    return clocked


def ours(batch_size, epochs, rate):
    def run():
        options = dict(batch_size=batch_size, epochs=epochs, key=KEY, progress="fitting")
        result = fit(loss, START, TRAIN, optax.sgd(rate, momentum=MOMENTUM), **options)
        return result.history[-1]["loss"]

    return run


def order_of(batch_size, epochs):
    return visiting_order(KEY, len(TRAIN.labels), epochs).reshape(-1, batch_size)


def scan(batch_size, epochs, rate):
    optimizer, data = optax.sgd(rate, momentum=MOMENTUM), jax.tree.map(jnp.asarray, TRAIN)

    @jax.jit
    def train(parameters, order, data):
        def step(carry, indices):
            parameters, state = carry
            value, gradient = jax.value_and_grad(loss)(parameters, jax.tree.map(lambda x: x[indices], data))
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), value

        return jax.lax.scan(step, (parameters, optimizer.init(parameters)), order)

    return lambda: float(train(START, order_of(batch_size, epochs), data)[1][-1])


def loop(batch_size, epochs, rate):
    optimizer = optax.sgd(rate, momentum=MOMENTUM)

    @jax.jit
    def step(parameters, state, batch):
        value, gradient = jax.value_and_grad(loss)(parameters, batch)
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    def run():
        parameters, state = START, optimizer.init(START)
        for indices in np.asarray(order_of(batch_size, epochs)):
            parameters, state, value = step(parameters, state, jax.tree.map(lambda x: x[indices], TRAIN))
        return float(value)

    return run


def torch(batch_size, epochs, rate):
    import torch

    torch.set_num_threads(1)  # two threads spin on a busy machine
    inputs, labels = torch.tensor(TRAIN.inputs), torch.tensor(TRAIN.labels, dtype=torch.long)
    order = torch.tensor(np.asarray(order_of(batch_size, epochs)), dtype=torch.long)

    def run():
        network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        with torch.no_grad():
            for layer, (weights, bias) in zip((network[0], network[2]), START, strict=True):
                layer.weight.copy_(torch.tensor(np.asarray(weights).T))
                layer.bias.copy_(torch.tensor(np.asarray(bias)))
        optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=MOMENTUM)
        for indices in order:
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(network(inputs[indices]), labels[indices])
            value.backward()
            optimizer.step()
        return float(value)

    return run


def keras(batch_size, epochs, rate):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
    network.compile(
        keras.optimizers.SGD(rate, momentum=MOMENTUM), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    weights = [np.asarray(x) for layer in START for x in layer]

    def run():
        network.set_weights(weights)
        return network.fit(*TRAIN, batch_size=batch_size, epochs=epochs, verbose=0).history["loss"][-1]

    return run


def sklearn(batch_size, epochs, rate):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.utils._testing import ignore_warnings

    @ignore_warnings(category=ConvergenceWarning)
    def run():
        settings = dict(solver="sgd", alpha=0, learning_rate_init=rate, momentum=MOMENTUM, nesterovs_momentum=False)
        network = MLPClassifier(
            (64,), batch_size=batch_size, max_iter=epochs, n_iter_no_change=epochs, random_state=0, **settings
        )
        return network.fit(*TRAIN).loss_

    return run


PEERS = {"scan": scan, "loop": loop, "torch": torch, "keras": keras, "sklearn": sklearn}


def measure(batch_size, peers, seconds):
    epochs, rate = CASES[batch_size]
    runs = {"ours": timed(ours(batch_size, epochs, rate))}
    for name in peers:
        try:
            runs[name] = timed(PEERS[name](batch_size, epochs, rate))
        except ImportError as error:
            print(f"{name} does not take part: {error}")
    times = rounds(runs, seconds, min_rounds=3)
    with counted() as compiled:
        runs["ours"]()
    num_steps = epochs * len(TRAIN.labels) // batch_size
    cpu, clock = np.median(times["ours"], axis=0)
    ratios = {
        name: np.median(np.array(times["ours"]) / np.array(times[name]), axis=0) for name in runs if name != "ours"
    }
    return {
        "batch": batch_size,
        "steps": num_steps,
        "our CPU seconds": cpu,
        "our seconds by the clock": clock,
        "programs compiled by another call": compiled[0],
        **{f"ours / {name}": ratio[0] for name, ratio in ratios.items()},
        **{f"ours / {name}, by the clock": ratio[1] for name, ratio in ratios.items()},
        **{f"loss of {name}": run.result for name, run in runs.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to compare with")
    parser.add_argument("--batch", nargs="*", type=int, choices=CASES, default=list(CASES), help="batch sizes")
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long to measure each batch size")
    options = parser.parse_args()
    rows = [measure(batch_size, options.peers, options.seconds) for batch_size in options.batch]
    for row in rows:
        print(f"\nbatch {row['batch']}, {row['steps']} steps")
        for name, figure in list(row.items())[2:]:
            bar = BARS.get((name.removeprefix("ours / "), row["batch"]))
            print(f"  {name:36} {figure:10.4g}{f'  (bar {bar})' if bar else ''}{' !' if bar and figure > bar else ''}")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
