"""A small evaluation: `python -m tests.attack.evaluation.job FOLDER [devices N | process I PORT]`."""

import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffprog import attack
from diffprog._util.promotion import own_promotion
from diffprog.attack._engine.method import AttackSpec, smaller_norm
from diffprog.attack._engine.options import parse_options
from diffprog.attack._engine.oracle import query_gradient
from diffprog.attack._engine.run import run_attack
from diffprog.attack._evaluation.results import AttackRecord
from diffprog.attack._norms import linf

COUNT, SIZE, CLASSES, BATCH = 22, 16, 5, 8
EPSILONS = np.array([4, 12, 30]) / 255
_rng = np.random.default_rng(7)
INNER = _rng.normal(size=(SIZE, 24)).astype(np.float32)
OUTER = _rng.normal(size=(24, CLASSES)).astype(np.float32)
IMAGES = _rng.uniform(size=(COUNT, SIZE)).astype(np.float32)


def numpy_logits(images):
    return np.tanh((np.asarray(images, np.float64) - 0.5) @ INNER) @ OUTER


LABELS = numpy_logits(IMAGES).argmax(axis=1)
LABELS[[3, 17]] = (LABELS[[3, 17]] + 1) % CLASSES  # wrong from the start


def model(images):
    return jnp.tanh((images - 0.5) @ INNER) @ OUTER


class Walk(NamedTuple):
    point: jax.Array
    direction: jax.Array


@lru_cache
def _walk():
    """Straight on along the sign of the first gradient, a hundredth at a time, to the first success."""

    def init(example, hyperparameters):
        return Walk(example.image, jnp.zeros_like(example.image))

    def update(example, hyperparameters, state, view):
        direction = jnp.where(view.step == 0, jnp.sign(view.gradient), state.direction)
        length = (view.step + 1) / 100
        return Walk(jnp.clip(example.image + length * direction, example.lower, example.upper), direction)

    return AttackSpec("walk", init, update, query_gradient, norm=linf, better=smaller_norm)


def walk(model, images, labels, *, key, max_steps=12, **options):
    """A search for the smallest perturbation."""
    with own_promotion():
        return run_attack(model, images, labels, _walk(), parse_options(options), max_steps, key=key)


def claimed(images, success):
    """The result of an attack that says so: images [S, n, ...] and success [S, n], or both without S."""
    zeros = np.zeros(success.shape, int)
    return attack.AttackResult(
        images, success, success, zeros == 1, zeros == 1, {}, zeros, zeros, zeros, zeros, zeros, zeros, zeros, "claimed"
    )


def files(folder, name="*"):
    """The files of an attack, of the clean images, or all, in the order of their images."""
    return sorted(
        Path(folder).glob(f"{name}/*.npz" if name == "clean" else f"attacks/{name}/*.npz"), key=lambda p: p.name
    )


def kept(folder, name):
    """What the files hold, joined: arrays [searches, images, ...] by name, in the order of the images."""
    parts = [dict(np.load(path)) for path in files(folder, name)]
    joined = {"image_ids": np.concatenate([part["image_ids"] for part in parts])}
    for field in set(parts[0]) & {*AttackRecord._fields, "labels", "content", "logits"} - {
        "seconds",
        "compile_seconds",
    }:
        joined[field] = np.concatenate([part[field] for part in parts], axis=1)
    if "images" in parts[0]:
        joined["images"] = np.concatenate([part["images"] for part in parts])
    return joined


ATTACKS = {"pgd": partial(attack.pgd, max_steps=5), "walk": walk}


def job(directory=None, **options):
    options = {
        "attacks": ATTACKS,
        "epsilons": EPSILONS,
        "key": jax.random.key(3),
        "batch_size": BATCH,
        "max_worst_cases": 4,
        "keep_images": True,
        "engine": "jax",
        **options,
    }
    return attack.evaluate(model, IMAGES, LABELS, directory=directory, **options)


if __name__ == "__main__":
    directory, *how = sys.argv[1:]
    if how[:1] == ["process"]:
        jax.distributed.initialize(f"localhost:{how[2]}", num_processes=2, process_id=int(how[1]))
        assert jax.process_count() == 2
        found = job(directory)
        np.savez(f"{directory}/process{how[1]}.npz", smallest=found.minimum_norm, accuracy=found.robust_accuracy())
    elif how[:1] == ["devices"]:
        assert len(jax.devices()) == int(how[1])
        job(directory, devices=jax.devices(), attacks={"pgd": ATTACKS["pgd"]})
    else:
        job(directory)
