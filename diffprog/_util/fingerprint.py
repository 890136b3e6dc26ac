"""Digests of values by their content."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import jax
import numpy as np

from diffprog._util.processes import whole


def fingerprint(*values: Any) -> str:
    """Digest values by their content, equally in every process and on every machine.

    SHA-256 reads each value as `kind:length:content`:

    * None, bool, int, float, complex, str and bytes: the type's name, and the `repr`;
    * NumPy's and JAX's arrays and scalars: `array`, then type and shape, and the bytes, little end first;
    * random keys: `key`, then the generator's name, and their data as an array;
    * lists and tuples, which count as equal: `sequence`, the number of items, and the items;
    * dicts: `dict`, the number of items, and keys and values, sorted by their key's encoding.

    Nothing else enters: no address, no order of a dict's items, no layout of an array in memory.

    Args:
        *values: What to digest.

    Returns:
        32 hexadecimal digits, the first half of the SHA-256 digest of `values` as one sequence.

    Raises:
        TypeError: If a value has no such content, like a function or an object of some other class.
    """
    digest = sha256()
    for piece in _pieces(values):
        digest.update(piece)
    return digest.hexdigest()[:32]


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    """Yield the encoding of a value, piece by piece."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield f"key:{jax.random.key_impl(value)}:".encode()
        value = jax.random.key_data(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = whole(value)
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(f"an array of {array.dtype} has no content that a fingerprint can be taken of")
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        yield f"array:{array.dtype.name}{list(array.shape)}:{array.nbytes}:".encode()
        yield array.reshape(-1).view(np.uint8).data
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        text = repr(value).encode()
        yield f"{type(value).__name__}:{len(text)}:".encode() + text
    elif isinstance(value, list | tuple):
        yield f"sequence:{len(value)}:".encode()
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, dict):
        yield f"dict:{len(value)}:".encode()
        for encoded_key, item in sorted(
            ((b"".join(_pieces(key)), item) for key, item in value.items()), key=lambda pair: pair[0]
        ):
            yield encoded_key
            yield from _pieces(item)
    else:
        raise TypeError(f"a {type(value).__name__} has no content that a fingerprint can be taken of")
