"""Two small networks for the handwritten digits: one trained plainly, one on adversarial examples."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from diffprog._util.files import replacing
from diffprog.graph import tap
from diffprog.models._efficientnet import add_bias
from diffprog.models._model import Model

PATH = Path(__file__).resolve().parent / "data" / "digits_networks.npz"
NETWORKS = ("digits", "digits_robust")
SIZES = (64, 64, 10)


def layers(parameters: list, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
    """Yield (name, value) from the first hidden layer to the logits, of images (n, 8, 8, 1) in [0, 1]."""
    values = images.reshape(len(images), -1)
    *hidden, (weights, bias) = parameters
    for index, (hidden_weights, hidden_bias) in enumerate(hidden):
        values = tap(jax.nn.relu(add_bias(values @ hidden_weights, hidden_bias)), f"hidden.{index}")
        yield f"hidden.{index}", values
    yield "logits", tap(add_bias(values @ weights, bias), "logits")


def model(name: str, parameters: list) -> Model:
    """Make a `Model` of a list of (weights [in, out], bias [out]), as `diffprog.fit.mlp` has them."""
    labels = tuple(str(digit) for digit in range(10))
    return Model(name, layers, parameters, labels, size=8, min_size=8, channels=1)


def load(name: str) -> Model:
    """Load one of `NETWORKS`; FileNotFoundError where the file of weights is missing."""
    if not PATH.is_file():
        raise FileNotFoundError(f"no weights at {PATH}: it belongs to the package, so install diffprog again")
    with np.load(PATH, allow_pickle=False) as archive:
        layers_with_weights = range(len(SIZES) - 1)
        return model(name, [(archive[f"{name}_weights_{n}"], archive[f"{name}_bias_{n}"]) for n in layers_with_weights])


def save(networks, path=PATH):
    """Write the parameters of several networks, a dict by name."""
    arrays = {
        f"{name}_{kind}_{number}": np.asarray(array)
        for name, parameters in networks.items()
        for number, pair in enumerate(parameters)
        for kind, array in zip(("weights", "bias"), pair, strict=True)
    }
    with replacing(path) as file:
        np.savez(file, **arrays)
