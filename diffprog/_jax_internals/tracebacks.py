"""Whose code a line is. Importing this hides the files of diffprog's engine from tracebacks and source lines."""

import pathlib

from jax._src import source_info_util, traceback_util

hides_engine = traceback_util.api_boundary
"""Makes a function whose errors have a traceback without the frames of JAX and diffprog, as `jax_traceback_filtering`
says, and a note of it."""

_PACKAGE = pathlib.Path(__file__).parents[1]
_ENGINE = ("attribute", "diagnosis", "graph", "_jax_internals", "_kernels", "_rules", "_tracer", "_transforms", "_util")

for _folder in (_PACKAGE / name for name in _ENGINE):
    source_info_util.register_exclusion(str(_folder))
    for _file in _folder.rglob("*.py"):
        traceback_util.register_exclusion(str(_file))


def user_line() -> str | None:
    """`file:line (function)` of the user's code that is running now; in a library's staged function, of its caller."""
    info = source_info_util.current()
    python = source_info_util.Traceback.get_traceback()
    return source_info_util.summarize(info) or source_info_util.summarize(info.replace(traceback=python)) or None
