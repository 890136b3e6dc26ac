"""A gallery as one page, which needs nothing else, and as a contact sheet."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from diffprog import images
from diffprog._util.files import write_text
from diffprog._util.html_page import embed_picture, fill, html_page, read_asset
from diffprog.visualize.gallery._cards import Card, read_cards

THUMBNAIL = 112  # pixels: sides of dataset examples on the page
WIDTH, HEIGHT = 300, 72  # units of the drawing of a history, which is stretched to its place
POINTS = 150  # at most, of each curve

MAIN = ("natural_ratio", "robust_ratio", "path_similarity")  # shown on small cards; if a card has none, its first three
MEANINGS = {  # label and explanation of the scores that diffprog itself gives
    "activation": ("activation", "the objective's score of this picture"),
    "natural_maximum": ("natural maximum", "the highest score of any natural crop"),
    "natural_ratio": ("over natural maximum", "activation over the highest score of any natural crop"),
    "quantile": ("quantile", "the part of the natural crops that score at most as much"),
    "robust_ratio": ("robust", "mean score under fresh random transforms, over the activation: 1 is best"),
    "path_similarity": ("path", "likeness to dataset examples through the layers: 1 is as alike as these are"),
    "slope": ("slope", "of the amplitude spectrum; natural photographs are near -1"),
    "natural_slope": ("natural slope", "mean over the natural crops"),
    "high_frequency": ("high frequency", "the part of the energy above 0.25 cycles per pixel"),
    "natural_high_frequency": ("natural high freq.", "mean over the natural crops"),
    "color_distance": ("color distance", "between the colors of picture and natural crops: 0 is best"),
    "seed_stability": ("seeds", "likeness of pictures from other random keys: 1 is the same motifs"),
    "steps": ("steps to natural", "updates until the score first reached the natural maximum"),
    "seconds": ("seconds to natural", "seconds until the score first reached the natural maximum"),
}


def write_gallery(
    folder: str | Path, cards: Iterable[Card], *, title: str = "Feature visualization", about: str = ""
) -> Path:
    """Write the page `index.html` and the picture `contact_sheet.png`, each whole or not at all.

    Args:
        folder: Where they go.
        cards: At least one card, no two of one unit, in the order in which they are shown.
        title: Title of the page.
        about: A line under the title.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is no card, or if a unit has two.
    """
    cards = list(cards)
    units = [card.unit for card in cards]
    if not cards or len(set(units)) < len(units):
        twice = next((unit for unit in units if units.count(unit) > 1), None)
        problem = f"two of {twice!r}" if cards else "none"
        raise ValueError(f"a gallery needs a card for each unit, and one only; found {problem}")
    package = "diffprog.visualize.gallery"
    body = fill(
        read_asset(package, "page.html"),
        title=escape(title),
        about=escape(about),
        sorts="".join(map(_option, dict.fromkeys(name for card in cards for name in _known_scores(card)))),
        cards="\n".join(_card(card, index) for index, card in enumerate(cards)),
    )
    page = html_page(title, body, style=read_asset(package, "page.css"), script=read_asset(package, "page.js"))
    folder = Path(folder)
    cell = 224 if len(cards) <= 30 else 128 if len(cards) <= 300 else 64
    sheet = images.contact_sheet([card.picture for card in cards], units, cell=cell)
    images.save_png(folder / "contact_sheet.png", sheet)
    return write_text(folder / "index.html", page)


def gallery_from(folder: str | Path, *, title: str = "Feature visualization", about: str = "") -> Path:
    """Write the gallery of the cards in a folder into that folder.

    Args:
        folder: A folder of cards, as `render_all` and `save_card` write them.
        title: Title of the page.
        about: A line under the title.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is no card, or a file is none; see `read_cards`.
    """
    return write_gallery(folder, read_cards(folder), title=title, about=about)


def _card(card: Card, index: int) -> str:
    """Write the <li> of a card, which also holds what is shown only when it is enlarged."""
    facts = {name: getattr(card, name) for name in ("layer", "channel", "recipe", "seed", "steps")}
    facts = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    words = " ".join([card.unit, card.caption, *(f"{name} {value}" for name, value in facts.items())])
    known = _known_scores(card)
    sorts = " ".join(f'data-{_slug(name)}="{value}"' for name, value in known.items())
    main = [name for name in MAIN if name in known] or list(known)[:3]
    picture = _image(card.picture, card.unit)
    parts = [
        f'<button class="picture" aria-label="Enlarge {escape(card.unit)}">{picture}</button>',
        f"<h2>{_breakable(card.unit)}</h2>",
        f'<p class="caption">{escape(card.caption)}</p>' if card.caption else "",
        _examples(card),
        history_curves(card),
        _definitions("scores", [(*_meaning(name), f"{value:.3g}", name in main) for name, value in known.items()]),
        _definitions("settings", [(name, "", value, False) for name, value in facts.items()]),
        _neighbors(card),
    ]
    return (
        f'<li class="card" data-number="{index}" data-unit="{escape(card.unit)}" data-words="{escape(words)}" '
        f"{sorts}>{''.join(parts)}</li>"
    )


def _known_scores(card: Card) -> dict[str, float]:
    """Leave out the scores that are not known."""
    return {name: value for name, value in card.scores.items() if not math.isnan(value)}


def _examples(card: Card) -> str:
    """Show the dataset examples, small."""
    shown = "".join(f"<li>{_image(picture, '', THUMBNAIL)}</li>" for picture in card.dataset_examples)
    return f'<h3>Dataset examples</h3><ol class="examples">{shown}</ol>' if shown else ""


def _neighbors(card: Card) -> str:
    """Link the units that are most alike."""
    button = lambda unit: f'<li><button data-to="{escape(unit)}"><span>{_breakable(unit)}</span></button></li>'
    shown = "".join(map(button, card.neighbors))
    return f'<h3>Neighbors</h3><ul class="neighbors">{shown}</ul>' if shown else ""


def _definitions(kind: str, rows: Sequence[tuple[str, str, str, bool]]) -> str:
    """Write rows (label, meaning, text, whether it is a main one) as a list of definitions."""
    shown = "".join(
        f'<div title="{escape(meaning)}"{" class=main" if main else ""}><dt>{escape(label)}</dt>'
        f"<dd>{escape(text)}</dd></div>"
        for label, meaning, text, main in rows
    )
    return f'<h3>{kind.capitalize()}</h3><dl class="{kind}">{shown}</dl>' if shown else ""


def _option(name: str) -> str:
    """Write the choice to sort by a score."""
    return f'<option value="{_slug(name)}">{escape(_meaning(name)[0])}</option>'


def _meaning(name: str) -> tuple[str, str]:
    """Give a score's label, and its explanation if it is one of diffprog."""
    return MEANINGS.get(name, (name, ""))


