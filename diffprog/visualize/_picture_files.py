"""Pictures of any number of channels in files: an image that shows them, and beside it the values that it lacks."""

from pathlib import Path

import numpy as np

from diffprog._util.files import read_arrays, write_arrays
from diffprog.images import read_image

HELD = (1, 3)  # numbers of channels that an image file holds as they are


def keep_values(path: Path, picture: np.ndarray) -> None:
    """Write a picture's values beside its image file, as NAME.npz, if that cannot hold them."""
    values = path.with_suffix(".npz")
    if np.ndim(picture) == 3 and np.shape(picture)[-1] not in HELD:
        write_arrays(values, {"picture": np.asarray(picture, np.float32)})
    else:
        values.unlink(missing_ok=True)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture from its values, or else from its image file.

    Raises:
      ValueError: A file is damaged; the message names it.
    """
    image, values = read_image(path), path.with_suffix(".npz")
    if not values.is_file():
        return image
    try:
        return read_arrays(values)["picture"]
    except Exception as error:  # a damaged archive raises nearly anything
        raise ValueError(f"{values}: cannot be read ({error}): remove it") from error
