"""Digests of functions and objects by their content, equally in every process.

A long job that goes on in another process has to know whether a user's function is still the one that made its files.
A name does not tell, and an address means nothing there. What a function does follows from its code and from what that
reads: defaults, variables of enclosing functions, globals, and so on through whatever these refer to.
"""

import contextlib
import enum
import functools
import inspect
import logging
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from hashlib import sha256
from io import IOBase
from pathlib import PurePath
from typing import Any, NamedTuple

import jax
import numpy as np

from diffprog._util.code_reads import code_reads
from diffprog._util.fingerprint import fingerprint
from diffprog._util.packages import module_content, package_name, package_version

PLAIN = (type(None), bool, int, float, complex, str, bytes)
CONTENTLESS: tuple[type, ...] = (
    *(threading.local, type(threading.Lock()), type(threading.RLock()), threading.Event, threading.Condition),
    *(logging.Logger, ContextVar, types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
)
STATES = ("PytreeState", "ObjectState", "TraceState")  # of Flax NNX: whether a trace is open
FROM_CLASS = ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__qualname__", "__slots__")


class ContentDigest(NamedTuple):
    """What is known of a value's content.

    Attributes:
        text: 32 hexadecimal digits, equal for equal content. What cannot be described enters by its type alone.
        unknown: What cannot be described, a phrase for each: "loss.data is a generator".
    """

    text: str
    unknown: tuple[str, ...]

    @property
    def key(self) -> str:
        """The text if all is known; otherwise another one every time, as nothing is known to be equal."""
        return self.text if not self.unknown else f"{self.text}-{uuid.uuid4().hex}"


def content_digest(value: Any, name: str = "it") -> ContentDigest:
    """Digest a value by its content.

    What enters of a value:

    * numbers, texts, arrays, random keys: as `fingerprint` has them; sequences, sets and mappings: their items;
    * functions: code, constants and nested functions, but neither lines, files, names nor docstrings; defaults; what
      the code reads of enclosing functions and of its module's globals; names that it only writes, like a log of its
      calls, or sets itself, like a program that the first call compiles, do not count;
    * functions, classes and modules of installed packages: their name and the package's version;
    * modules of the user's: those of their members that the code reads;
    * partials, methods, compiled functions, caches: the function, and what is bound to it;
    * dataclasses: their fields, Flax's and Equinox's modules among them; other objects: their attributes, less cached
      properties and those that their class only counts with, or that a call of it sets; in each case with the code of
      their class, unless that is a package's;
    * what else can be pickled: what pickle would write.

    Args:
        value: Anything.
        name: What it is called, for the phrases.

    Returns:
        The digest, and what could not be described.
    """
    describer = _Describer()
    digest = describer.visit(value, name)
    return ContentDigest(digest.hex()[:32], tuple(dict.fromkeys(describer.unknown)))


def _hashed(kind: str, parts: Iterable[bytes]) -> bytes:
    """Digest the digests of parts, in order."""
    parts = list(parts)
    return sha256(f"{kind}:{len(parts)}:".encode() + b"".join(parts)).digest()


class _Describer:
    """A walk over what a value refers to, each object once."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._depth: dict[int, int] = {}  # of the objects that are being described
        self._known: dict[int, bytes] = {}
        self._lowest = sys.maxsize  # depth of the outermost object that was referred to from within
        self._num_cycles = 0
        self._held: list[Any] = []  # so that no address is used again

    def visit(self, value: Any, name: str) -> bytes:
        """Digest a value; one that refers to itself is known by how far up it is."""
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return bytes.fromhex(fingerprint(value))
        array = _as_array(value)
        if array is not None:
            return bytes.fromhex(fingerprint(array))
        address, depth = id(value), len(self._depth)
        if address in self._depth:
            self._lowest = min(self._lowest, self._depth[address])
            return _hashed("outer", [str(depth - self._depth[address]).encode()])
        if address in self._known:
            return self._known[address]
        self._held.append(value)
        self._depth[address], outer, self._lowest = depth, self._lowest, sys.maxsize
        digest = self._describe(value, name)
        del self._depth[address]
        if self._lowest < depth:  # it is part of a larger cycle, and means something only there
            self._num_cycles += 1
            self._known[address] = _hashed("cycle", [str(self._num_cycles).encode()])
        else:
            self._known[address] = digest
        self._lowest = min(outer, self._lowest)
        return digest

    def _describe(self, value: Any, name: str) -> bytes:
        if type(value) in _EXACT:
            return _EXACT[type(value)](self, value, name)
        for kinds, describe in _KINDS:
            if isinstance(value, kinds):
                return describe(self, value, name)
        if (label := package_name(value)) is not None:
            return _hashed("named", [label.encode()])
        if type(value).__name__ in ("PjitFunction", "_lru_cache_wrapper"):
            return _hashed("wrapped", [self.visit(value.__wrapped__, name)])
        return self._object(value, name)

    def _items(self, values: Iterable[Any], name: str) -> list[bytes]:
        return [self.visit(value, f"{name}[{index}]") for index, value in enumerate(values)]

    def _sequence(self, value: Iterable[Any], name: str) -> bytes:
        return _hashed("sequence", self._items(value, name))

    def _set(self, value: Iterable[Any], name: str) -> bytes:
        return _hashed("set", sorted(self._items(value, name)))

    def _mapping(self, value: Mapping[Any, Any], name: str) -> bytes:
        pairs = [self.visit(key, name) + self.visit(item, f"{name}[{key!s:.30}]") for key, item in value.items()]
        return _hashed("mapping", sorted(pairs))

    def _module(self, value: types.ModuleType, name: str) -> bytes:
        return _hashed("module", [module_content(value).encode()])

    def _partial(self, value: functools.partial, name: str) -> bytes:
        return _hashed("partial", [self.visit(part, name) for part in (value.func, value.args, value.keywords)])

    def _method(self, value: types.MethodType, name: str) -> bytes:
        return _hashed("method", [self.visit(value.__func__, name), self.visit(value.__self__, name)])

    def _decorator(self, value: Any, name: str) -> bytes:
        """Digest a context manager that a generator makes, which as a decorator is made anew for each call."""
        return _hashed("decorator", [self.visit((value.func, value.args, value.kwds), name)])

    def _builtin(self, value: types.BuiltinFunctionType, name: str) -> bytes:
        bound = value.__self__ if not isinstance(value.__self__, types.ModuleType | None) else None
        label = f"{value.__module__}.{value.__qualname__} {package_version(value.__module__ or 'builtins')}"
        return _hashed("builtin", [label.encode(), self.visit(bound, name)])

    def _function(self, value: types.FunctionType, name: str) -> bytes:
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        bound = {"defaults": value.__defaults__, "keyword defaults": value.__kwdefaults__}
        parts = [self.visit(bound, name)]
        module = value.__module__ or ""  # None of a function that `exec` made
        if (version := package_version(module)) is not None:
            if (label := package_name(value)) is not None:
                return _hashed("named", [label.encode()])
            parts.append(f"{value.__module__}.{value.__qualname__} {version}".encode())
            held = [(variable, _cell(cell)) for variable, cell in sorted(cells.items())]
            return _hashed("package's", [*parts, *(self.visit(item, f"{name}.{variable}") for variable, item in held)])
        reads = code_reads(value.__code__)
        counted = reads.logged - reads.attributes
        attributes = {key: item for key, item in vars(value).items() if key not in counted and key != "__wrapped__"}
        parts += [self._code(value.__code__, name, value.__doc__), self.visit(attributes, name)]
        for path in reads.names:
            if path[0] in cells:
                item: Any = _cell(cells[path[0]])
            elif path[0] in value.__globals__:
                item = value.__globals__[path[0]]
            else:
                continue  # a built-in function, or nothing
            parts += ["\0".join(path).encode(), self._read(item, path, f"{name}.{path[0]}")]
        for module in reads.imports:
            parts += [module.encode(), self.visit(sys.modules.get(module), f"{name}.{module}")]
        return _hashed("function", parts)

    def _read(self, value: Any, path: tuple[str, ...], name: str) -> bytes:
        """Digest what is read by a name; of a user's module, the member that is read from it."""
        for attribute in path[1:]:
            if not isinstance(value, types.ModuleType) or package_version(value.__name__) is not None:
                break
            value = getattr(value, attribute, None)
        return self.visit(value, name)

    def _code(self, code: types.CodeType, name: str, documentation: str | None = None) -> bytes:
        """Digest what a piece of code does: not where it stands, or how it is called and described."""
        constants = list(code.co_consts)
        if documentation is not None and constants and constants[0] == documentation:
            constants[0] = ""
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        num_parameters = code.co_argcount + code.co_kwonlyargcount
        names = (code.co_names, code.co_varnames[:num_parameters], code.co_freevars, code.co_cellvars)
        shape = fingerprint(code.co_code, getattr(code, "co_exceptiontable", b""), counts, names)
        nested = [
            self._code(constant, name) if isinstance(constant, types.CodeType) else self.visit(constant, name)
            for constant in constants
        ]
        return _hashed("code", [shape.encode(), *nested])

    def _property(self, value: Any, name: str) -> bytes:
        functions = [getattr(value, part, None) for part in ("fget", "fset", "fdel", "func", "__func__")]
        return _hashed(type(value).__name__, [self.visit(function, name) for function in functions])

    def _class(self, value: type, name: str) -> bytes:
        if (label := package_name(value)) is not None:
            return _hashed("named", [label.encode()])
        parts = [self.visit(base, name) for base in value.__bases__]
        for key, item in sorted(vars(value).items()):
            is_code = isinstance(item, _CODE)
            if key not in FROM_CLASS and (is_code or not (key.startswith("__") or key.startswith("_abc_"))):
                parts += [key.encode(), self.visit(item, f"{name}.{key}")]
        if is_dataclass(value):
            parts += [self.visit((field.name, _default(field)), name) for field in fields(value)]
        return _hashed("class", parts)

    def _contentless(self, value: Any, name: str) -> bytes:
        return _hashed("contentless", [type(value).__name__.encode()])

    def _enumerated(self, value: enum.Enum, name: str) -> bytes:
        return _hashed("enum", [self.visit(type(value), name), value.name.encode()])

    def _text(self, value: Any, name: str) -> bytes:
        return _hashed(type(value).__name__, [str(value).encode()])

    def _reference(self, value: weakref.ref, name: str) -> bytes:
        return _hashed("reference", [self.visit(value(), name)])

    def _object(self, value: Any, name: str) -> bytes:
        """Digest an object by its class and its state."""
        kind = self.visit(type(value), name)
        if is_dataclass(value):
            state = {field.name: getattr(value, field.name, None) for field in fields(value)}
            return _hashed("dataclass", [kind, self._members(state, name)])
        base = next((base for base in _HELD if isinstance(value, base)), None)
        slots = {slot: getattr(value, slot) for slot in _slots(type(value)) if hasattr(value, slot)}
        if base is None and not slots and not hasattr(value, "__dict__"):
            return self._reduced(value, kind, name)
        held = b"" if base is None else self.visit(_HELD[base](value), name)
        ignored = _logged_by(type(value)) | _cached_by(type(value))
        state = {key: item for key, item in (slots | getattr(value, "__dict__", {})).items() if key not in ignored}
        return _hashed("object", [kind, held, self._members(state, name)])

    def _reduced(self, value: Any, kind: bytes, name: str) -> bytes:
        """Digest an object without attributes by what pickle would write."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # whatever an object's own method raises, it cannot be described
            return self._unknown(value, kind, name)
        if isinstance(reduced, str):
            return _hashed("global", [kind, reduced.encode()])
        parts = [list(part) if index > 2 and part is not None else part for index, part in enumerate(reduced)]
        return _hashed("reduced", [kind, *self._items(parts, name)])

    def _unknown(self, value: Any, kind: bytes, name: str) -> bytes:
        self.unknown.append(f"{name} is a {type(value).__name__}")
        return _hashed("unknown", [kind])

    def _file(self, value: IOBase, name: str) -> bytes:
        """Take a file that is written to for a log, which decides nothing."""
        readable = not value.closed and value.readable()
        return self._unknown(value, b"", name) if readable else self._contentless(value, name)

    def _members(self, state: Mapping[str, Any], name: str) -> bytes:
        members = [(key, item) for key, item in sorted(state.items()) if type(item).__name__ not in STATES]
        return _hashed("members", [part for key, item in members for part in self._member(key, item, name)])

    def _member(self, key: str, item: Any, name: str) -> tuple[bytes, bytes]:
        return key.encode() + b"\0", self.visit(item, f"{name}.{key}")


_CODE = (types.FunctionType, property, staticmethod, classmethod, functools.cached_property)
_HELD: dict[type, Callable[[Any], Any]] = {  # base classes that hold content, and how to take it out
    tuple: list,
    **{kind: kind for kind in (list, dict, set, frozenset, str, bytes, int, float, complex)},
}
_EXACT: dict[type, Callable[[_Describer, Any, str], bytes]] = {
    list: _Describer._sequence,
    tuple: _Describer._sequence,
    dict: _Describer._mapping,
    types.MappingProxyType: _Describer._mapping,
    set: _Describer._set,
    frozenset: _Describer._set,
}
_KINDS: tuple[tuple[Any, Callable[[_Describer, Any, str], bytes]], ...] = (
    (CONTENTLESS, _Describer._contentless),
    (IOBase, _Describer._file),
    (types.ModuleType, _Describer._module),
    (functools.partial, _Describer._partial),
    (types.MethodType, _Describer._method),
    (contextlib._GeneratorContextManager, _Describer._decorator),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Describer._builtin),
    (types.FunctionType, _Describer._function),
    (types.CodeType, _Describer._code),
    (_CODE, _Describer._property),
    (type, _Describer._class),
    (enum.Enum, _Describer._enumerated),
    ((PurePath, jax.Device, types.UnionType), _Describer._text),
    (weakref.ref, _Describer._reference),
)


def _as_array(value: Any) -> Any:
    """Take an array with content: NumPy's or JAX's, or another library's that NumPy can read."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        structured = isinstance(value, np.ndarray | np.generic) and (value.dtype.hasobject or value.dtype.names)
        return None if structured or isinstance(value, jax.core.Tracer) else value
    if isinstance(value, type) or not (hasattr(value, "__array__") and hasattr(value, "dtype")):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # whatever another library raises
        return None
    return None if array.dtype.hasobject else array


def _cell(cell: types.CellType) -> Any:
    """Read a variable of an enclosing function; one that is not set yet is nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(kind: type) -> list[str]:
    """List the attributes that a class keeps in slots."""
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _logged_by(kind: type) -> set[str]:
    """List the attributes that a user's class only counts with or logs to, and those that a call of it sets."""
    functions = [item for base in kind.__mro__ if package_version(base.__module__) is None for item in _methods(base)]
    reads = [code_reads(function.__code__) for function in functions]
    logged, read = (set().union(*(getattr(part, field) for part in reads)) for field in ("logged", "attributes"))
    calls = [part for function, part in zip(functions, reads, strict=True) if function.__name__ == "__call__"]
    return (logged - read).union(*(part.assigned for part in calls))


def _cached_by(kind: type) -> set[str]:
    """List the attributes that follow from others, and are there once they were asked for."""
    return {
        name
        for base in kind.__mro__
        for name, item in vars(base).items()
        if isinstance(item, functools.cached_property)
    }


def _methods(kind: type) -> list[types.FunctionType]:
    """List the functions in a class, decorated ones included."""
    plain = [inspect.unwrap(getattr(item, "__func__", item)) for item in vars(kind).values() if callable(item)]
    return [function for function in plain if isinstance(function, types.FunctionType)]


def _default(field: Any) -> Any:
    """Take the default of a dataclass's field, or what makes it."""
    return [None if value is MISSING else value for value in (field.default, field.default_factory)]
