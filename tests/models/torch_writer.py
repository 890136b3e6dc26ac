"""Files as PyTorch writes them, without PyTorch: state dicts of both formats, and archives of TorchScript."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

from diffprog.models import _torch_file as torch_file


class Named:
    """Pickles as a reference to `module.name`, without that module being there."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Pickler(pickle._Pickler):
    """Writes what torch would write, without torch."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Rebuilt):
            self.save(Named("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(value, Scripted):
            self.save(Named(f"__torch__.{value.name}".rpartition(".")[0], value.name.rpartition(".")[2]))
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(value.state)
            self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value):
        return value.identifier if isinstance(value, Storage) else None


class Storage:
    def __init__(self, kind, key, count):
        self.identifier = ("storage", Named("torch", kind), key, "cpu", count, None)


class Rebuilt:
    def __init__(self, *arguments):
        self.arguments = arguments


def written(tensors, storages):
    """A file in torch's older format. tensors: name -> Rebuilt; storages: key -> array."""
    file = io.BytesIO()
    for part in (torch_file.MAGIC, torch_file.PROTOCOL, {"little_endian": True}, tensors, list(storages)):
        Pickler(file, 2).dump(part)
    for array in storages.values():
        file.write(array.size.to_bytes(8, "little") + array.tobytes())
    return file.getvalue()


def zipped(tree, entries, root="archive", compression=zipfile.ZIP_STORED, **others):
    """A file in torch's zip format. entries: storage key -> array; others: further entries, as bytes."""
    pickled, file = io.BytesIO(), io.BytesIO()
    Pickler(pickled, 2).dump(tree)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickled.getvalue())
        for key, array in entries.items():
            archive.writestr(f"{root}/data/{key}", array.tobytes())
        for name, data in others.items():
            archive.writestr(f"{root}/{name}", data)
    return file.getvalue()


class Scripted:
    """A module of TorchScript: pickled as an object of a class that nobody has."""

    def __init__(self, name, state):
        self.name, self.state = name, state


def stored(state):
    """A state dict of arrays, as tensors and the storages that they lie in."""
    kinds = {dtype: kind for kind, dtype in torch_file.STORAGES.items()}
    tensors, storages = OrderedDict(), {}
    for key, (name, array) in enumerate(state.items()):
        strides = tuple(stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides)
        storage = Storage(kinds[array.dtype], str(key), array.size)
        tensors[name], storages[str(key)] = Rebuilt(storage, 0, array.shape, strides, False, {}), array
    return tensors, storages


def scripted(state):
    """An archive of TorchScript: modules within modules, by the dots in the arrays' names."""
    tensors, storages = stored(state)
    root = {"training": False}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        inside = root
        for part in path:
            inside = inside.setdefault(part, {"training": False})
        inside[last] = tensor
    return zipped(_module("Root", root), storages, **{"constants.pkl": b"", "code/x.py": b"raise SystemExit"})


def _module(name, attributes):
    made = {key: _module(f"parts.{key}", part) if isinstance(part, dict) else part for key, part in attributes.items()}
    return Scripted(name, made)
