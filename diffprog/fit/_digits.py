"""The UCI handwritten digits: small enough to live in the repository, real enough to learn from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

PATH = Path(__file__).resolve().parent / "data" / "digits.npz"
TRAIN = 1440  # of 1797; 80 %, and a multiple of many batch sizes


class Examples(NamedTuple):
    """Inputs and their classes."""

    inputs: np.ndarray  # float32 [n, features]
    labels: np.ndarray  # int32 [n]


def load_digits(path: Path = PATH) -> tuple[Examples, Examples]:
    """1440 examples to train on and 357 to test on: 64 features in [0, 1] and a class in 0..9.

    The split is one fixed shuffle, whatever the seed of everything else. Both halves share their 13 writers, so the
    test accuracy speaks for new digits by known hands.

    Raises FileNotFoundError where the file is missing.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no digits at {path}: it belongs to the package, so install diffprog again")
    with np.load(path, allow_pickle=False) as archive:
        inputs = archive["images"].reshape(-1, 64).astype(np.float32) / 16
        labels = archive["labels"].astype(np.int32)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    train, test = shuffled[:TRAIN], shuffled[TRAIN:]
    return Examples(inputs[train], labels[train]), Examples(inputs[test], labels[test])
