"""Programs that run in several processes by `jax.distributed`: who writes, and arrays that are spread over all."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def is_spread(array: object) -> bool:
    """Whether no process has the whole array."""
    return isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated)


def whole(array: jax.Array | np.ndarray | np.generic) -> np.ndarray:
    """Bring an array into this process's memory. Of one that is spread, all processes must ask at the same place."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True) if is_spread(array) else array)


def agree(number: int) -> bool:
    """Whether a number is the same in all processes, which must all ask at the same place."""
    if jax.process_count() == 1:
        return True
    return len(set(np.asarray(multihost_utils.process_allgather(np.int32(number))).tolist())) == 1


def wait_for_all(name: str) -> None:
    """Wait until all processes are at the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
