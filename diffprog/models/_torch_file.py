"""Read the arrays of a PyTorch weights file without PyTorch, and without running anything that the file contains.

A pickle may name any function and have it called while it is read. Here the only names admitted are `OrderedDict`
and torch's own record of a tensor, and both are met by code of ours; any other name is refused before it is looked up.

The format is torch's older one (before 1.6), a sequence of pickles: magic number, protocol version, facts on the
machine, the state dict, and the list of storage keys; then for each key an int64 count and the raw little-endian bytes.
"""

import io
import pickle
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class WeightsError(ValueError):
    """Weights that are missing, damaged or not what they should be; the message says what to do."""


class _Tensor(NamedTuple):
    """Where a tensor lies: its storage's key, and in elements its offset, shape and strides."""

    key: str
    dtype: np.dtype
    offset: int
    shape: tuple
    strides: tuple


def _rebuild_tensor(storage, offset, shape, strides, *_):
    key, dtype = storage
    return _Tensor(key, dtype, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise WeightsError(f"the file asks for {module}.{name}, which a file of weights has no use for: do not use it")

    def persistent_load(self, identifier):
        kind, dtype, key, _device, _count, _view = identifier
        if kind != "storage":
            raise WeightsError(f"the file holds a {kind!r} where a storage belongs: do not use it")
        return key, dtype


def read_state_dict(data: bytes) -> OrderedDict[str, np.ndarray]:
    """Read the named arrays of a weights file.

    Args:
      data: The file's bytes.

    Returns:
      Arrays by name, in the file's order.

    Raises:
      WeightsError: The bytes are not a file of this format, end early, or name anything but tensors.
    """
    file = io.BytesIO(data)
    try:
        magic, protocol, _machine, tensors, keys = (_Unpickler(file).load() for _ in range(5))
        if (magic, protocol) != (MAGIC, PROTOCOL):
            raise WeightsError("the file is not a PyTorch weights file of the older, non-zip format")
        dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
        storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        return OrderedDict((name, _view(tensor, storages[tensor.key])) for name, tensor in tensors.items())
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"the file is not a whole PyTorch weights file ({error!r})") from error


def _read_storage(file, dtype):
    size = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(size * dtype.itemsize), dtype, size)


def _view(tensor, storage):
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, *tensor.strides)) < 0 or last >= storage.size:
        raise WeightsError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {storage.size} elements")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
