"""A recording as one web page, which needs nothing else: no network, no other file."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprog._util.files import write_text
from diffprog._util.html_page import fill, html_page, read_asset, script_json
from diffprog.graph._draw.grouping import BUDGET
from diffprog.graph._draw.page_data import page_data

if TYPE_CHECKING:
    from diffprog.graph._recording.recording import Recording

SCRIPTS = ("coordinates.js", "layout.js", "scene.js", "view.js", "panel.js", "walk.js", "main.js")


def html(
    recording: "Recording",
    path: str | Path | None = None,
    *,
    open: str | int | list[str] | None = None,
    budget: int = BUDGET,
    everything: bool = False,
    step_size: float | None = None,
    update: str | list[str] = "*",
    credit: Mapping[Any, float] | None = None,
) -> str | Path:
    """Write a page to explore a recording, and to walk through one iteration of backpropagation.

    One can pan, zoom, fold groups, search, and look at the numbers of each node.

    Args:
        recording: A `Recording`, before or after `backward`.
        path: The file to write, whole or not at all; None returns the text.
        open: Groups that are open at first, as in `svg`.
        budget: Number of boxes up to which groups are opened at first, as in `svg`.
        everything: Whether also plain numbers, and results that go nowhere, are drawn.
        step_size: Of the update at the end of the walk, value - step_size * gradient; None for no update.
        update: Which inputs are updated: a glob for their labels ("params*"), or several.
        credit: Numbers of nodes and edges that are drawn in place of the sizes of gradients, as in `svg`.

    Returns:
        The text, or the path that was written.

    Raises:
        ValueError: For a glob that matches no group, or no input, and for credit of another recording.
    """
    package = "diffprog.graph._draw"
    data = page_data(recording, open, budget, everything, step_size, update, credit)
    title = f"{recording.function}: {len(recording.nodes)} nodes"
    text = html_page(
        title,
        fill(read_asset(package, "page.html"), title=escape(title), data=script_json(data)),
        style=read_asset(package, "drawing.css", "page.css"),
        script=read_asset(package, *SCRIPTS),
    )
    return text if path is None else write_text(path, text)


def embedded(recording: "Recording", height: int = 560, **options: Any) -> str:
    """Put the page in a frame, for a notebook's cell. Its scripts see nothing of the notebook.

    Args:
        recording: A `Recording`.
        height: Of the frame, in pixels.
        **options: Options of `html`.

    Returns:
        An <iframe>.
    """
    page = escape(str(html(recording, **options)))
    look = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:8px"
    return (
        f'<iframe sandbox="allow-scripts" style="{look}" title="{escape(recording.function)}" srcdoc="{page}"></iframe>'
    )
