"""Intercepting the operations of a program where the program calls them.

A `Trace` sees an operation late: `vmap` and gradients inside the traced function come first, so that of
`jax.grad(loss)` it sees the operations of a gradient. To act as if the source had been edited, one has to be there
when the operation is called, and that is `Primitive.bind`. While a function is intercepted, that method and the one
that enters a scope are replaced by those below; in threads that intercept nothing they do what they always did.

A jitted function is staged anew for its interceptors: they are part of the key of JAX's caches. So is the place of the
call, if they ask for it.
"""

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any

from jax._src import core, source_info_util
from jax.extend.core.primitives import jit_p

from diffprog._jax_internals import binding

__all__ = ["Interceptor", "Operation", "intercepting", "is_intercepted", "not_intercepting", "scopes_around"]

_Scope = source_info_util.ExtendNameStackContextManager
_bind, _enter, _exit = core.Primitive.bind, _Scope.__enter__, _Scope.__exit__


@dataclass
class Operation:
    """An operation that has just run.

    Attributes:
      primitive, args, params: what ran, with the arguments of `bind`.
      results: what it returned: one value, or a list.
      scopes: names of the scopes around it, also of those around the staged functions that it is in.
      caller: the frame of Python that called it.
    """

    primitive: Any
    args: tuple
    params: dict
    results: Any
    scopes: tuple[str, ...]
    caller: FrameType

    @property
    def function(self) -> str | None:
        """The name of a function that has a derivative of its own, None for other operations."""
        functions = self.params.get("subfuns", ())
        info = getattr(functions[0], "debug_info", None) if functions else None
        return info and info.func_name

    @cached_property
    def user_line(self) -> tuple[str, int, str] | None:
        """(file, line, function) of the user's code that called it, None if there is none."""
        frame: FrameType | None = self.caller
        while frame is not None and not source_info_util.is_user_filename(frame.f_code.co_filename):
            frame = frame.f_back
        return frame and (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


@dataclass(eq=False)
class Interceptor:
    """A party that sees operations, and may change their results.

    Attributes:
      act: an operation -> what is returned in place of its results.
      by_path, by_line: whether it looks at the path or the line. A function that is compiled once for all its callers
        is then staged for each path, and for each call.
      identity: what JAX's caches know it by. They keep it, and would keep all that `act` refers to.
    """

    act: Callable[[Operation], Any]
    by_path: bool
    by_line: bool
    identity: object = field(default_factory=object)


class _State(threading.local):
    """What belongs to this thread: its interceptors, the outermost first; the scopes; the number of jitted calls."""

    def __init__(self):
        self.interceptors: tuple[Interceptor, ...] = ()
        self.scopes: tuple[str, ...] = ()
        self.calls = 0

    def set(self, interceptors):
        self.interceptors = interceptors
        self.update_key()

    def update_key(self):
        if not self.interceptors:
            binding.interceptors_key.swap_local(None)
            return
        scopes = self.scopes if any(i.by_path for i in self.interceptors) else None
        calls = self.calls if any(i.by_line for i in self.interceptors) else None
        binding.interceptors_key.swap_local((tuple(i.identity for i in self.interceptors), scopes, calls))


_state = _State()
_lock = threading.Lock()
_users = 0
_calls = itertools.count(1)


@contextlib.contextmanager
def intercepting(interceptor: Interceptor):
    """Let `interceptor` see every operation that this thread calls meanwhile, also while functions are staged.

    It does not see what JAX and diffprog call to carry an operation out, such as the operations of its derivative, nor
    into functions that have a derivative of their own (`custom_jvp`, `custom_vjp`). Of several interceptors the last
    one sees an operation first.
    """
    global _users
    with _lock:
        _users += 1
        _replace(_intercepted_bind, _noted_enter, _noted_exit)
    before, scopes = _state.interceptors, _state.scopes
    _state.scopes = scopes_around()
    _state.set((*before, interceptor))
    try:
        yield
    finally:
        _state.scopes = scopes
        _state.set(before)
        with _lock:
            _users -= 1
            if not _users:
                _replace(_bind, _enter, _exit)


def is_intercepted() -> bool:
    """Whether the operations that this thread calls are seen by an interceptor."""
    return bool(_state.interceptors)


def scopes_around() -> tuple[str, ...]:
    """List the names of the scopes that this thread is in, as operations have them."""
    if _state.interceptors:
        return _state.scopes
    stack = source_info_util.current_name_stack().stack
    return tuple(part.name for part in stack if isinstance(part, source_info_util.Scope))


@contextlib.contextmanager
def not_intercepting():
    """Hide the operations that are called meanwhile from every interceptor."""
    before = _state.interceptors
    if not before:
        yield
        return
    _state.set(())
    try:
        yield
    finally:
        _state.set(before)


binding.not_intercepting = not_intercepting


def _replace(bind, enter, leave):
    core.Primitive.bind, _Scope.__enter__, _Scope.__exit__ = bind, enter, leave


def _intercepted_bind(primitive, *args, **params):
    interceptors = _state.interceptors
    if not interceptors:
        return _bind(primitive, *args, **params)
    try:
        _state.set(())
        results = _bind(primitive, *args, **params)
        if primitive is jit_p:
            _state.calls = next(_calls)
        elif not _is_replayed():
            operation = Operation(primitive, args, params, results, _state.scopes, sys._getframe(1))
            for i in reversed(range(len(interceptors))):
                _state.set(interceptors[:i])
                operation.results = interceptors[i].act(operation)
            results = operation.results
        return results
    finally:
        _state.set(interceptors)


def _is_replayed() -> bool:
    """Whether JAX is running a staged program, or one backward, in Python: its operations were seen already.

    Then, and only then, it says where the operation to come was called.
    """
    return source_info_util._source_info_context.context.traceback is not None


def _noted_enter(self):
    result = _enter(self)
    if _state.interceptors or _state.scopes:
        _state.scopes = (*_state.scopes, self.name)
        _state.update_key()
    return result


def _noted_exit(self, *error):
    if _state.scopes and _state.scopes[-1] == self.name:
        _state.scopes = _state.scopes[:-1]
        _state.update_key()
    return _exit(self, *error)
