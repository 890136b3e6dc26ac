"""Pretrained networks as values: `load("efficientnet_lite0")`, and encoders of texts: `load_text("minilm")`."""

from diffprog.models._model import Model
from diffprog.models._text_encoder import TextEncoder, load_text
from diffprog.models._torch_file import WeightsError
from diffprog.models._word_pieces import Tokens, WordPieces
from diffprog.models._wrapping import combine, wrap
from diffprog.models._zoo import load

__all__ = [
    "Model",
    "TextEncoder",
    "Tokens",
    "WeightsError",
    "WordPieces",
    "combine",
    "load",
    "load_text",
    "wrap",
]
