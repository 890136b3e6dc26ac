"""Transforms: small random changes of a picture, so that a result does not depend on individual pixels.

A transform is called as `transform(key, image)`, image (height, width, c), and is drawn anew for every key. Its `size`
tells what becomes of a height and a width. `chain` puts transforms one after the other (Olah et al. 2017).
"""

from diffprog.visualize.transforms._compose import Chain, Transform, chain, lucid, still
from diffprog.visualize.transforms._filters import Filter, blend, blur, color_shift, crop, noise, resize
from diffprog.visualize.transforms._geometric import Affine, flip, jitter, pad, rotate, scale

__all__ = [
    "Affine",
    "Chain",
    "Filter",
    "Transform",
    "blend",
    "blur",
    "chain",
    "color_shift",
    "crop",
    "flip",
    "jitter",
    "lucid",
    "noise",
    "pad",
    "resize",
    "rotate",
    "scale",
    "still",
]