def _slug(name: str) -> str:
    """Turn a score's name into an attribute's: letters of its bytes, so that no two names share one."""
    return "s" + name.encode().hex()


def _breakable(unit: str) -> str:
    """Let a browser break the name after its points and colons."""
    return escape(unit).replace(".", ".<wbr>").replace(":", ":<wbr>")


def _image(picture: np.ndarray, alt: str, max_side: int | None = None) -> str:
    """Write an <img> with the picture in it, as a JPEG that the eye takes for the original."""
    pixels = images.to_bytes(images.to_rgb(picture))
    embedded = embed_picture(pixels, max_side, jpeg_quality=92 if max_side is None else 85)
    return embedded.tag(alt, 'loading="lazy" decoding="async"')


def history_curves(card: Card) -> str:
    """Draw the objective over the steps.

    Args:
        card: A card.

    Returns:
        A <figure> with a line for the objective, one for each of its terms, and the natural maximum dashed; "" without
        a history.
    """
    histories = {"objective": card.history, **card.term_histories} if len(card.history) else {}
    lines = {name: np.asarray(values, float) for name, values in histories.items()}
    lines = {name: values for name, values in lines.items() if np.any(np.isfinite(values))}
    if not lines:
        return ""
    level = card.scores.get("natural_maximum", math.nan)
    known = np.concatenate([*lines.values(), [level]])
    low, high = np.nanmin(known[np.isfinite(known)]), np.nanmax(known[np.isfinite(known)])
    y_of = lambda value: round(float(HEIGHT - 3 - (HEIGHT - 6) * (value - low) / ((high - low) or 1)), 1)
    drawn = [f'<path class="level" d="M0 {y_of(level):g}H{WIDTH}"/>'] if math.isfinite(level) else []
    drawn += [f'<path class="line l{index}" d="{_path(values, y_of)}"/>' for index, values in enumerate(lines.values())]
    names = [f'<span class="l{index}">{escape(name)}</span>' for index, name in enumerate(lines)]
    names += ['<span class="level">natural maximum</span>'] if math.isfinite(level) else []
    label = f"objective over {len(card.history)} steps, from {card.history[0]:.3g} to {card.history[-1]:.3g}"
    return (
        f'<h3>History</h3><figure class="history"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(reversed(drawn))}</svg><figcaption><span>{len(card.history)} '
        f"steps, {low:.3g} to {high:.3g}</span>{''.join(names)}</figcaption></figure>"
    )


def _path(values: np.ndarray, y_of: Callable[[float], float]) -> str:
    """Draw a line through at most `POINTS` of the values, interrupted where one is not known."""
    chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    step = WIDTH / max(len(values) - 1, 1)
    text, pen = [], "M"
    for index in chosen:
        if math.isfinite(values[index]):
            text.append(f"{pen}{round(float(index * step), 1):g} {y_of(values[index]):g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(text)
