"""Read the arrays of a PyTorch weights file without PyTorch, and without running anything that the file contains.

A pickle may name any function and have it called while it is read. Here the only names admitted are `OrderedDict` and
torch's own records of tensors, and they are met by code of ours; classes of TorchScript become inert records of what is
in them. Any other name is refused before it is looked up.

There are two formats. The older one (before 1.6) is a sequence of pickles: magic number, protocol version, facts on the
machine, the state dict, and the list of storage keys; then for each key an int64 count and the raw little-endian bytes.
The newer one is a zip archive, nothing in it compressed: NAME/data.pkl is one pickle, NAME/data/KEY the bytes of a
storage. A TorchScript archive (`torch.jit.save`, OpenAI's CLIP) is the same with a tree of modules for a state dict.
"""

import io
import mmap
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")  # of TorchScript
MOST_PARTS = 1_000_000  # of a file's tree: references to one part can stand for more parts than there is time for
ZIP = b"PK\x03\x04"
# What PyTorch writes. Others have no use here, and some make Python's own reader ask for any amount of memory.
OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING "
    "BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND "
    "APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID BINPUT LONG_BINPUT MEMOIZE "
    "BINGET LONG_BINGET".split()
)


class WeightsError(ValueError):
    """Weights that are missing, damaged or not what they should be; the message says what to do."""


class _Storage(NamedTuple):
    """A storage by its key, and the type of its elements."""

    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """Where a tensor lies: its storage, and in elements its offset, shape and strides."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


class _Module:
    """What TorchScript made of a module: an inert record of its attributes."""

    state: Any = ()

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads a pickle by functions and classes that are made anew for each name, as a pickle can change them."""

    def __init__(self, file):
        super().__init__(file)
        self.file = file
        self.storages: list[_Storage] = []

    def load(self):
        start = self.file.tell()
        for opcode, argument, _ in pickletools.genops(self.file):
            if opcode.name not in OPCODES or (opcode.name == "LONG_BINPUT" and argument > MOST_PARTS):
                raise WeightsError(f"the file uses the pickle opcode {opcode.name} as PyTorch does not: do not use it")
        self.file.seek(start)
        return super().load()

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, tuple(shape), tuple(strides))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("torch", "Size") or (module == "torch.jit._pickle" and name in LISTS):
            return lambda values=(), *_: list(values)
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _: value
        if module == "torch" and name in STORAGES:
            return name
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Module", (_Module,), {})
        raise WeightsError(f"the file asks for {module}.{name}, which a file of weights has no use for: do not use it")

    def persistent_load(self, identifier):
        kind, dtype, key, *_ = identifier
        if kind != "storage":
            raise WeightsError(f"the file holds a {kind!r} where a storage belongs: do not use it")
        self.storages.append(_Storage(key, STORAGES[dtype]))
        return self.storages[-1]


def read_state_dict(data: bytes | mmap.mmap) -> OrderedDict[str, np.ndarray]:
    """Read the named arrays of a weights file, of the older or the zip format, or of a TorchScript archive.

    Args:
      data: The file's bytes, or the file mapped to memory, of which only what is used is read.

    Returns:
      Arrays by name, in the file's order; names of dicts and modules inside each other are joined by dots. They are
      views of the data. What is no tensor is left out.

    Raises:
      WeightsError: The bytes are not a file of these formats, end early, or name anything but tensors.
    """
    try:
        read = _read_zip if data[: len(ZIP)] == ZIP else _read_older
        tree, storage_of = read(data)
        return OrderedDict((name, _view(tensor, storage_of(tensor.storage))) for name, tensor in _named(tree))
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"the file is not a whole PyTorch weights file ({error!r})") from error


Storages = Callable[[_Storage], np.ndarray]


def _read_older(data) -> tuple[Any, Storages]:
    file = io.BytesIO(data)
    unpicklers = [_Unpickler(file) for _ in range(5)]
    magic, protocol, _machine, tree, keys = (unpickler.load() for unpickler in unpicklers)
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise WeightsError("the file is not a PyTorch weights file of the older, non-zip format")
    dtypes = {storage.key: storage.dtype for storage in unpicklers[3].storages}
    storages = {}
    for key in keys:
        dtype, size = dtypes[key], int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype, size)
    return tree, lambda storage: storages[storage.key]


def _read_zip(data) -> tuple[Any, Storages]:
    with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data) as archive:  # type: ignore[arg-type]
        entries = {entry.filename: entry for entry in archive.infolist()}
    trees = [name for name in entries if name.endswith("/data.pkl")]
    if len(trees) != 1:
        raise WeightsError(
            f"the file is a zip archive that PyTorch did not write: it holds {', '.join(list(entries)[:3])}"
        )
    root = trees[0].removesuffix("data.pkl")
    if f"{root}byteorder" in entries and bytes(_stored(data, entries[f"{root}byteorder"])) != b"little":
        raise WeightsError("the file was written by a big-endian machine: write it again on another")
    tree = _Unpickler(io.BytesIO(_stored(data, entries[trees[0]]).tobytes())).load()
    storages: dict[_Storage, np.ndarray] = {}

    def storage_of(storage):
        if storage not in storages:
            found = _stored(data, entries[f"{root}data/{storage.key}"])
            storages[storage] = found[: found.size // storage.dtype.itemsize * storage.dtype.itemsize].view(
                storage.dtype
            )
        return storages[storage]

    return tree, storage_of


def _stored(data, entry) -> np.ndarray:
    """Give the bytes of an entry of a zip archive as they lie there, checked."""
    header = data[entry.header_offset : entry.header_offset + 30]
    start = entry.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise WeightsError(f"{entry.filename} is compressed in the archive, as PyTorch does not write it")
    found = np.frombuffer(data, np.uint8, entry.file_size, start)
    if zlib.crc32(found.data) != entry.CRC:
        raise WeightsError(f"the file is damaged: {entry.filename} has another checksum than the archive says")
    return found


def _named(tree) -> Iterator[tuple[str, _Tensor]]:
    """Go through dicts, lists and modules inside each other, for the tensors and their names."""
    parts = 0
    waiting = [("", tree)]
    while waiting:
        name, value = waiting.pop()
        parts += 1
        if parts > MOST_PARTS:
            raise WeightsError(f"the file's tree has more than {MOST_PARTS:,} parts, or contains itself: do not use it")
        if isinstance(value, _Tensor):
            yield name, value
            continue
        value = value.state if isinstance(value, _Module) else value
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += reversed([(f"{name}.{key}" if name else str(key), part) for key, part in inner])


def _view(tensor, storage):
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, *tensor.strides)) < 0 or last >= storage.size:
        raise WeightsError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {storage.size} elements")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
