"""`Drawn`: a drawing of text, for a terminal, a notebook and a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from diffprog._util.files import write_text
from diffprog._util.html_page import html_page, read_asset
from diffprog.attribute._draw.colors import Scale, colored, hex_color, number

DARK = 0.5  # of the limit: beyond it, text is white
HALF = 10  # characters of a bar on either side of zero


@dataclass(frozen=True)
class Drawn:
    """Credit of words, rows or lines, drawn.

    Attributes:
      title: what it shows.
      text: for a terminal.
      body: HTML, with everything that people wrote escaped.
    """

    title: str
    text: str
    body: str

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<style>{_style()}</style>{self.html}"

    @property
    def html(self) -> str:
        """The HTML of the drawing alone, for a page that has its style."""
        return f'<section class="credit"><h1>{escape(self.title)}</h1>{self.body}</section>'

    def page(self) -> str:
        """Write a page that needs nothing else, for light and dark screens.

        Returns:
          HTML.
        """
        return html_page(self.title, self.html, style=_style())

    def save(self, path: str | Path) -> Path:
        """Write the page into a file, whole or not at all.

        Args:
          path: the file.

        Returns:
          The path.
        """
        return write_text(path, self.page())


def _style():
    return read_asset("diffprog.attribute._draw", "drawn.css")


def look(value: float, scale: Scale) -> str:
    """Write the attributes of an element that has the color of a number, and text that can be read on it."""
    strong = abs(value) > DARK * scale.limit or np.isnan(value)
    return f'class="{"dark" if strong else "light"}" style="background:{hex_color(value, scale)}"'


def ansi(text: str, value: float, scale: Scale) -> str:
    """Color a text for a terminal of 16 million colors."""
    red, green, blue = (round(255 * float(part)) for part in colored(np.asarray(value), scale))
    ink = "255;255;255" if abs(value) > DARK * scale.limit else "29;28;26"
    return f"\x1b[48;2;{red};{green};{blue}m\x1b[38;2;{ink}m{text}\x1b[0m"


def bar_text(value: float, scale: Scale) -> str:
    """Draw a bar from zero in the middle by characters."""
    part = 0.0 if np.isnan(value) else float(np.clip(value / scale.limit, -1, 1))
    filled = "\N{FULL BLOCK}" * max(round(abs(part) * HALF), 1 if part else 0)
    middle = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    return f"{filled if part < 0 else '':>{HALF}}{middle}{filled if part > 0 else '':<{HALF}}"


def bar_cell(value: float, scale: Scale) -> str:
    """Draw a bar from zero in the middle, as a cell of a table."""
    part = 0.0 if np.isnan(value) else float(np.clip(value / scale.limit, -1, 1))
    # Of medium strength: to be seen on light and on dark ground.
    color = hex_color(0.55 * np.sign(part) * scale.limit, scale)
    left = 50 + 50 * min(part, 0)
    box = f'<rect x="{left:.2f}" y="1.5" width="{50 * abs(part):.2f}" height="9" fill="{color}"/>' if part else ""
    zero = '<line x1="50" y1="0" x2="50" y2="12" stroke-width="1" vector-effect="non-scaling-stroke"/>'
    opening = '<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
    return f'<td class="bar">{opening}{box}{zero}</svg></td>'


def legend_html(scale: Scale) -> str:
    """Write a line that says what colors mean."""
    stops = ", ".join(hex_color(part * scale.limit, scale) for part in np.linspace(-1, 1, 9))
    strip = f'<span class="scale" style="background:linear-gradient(90deg, {stops})"></span>'
    return f"<p>against {number(-scale.limit)}{strip}{number(scale.limit)} for; white is zero</p>"


def note_lines(notes: Sequence[str]) -> str:
    """Write notes as paragraphs."""
    return "".join(f"<p>{escape(note)}</p>" for note in notes if note)
