"""A gallery as one page, which needs nothing else: no network, no other file."""

import base64
import io
import math
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from diffprog import images
from diffprog._util.files import write_text
from diffprog.visualize.gallery._cards import read_cards
from diffprog.visualize.gallery._curves import curves

THUMBNAIL = 112  # pixels: sides of natural examples on the page

MAIN = ("natural_ratio", "robust_ratio", "path_similarity")  # shown on small cards; of other scores, the first three
MEANINGS = {  # what is said of the scores that diffprog itself gives
    "activation": ("activation", "the objective's score of this picture"),
    "natural_maximum": ("natural maximum", "the highest score of any natural crop"),
    "natural_ratio": ("over natural maximum", "activation over the highest score of any natural crop"),
    "quantile": ("quantile", "the part of the natural crops that score at most as much"),
    "robust_ratio": ("robust", "mean score under fresh random transforms, over the activation: 1 is best"),
    "path_similarity": ("path", "likeness to natural examples through the layers: 1 is as alike as these are"),
    "slope": ("slope", "of the amplitude spectrum; natural photographs are near -1"),
    "natural_slope": ("natural slope", "the same for the natural crops"),
    "high_frequency": ("high frequency", "the part of the energy above 0.25 cycles per pixel"),
    "natural_high_frequency": ("natural high freq.", "the same for the natural crops"),
    "color_distance": ("color distance", "between the colors of picture and natural crops: 0 is best"),
    "seed_stability": ("seeds", "likeness of pictures from other random keys: 1 is the same motifs"),
    "steps": ("steps to natural", "updates until the score first reached the natural maximum"),
    "seconds": ("seconds to natural", "seconds until the score first reached the natural maximum"),
}


def write_gallery(folder, cards, *, title="Feature visualization", about=""):
    """Write `index.html` and `contact_sheet.png`, each whole or not at all; returns the path of the page.

    cards: at least one `Card`, no two of the same unit, shown in this order. about: a line under the title.
    """
    cards = list(cards)
    units = [card.unit for card in cards]
    if not cards or len(set(units)) < len(units):
        twice = next((unit for unit in units if units.count(unit) > 1), None)
        found = f"two of {twice!r}" if cards else "none"
        raise ValueError(f"a gallery needs a card for each unit, and one only; found {found}")
    page = Template(_read("page.html")).substitute(  # one pass: what is filled in is never searched
        title=escape(title),
        about=escape(about),
        style=_read("page.css"),
        code=_read("page.js"),
        sorts="".join(map(_option, dict.fromkeys(name for card in cards for name in _known(card)))),
        cards="\n".join(_card(card, number) for number, card in enumerate(cards)),
    )
    folder = Path(folder)
    cell = 224 if len(cards) <= 30 else 128 if len(cards) <= 300 else 64
    sheet = images.contact_sheet([card.picture for card in cards], units, cell=cell)
    images.save_png(folder / "contact_sheet.png", sheet)
    return write_text(folder / "index.html", page)


def gallery_from(folder, *, title="Feature visualization", about=""):
    """The gallery of the cards that a folder holds (`read_cards`), written into it; returns the path of the page."""
    return write_gallery(folder, read_cards(folder), title=title, about=about)


def _card(card, number):
    facts = {name: getattr(card, name) for name in ("layer", "channel", "recipe", "seed", "steps")}
    facts = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    words = " ".join([card.unit, card.caption, *(f"{name} {value}" for name, value in facts.items())])
    known = _known(card)
    sorts = " ".join(f'data-{_slug(name)}="{value}"' for name, value in known.items())
    main = [name for name in MAIN if name in known] or list(known)[:3]
    parts = [
        f'<button class="picture" aria-label="Enlarge {escape(card.unit)}">{_image(card.picture, card.unit)}</button>',
        f"<h2>{_breakable(card.unit)}</h2>",
        f'<p class="caption">{escape(card.caption)}</p>' if card.caption else "",
        _natural(card),
        curves(card),
        _table("scores", [(*_meaning(name), f"{value:.3g}", name in main) for name, value in known.items()]),
        _table("settings", [(name, "", value, False) for name, value in facts.items()]),
        _neighbors(card),
    ]
    return (
        f'<li class="card" data-number="{number}" data-unit="{escape(card.unit)}" data-words="{escape(words)}" '
        f"{sorts}>{''.join(parts)}</li>"
    )


def _known(card):
    return {name: value for name, value in card.scores.items() if not math.isnan(value)}


def _natural(card):
    shown = "".join(f"<li>{_image(picture, '', THUMBNAIL)}</li>" for picture in card.natural)
    return f'<h3>Natural examples</h3><ol class="natural">{shown}</ol>' if shown else ""


def _neighbors(card):
    button = lambda unit: f'<li><button data-to="{escape(unit)}"><span>{_breakable(unit)}</span></button></li>'
    shown = "".join(map(button, card.neighbors))
    return f'<h3>Neighbors</h3><ul class="neighbors">{shown}</ul>' if shown else ""


def _table(kind, rows):
    """(label, meaning, text, whether it is a main one) as a list of definitions."""
    shown = "".join(
        f'<div title="{escape(meaning)}"{" class=main" if main else ""}><dt>{escape(label)}</dt>'
        f"<dd>{escape(text)}</dd></div>"
        for label, meaning, text, main in rows
    )
    return f'<h3>{kind.capitalize()}</h3><dl class="{kind}">{shown}</dl>' if shown else ""


def _option(name):
    return f'<option value="{_slug(name)}">{escape(_meaning(name)[0])}</option>'


def _meaning(name):
    """A score's label, and what it says if it is one of ours."""
    return MEANINGS.get(name, (name, ""))


def _slug(name):
    """A score's name as an attribute's: letters of its bytes, so that no two names share one."""
    return "s" + name.encode().hex()


def _breakable(unit):
    """The name, which may be broken after its points and colons."""
    return escape(unit).replace(".", ".<wbr>").replace(":", ":<wbr>")


def _image(picture, alt, most=None):
    """An <img> with the picture in it, as a JPEG that the eye takes for the original; none larger than `most`."""
    image = Image.fromarray(images.to_bytes(np.asarray(picture)))
    if most is not None:
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=92 if most is None else 85, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" width="{image.width}" '
        f'height="{image.height}" loading="lazy" decoding="async">'
    )


def _read(name):
    return (files("diffprog.visualize.gallery") / "page" / name).read_text(encoding="utf-8")
