"""A batch of pictures over the devices of a machine."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def spread(tree: Any, num_rows: int) -> Any:
    """Divide leaves of `num_rows` rows among as many devices as divide `num_rows`; put the rest on each of them.

    Under a mesh of the caller's (`jax.set_mesh`), with which no other may be mixed, all stay where they are.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        return tree
    devices = jax.local_devices()
    devices = devices[: max(d for d in range(1, min(num_rows, len(devices)) + 1) if num_rows % d == 0)]
    if len(devices) == 1:
        return tree
    mesh = Mesh(np.array(devices), ("pictures",))

    def place(leaf):
        if not isinstance(leaf, (jax.Array, np.ndarray)):
            return leaf
        rows = leaf.ndim and leaf.shape[0] == num_rows and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("pictures") if rows else PartitionSpec()))

    return jax.tree.map(place, tree)
