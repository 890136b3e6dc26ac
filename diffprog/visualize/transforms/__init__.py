"""Small random changes of the picture, so that what is found does not hang on single pixels (Olah et al. 2017).

A transform is called as `shake(key, image)`, image (height, width, c), and is drawn anew for every key; its `size`
tells what becomes of a height and a width. `chain` puts transforms one after the other.
"""

from diffprog.visualize.transforms.affine import Affine, jitter, pad, rotate, scale
from diffprog.visualize.transforms.chains import Transform, chain, gentle, lucid, still, wide

__all__ = ["Affine", "Transform", "chain", "gentle", "jitter", "lucid", "pad", "rotate", "scale", "still", "wide"]
