"""Text and pictures in one space: CLIP's networks, their tokens, and the files of their weights."""

from diffprog.clip._clip import Clip
from diffprog.clip._loading import load
from diffprog.clip._text import TextTower
from diffprog.clip._tokenizer import tokenize

__all__ = ["Clip", "TextTower", "load", "tokenize"]
