"""Where in the program an operation comes from: stack frames and name stacks."""

import sysconfig
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext
from functools import cache
from types import CodeType
from typing import NamedTuple

from jax._src import api_util, config, source_info_util
from jax._src.util import weakref_lru_cache

from diffprog._jax_internals.devices import same_context

_CLASSES = "eqx.nn."  # Equinox names the class of each of its layers, which says less than the layer's place
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_user_files: set[str] = set()


class RawFrame(NamedTuple):
    """A frame of a stack: its file, line and function, and whether JAX or diffprog hide it in their tracebacks."""

    file: str
    line: int
    function: str
    hidden: bool


@cache
def is_hidden(file: str) -> bool:
    """Whether a file is JAX's or diffprog's, which hide themselves in tracebacks."""
    return not source_info_util.is_user_filename(file)


def count_as_user_code(file: str) -> None:
    """Show the lines of a file as the user's own, although it belongs to an installed package."""
    _user_files.add(file)


@cache
def is_installed(file: str) -> bool:
    """Whether a file belongs to an installed package or to Python itself."""
    if file in _user_files:
        return False
    return file.startswith((*_LIBRARIES, "<frozen")) or "/site-packages/" in file or "/dist-packages/" in file


def looks_for_nan() -> bool:
    """Whether JAX stops at the operation that makes a NaN or an infinity, and says where that is."""
    return config.debug_nans.value or config.debug_infs.value


def frames(equation=None) -> list[RawFrame]:
    """Get the stack of the operation that is running now, innermost first.

    An operation of a traced function, as the body of a `jit` or a loop, has the frames of that function alone, as it
    was traced.

    Args:
      equation: of a jaxpr, to ask for its stack instead.
    """
    info = source_info_util.current() if equation is None else equation.source_info
    return _frames_of(info.traceback)


def python_frames() -> list[RawFrame]:
    """Get the stack of Python itself: of a function of JAX's that is written out, the lines that call it."""
    return _frames_of(_python_traceback())


def _frames_of(traceback) -> list[RawFrame]:
    return (
        []
        if traceback is None
        else [
            RawFrame(frame.file_name, frame.line_num, frame.function_name, is_hidden(frame.file_name))
            for frame in traceback.frames
        ]
    )


def _python_traceback():
    return source_info_util.Traceback.get_traceback()


def in_function(function: str) -> str:
    """Write the function of a line behind it, " (attention)", without those around it; nothing for a module's line."""
    named = [part for part in function.split(".<locals>.") if not part.startswith("<")]
    return f" ({named[-1]})" if named else ""


def where_written(function: Callable) -> str:
    """Say where a function is written: its name, file and line, as `program_source` says it of a program."""
    return api_util.fun_sourceinfo(function)


def program_source(program, num_args: int | None = None) -> str | None:
    """Say which function a program was traced from; None if it was derived from one.

    It may have been batched since. What was derived otherwise, as a JVP, a linear part or a program with checks,
    computes something else: JAX keeps the function's name there, but not the names of as many arguments.

    Args:
      program: closed jaxpr, or a function that JAX hands over.
      num_args: how many arguments such a function takes here.
    """
    info = getattr(program, "jaxpr", program).debug_info
    if not info or not info.arg_names or not all(info.arg_names):
        return None
    taken = len(program.in_avals) if num_args is None else num_args
    return info.func_src_info if len(info.arg_names) == taken else None


def program_file(program) -> str | None:
    """Find the file of the function that a closed jaxpr comes from, as JAX notes it; None where it notes none."""
    info = program.jaxpr.debug_info.func_src_info or ""
    _, at, place = info.rpartition(" at ")
    return place.rpartition(":")[0] if at else None


@weakref_lru_cache
def has_user_lines(program) -> bool:
    """Whether the operations of a closed jaxpr, if any, come from lines of the user's, as those of JAX's own do not."""
    return any(not frame.hidden for equation in program.jaxpr.eqns[:1] for frame in frames(equation))


def at_last_line(program):
    """Make a context in which the program is at the line of a closed jaxpr's last operation."""
    return source_info_util.user_context(next((eqn.source_info.traceback for eqn in program.jaxpr.eqns[-1:]), None))


def runs_in(code: CodeType) -> bool:
    """Whether the operation that is running now is part of a call of the function with this code."""
    traceback = source_info_util.current().traceback
    return traceback is not None and code in traceback.raw_frames()[0]


def is_backward(equation) -> bool:
    """Whether an equation of a jaxpr belongs to a reverse pass that kept its sources."""
    return any(_is_reverse(entry) for entry in equation.source_info.name_stack.stack)


def _is_reverse(entry) -> bool:
    return isinstance(entry, source_info_util.Transform) and entry.name == "transpose"


def scopes() -> tuple[str, ...]:
    """Get the names of the scopes (`jax.named_scope`, modules) around the operation that is running now.

    Operations of a reverse pass stand in the scope of the operation that they differentiate, after "backward".
    """
    stack = source_info_util.current_name_stack().stack
    names = tuple(entry.name for entry in stack if isinstance(entry, source_info_util.Scope))
    reverse = any(map(_is_reverse, stack))
    return ("backward", *names) if reverse and names[:1] != ("backward",) else names


def as_path(scopes: Iterable[str]) -> str:
    """Write names of scopes as a path, "MLP/Dense_1"."""
    return "/".join(name for name in scopes if not name.startswith(_CLASSES))


def same_source() -> Callable:
    """Remember where the program is: its source line, its scopes, and its mesh.

    Returns:
      Makes a context manager that sets them again, for the operation's reverse pass; the scope is then "backward" and
      the operation's.
    """
    mesh = same_context() or nullcontext
    traceback = source_info_util.current().traceback
    if all(frame.hidden for frame in _frames_of(traceback)):
        traceback = _python_traceback()
    around = source_info_util.current_name_stack().stack
    stack = source_info_util.NameStack((source_info_util.Transform("transpose"), *around))

    @contextmanager
    def restore():
        with source_info_util.user_context(traceback, name_stack=stack), mesh():
            yield

    return restore
