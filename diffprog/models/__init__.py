"""Pretrained networks as values: `load("efficientnet_lite0")`."""

from diffprog.models.model import Model
from diffprog.models.torch_file import WeightsError
from diffprog.models.wrapping import together, wrap
from diffprog.models.zoo import load

__all__ = ["Model", "WeightsError", "load", "together", "wrap"]
