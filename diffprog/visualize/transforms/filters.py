"""Changes of the picture that are no motion: blur, noise, colours, resampling."""

from collections.abc import Callable
from typing import NamedTuple


class Filter(NamedTuple):
    """apply: `apply(key, image)`, drawn anew for every key.
    size: `size(height, width)` of the results, for images of such a size."""

    apply: Callable
    size: Callable = lambda height, width: (height, width)

    def __call__(self, key, image):
        """One random result, differentiable."""
        return self.apply(key, image)
