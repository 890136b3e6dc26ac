"""The page that an explanation becomes."""

from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jax

from diffprog._util.html_page import fill, html_page, read_asset, script_json
from diffprog.optimize._page.verdicts import verdicts

if TYPE_CHECKING:
    from diffprog.optimize._page.explain import Explained

PACKAGE = "diffprog.optimize._page"
SCRIPTS = ("math.js", "failures.js", "plot.js", "descent.js", "families.js", "noise.js", "main.js")


def page_text(functions: "Sequence[Explained]") -> str:
    """Write the page of several functions; it opens with the first."""
    own = [explained.title for explained in functions if explained.grid is not None]
    title = f"Why it works: optimizing {own[0]}" if own else "Why it works: optimizing functions of two numbers"
    machine = f"{jax.default_backend().upper()} with JAX {version('jax')}"
    judged = verdicts() if len(own) < len(functions) else {}  # they take seconds: not for a page of one function
    data = {"objectives": [_data(explained) for explained in functions], "machine": machine, "verdicts": judged}
    about = (
        f"Made by diffprog {version('diffprog')}, {machine}. The page needs no network. Colors: Okabe & Ito; cividis."
    )
    body = fill(read_asset(PACKAGE, "page.html"), title=escape(title), about=escape(about), data=script_json(data))
    return html_page(title, body, style=read_asset(PACKAGE, "page.css"), script=read_asset(PACKAGE, *SCRIPTS))


def _data(explained: "Explained") -> dict[str, Any]:
    grid = None if explained.grid is None else explained.grid.data()
    return {**explained.numbers(), "grid": grid, "own": explained.grid is not None}
