"""Methods of attribution and measures of them, on small networks that themselves hold under every setting."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import diffprog as dp
from diffprog import attribute
from diffprog.attribute import features, measures
from diffprog.attribute._registry import METHODS
from tests.settings.entries import Entry
from tests.settings.programs import KEY, PICTURE, WEIGHTS, X, apply

ROWS = X[:3]
FEW = {"samples": 6, "steps": 4}
OPTIONS = {
    "expected_gradients": {"baseline": X},
    "occlusion": {"window": 2},
    "feature_permutation": {"data": X},
    "rise": {"features": features.columns()},
    "owen_values": {"groups": [[0, 1], [2, 3, 4]]},
    "kernel_shap": {"samples": 20},
    "lime": {"samples": 20},
}
IMAGES = np.stack([PICTURE, PICTURE[::-1], PICTURE**2])
KERNEL = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
CREDIT = np.random.default_rng(4).normal(size=IMAGES.shape).astype(np.float32)
MASKS = np.broadcast_to(np.arange(10) < 4, IMAGES.shape[:3])


def network(inputs):
    return apply(WEIGHTS, inputs)


def pictures(images):
    hidden = dp.tap(jax.nn.relu(images @ KERNEL), "hidden")
    return jnp.tanh(hidden.mean(axis=(1, 2)))


def attributed(name):
    method = getattr(attribute, name)
    takes = inspect.signature(method).parameters
    options = {option: value for option, value in FEW.items() if option in takes}
    options |= {"key": KEY} if "key" in takes else {}
    options |= OPTIONS.get(name, {})
    if METHODS[name].needs == "inside" or ("at" in takes and takes["at"].default is inspect.Parameter.empty):
        options["at"] = "hidden"
    model, inputs = (pictures, IMAGES) if name == "grad_cam" else (network, ROWS)
    found = method(model, inputs, 1, **options)
    return found.values, found.score, found.baseline_score, found.gap, found.error, found.evaluations


def measured(name, *between, **options):
    found = getattr(measures, name)(*between, **options)
    return found.value, found.error, found.curve, found.at, found.evaluations


def measured_image(name, **options):
    return measured(name, pictures, IMAGES, CREDIT, 1, **options)


def evaluated():
    found = attribute.evaluate(
        pictures,
        IMAGES,
        np.array([0, 1, 2]),
        methods={"gradient": {}, "smooth_gradient": {"samples": 3}},
        measures={"deletion": {"steps": 4}, "insertion": {"steps": 4}, "energy": {}},
        masks=MASKS,
        key=KEY,
    )
    records = found.methods.values()
    return [(record.score, {name: each.value for name, each in record.measured.items()}) for record in records]


GRID = features.grid(3)
gradient = attribute.gradient
MEASURES = {
    "insertion": partial(measured_image, "insertion", steps=5, baseline=attribute.baselines.rise_blur()),
    "deletion": partial(measured_image, "deletion", steps=5, is_probability=True),
    "road": partial(measured_image, "road"),
    "infidelity": partial(measured_image, "infidelity", key=KEY, samples=6),
    "infidelity of removals": partial(measured_image, "infidelity", key=KEY, samples=6, perturbation="removal"),
    "mu_fidelity": partial(measured_image, "mu_fidelity", key=KEY, samples=8, features=GRID),
    "sensitivity_n": partial(measured_image, "sensitivity_n", key=KEY, samples=8, shares=(0.3, 0.6), features=GRID),
    "max_sensitivity": partial(measured, "max_sensitivity", network, ROWS, gradient, 1, key=KEY, samples=2),
    "randomization": partial(measured, "randomization", apply, ROWS, gradient, 1, key=KEY, parameters=WEIGHTS),
    "pointing_game": partial(measured, "pointing_game", CREDIT, MASKS),
    "energy": partial(measured, "energy", CREDIT, MASKS),
    "grid_pointing": partial(measured, "grid_pointing", CREDIT, np.array([0, 1, 3])),
    "complexity": partial(measured, "complexity", CREDIT),
    "sparseness": partial(measured, "sparseness", CREDIT),
}

ENTRIES = [
    *(Entry(f"attribute.{name}", partial(attributed, name), atol=1e-5) for name in METHODS),
    *(Entry(f"measures, {name}", run, atol=1e-5) for name, run in MEASURES.items()),
    Entry("attribute.evaluate", evaluated, atol=1e-5),
]
