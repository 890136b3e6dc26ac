"""The UCI handwritten digits: small enough to be part of the package, real enough to learn from."""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATH = Path(__file__).resolve().parent / "data" / "digits.npz"
NUM_TRAIN = 1440  # of 1797; 80 %, and a multiple of many batch sizes


class Examples(NamedTuple):
    """Inputs and their classes.

    Attributes:
      inputs: float32 (n, features).
      labels: int32 (n,).
    """

    inputs: np.ndarray
    labels: np.ndarray


def load_digits(path: str | PathLike = PATH) -> tuple[Examples, Examples]:
    """Load 1440 handwritten digits to train on and 357 to test on.

    The split is one fixed shuffle, whatever the seed of everything else. Both parts share their 13 writers, so the test
    accuracy speaks for new digits by known hands.

    Args:
      path: archive to read; the package's own by default.

    Returns:
      Training and test examples, with 64 features in [0, 1] and classes 0 to 9.

    Raises:
      FileNotFoundError: the file is missing.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no digits at {path}: it belongs to the package, so install diffprog again")
    with np.load(path, allow_pickle=False) as archive:
        inputs = archive["images"].reshape(-1, 64).astype(np.float32) / 16
        labels = archive["labels"].astype(np.int32)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    train, test = shuffled[:NUM_TRAIN], shuffled[NUM_TRAIN:]
    return Examples(inputs[train], labels[train]), Examples(inputs[test], labels[test])
