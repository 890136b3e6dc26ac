"""Norms as values: each knows what an attack must know of a ball, together with the box that pixels live in."""

from diffprog.attack._norms.dense import l2, linf
from diffprog.attack._norms.norm import Norm
from diffprog.attack._norms.sparse import l0, l1

NORMS = {norm.name: norm for norm in (l0, l1, l2, linf)}

__all__ = ["NORMS", "Norm", "l0", "l1", "l2", "linf"]
