"""Name the layers of Flax and Equinox models by their paths.

While `named_modules()` is active, what a module returns is tapped under the module's path, and what it computes has
that path. Flax Linen has scopes of its own and a hook for calls, and both are used. Equinox and Flax NNX have neither:
there the `__call__` of their modules is wrapped for the time. A library that is not loaded is left alone.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable

import jax

from diffprog.graph._selection.tap import ModuleOutput, named

# Part of the key of JAX's caches: a function that was compiled before has no modules in it.
_in_key = jax.make_user_context(False)


class _Active(threading.local):
    """The state of a thread: how often it has entered `named_modules`, and the modules that it is calling."""

    def __init__(self):
        self.depth = 0
        self.calls: list[_Call] = []


_active = _Active()
_wrapped: dict[type, Callable] = {}  # class -> its own __call__
_users = 0  # threads that are inside
_lock = threading.Lock()


@contextlib.contextmanager
def named_modules():
    """Make modules that are called meanwhile reachable by path: "MLP/Dense_1", "MLP/layers[0]".

    The root is named after its class, a module below by its attributes. What a module returns is tapped as a
    `ModuleOutput`, under the module's path. Jitted functions are staged anew, once.

    Classes are wrapped for all threads, and calls in threads that have not entered pass through.
    """
    if _active.depth:  # nested: all is in place
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_wrapped_classes())
        linen = sys.modules.get("flax.linen")
        if linen is not None:
            stack.enter_context(linen.intercept_methods(functools.partial(_linen, linen)))
        stack.enter_context(_in_key(True))
        _active.depth += 1
        try:
            yield
        finally:
            _active.depth -= 1


# ---------------------------------------------------------------- Flax Linen


def _linen(linen, call, args, kwargs, context):
    module, method = context.module, context.method_name
    result = call(*args, **kwargs)
    if method == "setup" or (method.startswith("_") and method != "__call__"):
        return result
    root = module
    while isinstance(root.parent, linen.Module):
        root = root.parent
    above, below = root.path[:-1], module.path[len(root.path) :]  # within `nn.remat` and its like the root has a path
    path = "/".join([*above, root.name or type(root).__name__, *below])
    return named(result, ModuleOutput(path if method == "__call__" else f"{path}.{method}"))


# ---------------------------------------------------------------- Equinox and Flax NNX


class _Call:
    """A module that is being called, and where the modules in it are."""

    def __init__(self, module, path: str):
        self.module, self.path = module, path

    @functools.cached_property
    def places(self) -> dict[int, str]:
        """The path from this module to each module in it, by id."""
        places: dict[int, str] = {}
        kinds = _module_classes()

        def visit(value, path):
            if isinstance(value, kinds) and value is not self.module:
                if id(value) in places:
                    return
                if not _is_list(value):
                    places[id(value)] = path
            if _is_list(value):
                for i, item in enumerate(value):
                    visit(item, f"{path}[{i}]")
            elif isinstance(value, dict):
                for key, item in value.items():
                    visit(item, f"{path}[{key!r}]")
            elif isinstance(value, kinds):
                for name, item in vars(value).items():
                    if not name.startswith("_"):
                        visit(item, f"{path}/{name}" if path else name)

        visit(self.module, "")
        return places


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple)) or type(value).__name__ == "List"  # of NNX


def _module_classes() -> tuple[type, ...]:
    loaded = (getattr(sys.modules.get(library), "Module", None) for library in ("equinox", "flax.nnx"))
    return tuple(kind for kind in loaded if kind is not None)  # None too while a library is being imported


def _call_module(original, module, args, kwargs):
    calls = _active.calls
    if not _active.depth or (calls and calls[-1].module is module):  # its own super().__call__
        return original(module, *args, **kwargs)
    name, path = _place(calls, module)
    calls.append(_Call(module, path))
    try:
        with jax.named_scope(name):
            return named(original(module, *args, **kwargs), ModuleOutput(path))
    finally:
        calls.pop()


def _place(calls, module) -> tuple[str, str]:
    """Find the scope to enter for a module, and its path."""
    places = (call.places.get(id(module)) for call in reversed(calls))
    name = next((place for place in places if place is not None), type(module).__name__)
    return name, f"{calls[-1].path}/{name}" if calls else name


@contextlib.contextmanager
def _wrapped_classes():
    global _users
    with _lock:
        _users += 1
        for kind in _module_classes():
            _wrap(kind)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for kind, original in _wrapped.items():
                    kind.__call__ = original
                _wrapped.clear()


def _wrap(base):
    for kind in base.__subclasses__():
        _wrap(kind)
        original = vars(kind).get("__call__")
        if kind in _wrapped or not callable(original) or not _is_layer(kind):
            continue
        _wrapped[kind] = original
        kind.__call__ = _wrapper(original)


def _is_layer(kind) -> bool:
    """Equinox makes modules of jitted functions and bound methods too, in its own package."""
    return not kind.__module__.startswith("equinox.") or kind.__module__.startswith("equinox.nn.")


def _wrapper(original):
    @functools.wraps(original)
    def __call__(self, *args, **kwargs):
        return _call_module(original, self, args, kwargs)

    return __call__
