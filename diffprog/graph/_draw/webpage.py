"""A recording as one web page, which needs nothing else: no network, no other file."""

import json
from html import escape
from importlib.resources import files
from pathlib import Path

from diffprog._util.files import write_text
from diffprog.graph._draw.grouping import BUDGET
from diffprog.graph._draw.page_data import page_data

STYLES = ("drawing.css", "page.css")
SCRIPTS = ("coordinates.js", "layout.js", "scene.js", "view.js", "panel.js", "walk.js", "main.js")


def html(
    recording,
    path=None,
    *,
    open=None,
    budget: int = BUDGET,
    everything: bool = False,
    step_size: float | None = None,
    update: str | list[str] = "*",
) -> str | Path:
    """A page to walk through a recording: pan, zoom, fold, search, a panel for each node, and one iteration of
    backpropagation step by step.

    Args:
      recording: a `Recording`, before or after `backward`.
      path: the file to write, whole or not at all; None returns the text.
      open, budget, everything: what is open at first, as in `svg`.
      step_size: of the update at the end of the walk, value - step_size * gradient; None for no update.
      update: which inputs are updated: a glob for their labels ("params*"), or several.

    Returns:
      the text, or the path that was written.

    Raises ValueError for a glob that matches no group, or no input.
    """
    data = page_data(recording, open, budget, everything, step_size, update)
    title = f"{recording.function}: {len(recording.nodes)} nodes"
    parts = {
        "{title}": escape(title),
        "{style}": "\n".join(_read(name) for name in STYLES),
        "{data}": script_json(data),
        "{code}": "\n".join(_read(name) for name in SCRIPTS),
    }
    page = _read("page.html")
    pieces = []
    while page:  # once through the template: what is filled in is never searched
        found = min(((page.find(name), name) for name in parts if name in page), default=None)
        if found is None:
            break
        start, name = found
        pieces += [page[:start], parts[name]]
        page = page[start + len(name) :]
    text = "".join([*pieces, page])
    return text if path is None else write_text(path, text)


def embedded(recording, height: int = 560, **options) -> str:
    """The page in a frame, for a notebook's cell; `options` as in `html`. Its scripts see nothing of the notebook."""
    page = escape(html(recording, **options))
    look = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:8px"
    return (
        f'<iframe sandbox="allow-scripts" style="{look}" title="{escape(recording.function)}" srcdoc="{page}"></iframe>'
    )


def script_json(data) -> str:
    """JSON that nothing in it can end the <script> around, and that is JavaScript too."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _read(name: str) -> str:
    return (files("diffprog.graph._draw") / "page" / name).read_text(encoding="utf-8")
