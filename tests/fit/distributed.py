"""A fit of digits by several processes or on several devices: `python -m tests.fit.distributed RANK COUNT PORT FOLDER`.

Prints the losses as JSON.
"""

import json
import sys

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffprog.fit import fit, load_digits, mean_cross_entropy, mlp

BATCHES, STEPS = (None, 45), 12  # 45 examples are not divided by 8 devices, nor by 2


def loss(parameters, batch):
    return mean_cross_entropy(mlp.apply(parameters, batch.inputs), batch.labels)


def losses(place, folder, steps=STEPS):
    """Losses and validation losses at full batch and mini-batches."""
    train, test = load_digits()
    start = mlp.initialize(jax.random.key(0), (64, 64, 10))
    found = []
    for batch_size in BATCHES:
        options = dict(batch_size=batch_size, key=1, validation=test, validate_every=4)
        directory = None if folder is None else f"{folder}/{batch_size}"
        optimizer = optax.sgd(0.1, momentum=0.9)
        fitted = fit(loss, start, jax.tree.map(place, train), optimizer, steps=steps, directory=directory, **options)
        found += [row[name] for row in fitted.history for name in ("loss", "validation_loss") if name in row]
    return found


def main(rank, count, port, folder):
    if int(count) > 1:
        jax.distributed.initialize(f"localhost:{port}", int(count), int(rank))
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    place = lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x)[index])
    losses(place, folder, 8)  # is resumed, by all processes, where it measured anyway
    print(json.dumps({"devices": jax.device_count(), "losses": losses(place, folder)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
