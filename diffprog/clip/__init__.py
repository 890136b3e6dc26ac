"""Text and pictures in one space: CLIP's tokenizer."""

from diffprog.clip._tokenizer import tokenize

__all__ = ["tokenize"]
