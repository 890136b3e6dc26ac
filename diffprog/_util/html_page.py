"""Web pages that need nothing else: no network, no other file. One skeleton, one base stylesheet, pictures inside."""

import base64
import io
import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


def html_page(title: str, body: str, *, style: str, script: str = "") -> str:
    """Write a whole page.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS, after the base stylesheet that all pages share.
        script: JavaScript, run in a function of its own.

    Returns:
        The page. Its policy lets a browser load nothing but what is in it.
    """
    if script:
        body = f'{body}\n<script>\n(() => {{\n"use strict";\n{script}\n}})();\n</script>'
    style = "\n".join([read_asset("diffprog._util", "base.css"), style])
    return fill(read_asset("diffprog._util", "page.html"), title=escape(title), style=style, body=body)


def fill(template: str, **parts: str) -> str:
    """Replace each $name of a template, in one pass: what is filled in is never searched."""
    return Template(template).substitute(parts)


def read_asset(package: str, *names: str) -> str:
    """Read files of a package's folder `page`, one after the other."""
    return "\n".join((files(package) / "page" / name).read_text(encoding="utf-8") for name in names)


def script_json(data: Any) -> str:
    """Write JSON that nothing in it can end the <script> around, and that is JavaScript too."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


class EmbeddedPicture(NamedTuple):
    """A picture as an address that contains it, and its size in pixels."""

    uri: str
    width: int
    height: int

    def tag(self, alt: str, attributes: str = "") -> str:
        """Write an <img>; `attributes` are further ones, as HTML."""
        size = f'width="{self.width}" height="{self.height}"'
        return f'<img src="{self.uri}" alt="{escape(alt)}" {size}{attributes and " " + attributes}>'


def embed_picture(pixels: np.ndarray, max_side: int | None = None, jpeg_quality: int | None = None) -> EmbeddedPicture:
    """Make a picture part of a page.

    Args:
        pixels: uint8 (height, width, 3), (height, width, 1) or (height, width).
        max_side: Longest side in pixels, to which larger pictures are scaled down; None keeps them.
        jpeg_quality: Up to 95, for a JPEG, which suits photographs; None for a PNG, which keeps every pixel.

    Returns:
        Its data URI and size.
    """
    picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    if max_side is not None and max(picture.size) > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS if jpeg_quality else Image.Resampling.BOX)
    file, kind = io.BytesIO(), "jpeg" if jpeg_quality else "png"
    options: dict[str, Any] = {"quality": jpeg_quality, "subsampling": 0} if jpeg_quality else {}
    picture.save(file, format=kind, optimize=True, **options)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return EmbeddedPicture(f"data:image/{kind};base64,{data}", *picture.size)
