"""Training: any differentiable loss over any data, resumed to the bit; and small data sets and a network to try it."""

from diffprog.fit import mlp
from diffprog.fit._batches import visiting_order
from diffprog.fit._classification import accuracy, mean_cross_entropy
from diffprog.fit._digits import Examples, load_digits
from diffprog.fit._fit import fit
from diffprog.fit._mnist1d import load_mnist1d
from diffprog.fit._rate_range import RateRange, learning_rate_range
from diffprog.fit._result import Fit
from diffprog.fit._stopping import EarlyStop, early_stop

__all__ = [
    "EarlyStop",
    "Examples",
    "Fit",
    "RateRange",
    "accuracy",
    "early_stop",
    "fit",
    "learning_rate_range",
    "load_digits",
    "load_mnist1d",
    "mean_cross_entropy",
    "mlp",
    "visiting_order",
]
