"""Descent on a network's weights."""

from diffprog.fit import mlp
from diffprog.fit._digits import Examples, load_digits
from diffprog.fit._mnist1d import load_mnist1d
from diffprog.fit._training import Fit, accuracy, fit, mean_cross_entropy, visiting_order

__all__ = [
    "Examples",
    "Fit",
    "accuracy",
    "fit",
    "load_digits",
    "load_mnist1d",
    "mean_cross_entropy",
    "mlp",
    "visiting_order",
]
