"""From stack frames to the user's line."""

from pathlib import Path

from diffprog._jax_internals.sources import frames, is_installed, python_frames
from diffprog.graph._recording.nodes import Frame, Source

# Frames outside of these called `record` or `backward_source`.
_GRAPH = Path(__file__).parents[1]
_STARTS = {str(_GRAPH / "_recording" / "record.py"), str(_GRAPH / "_explain" / "backward_source.py")}
_SAMPLERS = "/jax/_src/random"


def current_source(call_site: Source | None) -> Source | None:
    """Find the user's line of the operation that is running now.

    Args:
      call_site: where the function under `jit`, or the loop, that the operation is in was called; None outside.
    """
    stack = frames()
    inside = _inside(stack)
    shown = _visible(stack[:inside])
    user_frames = _not_installed(shown)
    if call_site is not None:
        # A library's function under `jit`, as most of jax.numpy, shows as the line that calls it.
        if not user_frames or user_frames[0] == _frame(call_site):
            return call_site
        return _source([*user_frames, call_site, *call_site.callers])
    if not shown:
        stack = python_frames()
        inside = _inside(stack)
        shown = _visible(stack[:inside])
        user_frames = _not_installed(shown)
    return _source(user_frames or shown[:1] or _not_installed(_visible(stack[inside:]))[:1])


def source_of_equation(equation) -> Source | None:
    """Find the user's line of an equation of a jaxpr; None if it is a library's."""
    stack = frames(equation)
    return _source(_not_installed(_visible(stack[: _inside(stack)])))


def current_sampler() -> str | None:
    """Name the public function of `jax.random` in which an operation is running now: the outermost; None outside."""
    names = (frame.function for frame in reversed(frames()) if _SAMPLERS in frame.file.replace("\\", "/"))
    return next((name for name in names if not name.startswith("_")), None)


def _inside(stack) -> int:
    """Count the frames inside the function that is recorded."""
    return next((i for i, frame in enumerate(stack) if frame.file in _STARTS), len(stack))


def _visible(stack) -> list[Frame]:
    return [_frame(raw) for raw in stack if not raw.hidden]


def _not_installed(stack: list[Frame]) -> list[Frame]:
    return [frame for frame in stack if not is_installed(frame.file)]


def _frame(x) -> Frame:
    return Frame(x.file, x.line, x.function)


def _source(stack: list[Frame]) -> Source | None:
    if not stack:
        return None
    first, *callers = stack
    return Source(first.file, first.line, first.function, tuple(map(_frame, callers)))
