"""Read the arrays of a file of weights of whatever format, or say which format it is."""

import json
import mmap
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffprog.models._torch_file import ZIP, WeightsError, read_state_dict

SAFETENSORS_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
LONGEST_HEADER = 100_000_000  # bytes, the limit of the format's own library
FOREIGN = (  # how files of other formats begin
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "a GGUF file, as llama.cpp reads it"),
    (b"version https://git-lfs", "a pointer of Git LFS, and the weights are elsewhere: run `git lfs pull`"),
    (b"<", "a web page or XML file: was the download refused?"),
    (b"{", "a JSON file; of weights in several files it may be the list, and one file is needed"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
)
FOREIGN_SUFFIXES = {
    ".onnx": "an ONNX file",
    ".msgpack": "a Flax file",
    ".tflite": "a TensorFlow Lite file",
    ".pb": "a TensorFlow file",
}
READ = "TorchScript archives, PyTorch's state dicts and safetensors are read"


class WeightsFile(NamedTuple):
    """A file of weights.

    Attributes:
      format: "TorchScript", "PyTorch" or "safetensors".
      arrays: Arrays by name, which are views of the file and read from it when they are used.
      metadata: What a safetensors file says about itself.
    """

    format: str
    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_weights(path: str | Path) -> WeightsFile:
    """Read a file of weights. Nothing in it is executed.

    Args:
      path: The file.

    Returns:
      A `WeightsFile`.

    Raises:
      WeightsError: There is no such file, it is of another format, which the message names, or it is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # of mmap
        raise WeightsError(f"{path} is empty") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): give the path of a file of weights") from None
    try:
        if _is_safetensors(data):
            return WeightsFile("safetensors", *_read_safetensors(data))
        if data[:4] == ZIP or data[:2] in (b"\x80\x02", b"\x80\x04"):
            is_script = data[:4] == ZIP and data.rfind(b"/constants.pkl") >= 0
            return WeightsFile("TorchScript" if is_script else "PyTorch", dict(read_state_dict(data)), {})
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    foreign = [what for start, what in FOREIGN if data[:512].lstrip().startswith(start)]
    what = foreign[0] if foreign else FOREIGN_SUFFIXES.get(path.suffix.lower(), "of a format that is not known here")
    raise WeightsError(f"{path} is {what}; {READ}")


def _is_safetensors(data) -> bool:
    """Whether a file begins with the length of a JSON object, and the object."""
    return 2 <= int.from_bytes(data[:8], "little") <= LONGEST_HEADER and data[8:9] == b"{"


def _read_safetensors(data) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the format's header: {name: {"dtype", "shape", "data_offsets"}}; the bytes follow it."""
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__", {})
        return {name: _array(data, start, name, facts) for name, facts in header.items()}, metadata
    except WeightsError:
        raise
    except Exception as error:  # damaged headers raise nearly anything
        raise WeightsError(f"the file is not a whole safetensors file ({error!r})") from error


def _array(data, start, name, facts):
    dtype, shape = SAFETENSORS_DTYPES.get(facts["dtype"]), tuple(facts["shape"])
    if dtype is None:
        raise WeightsError(f"{name} has elements of the type {facts['dtype']}, which is not read: convert the file")
    first, end = facts["data_offsets"]
    count = int(np.prod(shape, dtype=object))
    if not 0 <= first <= end <= len(data) - start or end - first != count * dtype.itemsize:
        raise WeightsError(f"{name} of shape {shape} has bytes {first} to {end} of {len(data) - start}: cut short?")
    return np.frombuffer(data, dtype, count, start + first).reshape(shape)
