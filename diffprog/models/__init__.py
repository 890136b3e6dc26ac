"""Pretrained networks as values: `load("efficientnet_lite0")`."""

from diffprog.models._model import Model
from diffprog.models._torch_file import WeightsError
from diffprog.models._wrapping import combine, wrap
from diffprog.models._zoo import load

__all__ = ["Model", "WeightsError", "combine", "load", "wrap"]
