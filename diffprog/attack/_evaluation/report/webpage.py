"""The report as one page, which needs nothing else: no network, no other file, no program."""

from html import escape
from typing import Any

import numpy as np

from diffprog._util.html_page import embed_picture, fill, html_page, read_asset
from diffprog.attack._evaluation.report.curves import svg
from diffprog.attack._evaluation.report.table import MEASURES, budget_texts, norm_text, notes, percent, rows, size_text
from diffprog.attack._evaluation.results import Evaluation, WorstCase

PACKAGE = "diffprog.attack._evaluation.report"
OUTCOMES = {"misclassified": "wrong before", "success": "broken", "nonfinite": "not finite", "failure": "withstood"}
SIDE = 224  # pixels of a picture's longer side, at most; smaller ones are enlarged by whole numbers


def report_page(evaluation: Evaluation, title: str = "Robustness") -> str:
    """Write the report's page."""
    body = fill(
        read_asset(PACKAGE, "page.html"),
        title=escape(title),
        figures=_figures(evaluation),
        curves=svg(evaluation),
        legend=_legend(evaluation),
        warnings=_warnings(evaluation),
        table=_table(evaluation),
        notes=escape(notes(evaluation)),
        groups=_groups(evaluation),
        worst_cases=_worst_cases(evaluation),
        settings=_settings(evaluation),
        about=escape(_about(evaluation)),
    )
    return html_page(title, body, style=read_asset(PACKAGE, "page.css"))


def _about(evaluation: Evaluation) -> str:
    images, attacks = len(evaluation.labels), len(evaluation.records)
    made_with = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    return (
        f"{images:,} image{'s' * (images != 1)}, {attacks} attack{'s' * (attacks != 1)}, budgets in "
        f"{norm_text(evaluation.norm)}; {made_with}"
    )


def _figures(evaluation: Evaluation) -> str:
    """Show the clean accuracy and the worst case at each budget."""
    shown = [("without an attack", evaluation.clean_accuracy)]
    worst = zip(budget_texts(evaluation), evaluation.robust_accuracy(), strict=True)
    shown += [(f"at {text}", float(value)) for text, value in worst]
    return "".join(
        f"<li><strong>{percent(value)}<small>%</small></strong><span>{escape(name)}</span></li>"
        for name, value in shown
    )


def _legend(evaluation: Evaluation) -> str:
    lines = [(name, f"c{index % 8}") for index, name in enumerate(evaluation.records)] + [("worst case", "worst")]
    return "".join(f'<li class="{style}">{escape(name)}</li>' for name, style in lines)


def _warnings(evaluation: Evaluation) -> str:
    if not evaluation.warnings:
        return '<p class="calm">No check found anything to warn of.</p>'
    items = "".join(
        f"<li><code>{escape(warning.code)}</code><p>{escape(warning.message)}</p></li>"
        for warning in evaluation.warnings
    )
    return f'<ul class="warnings">{items}</ul>'


def _table(evaluation: Evaluation) -> str:
    heads = ["attack", *budget_texts(evaluation), *MEASURES]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = []
    for row in rows(evaluation):
        cells = "".join(f'<td class="accuracy">{text}</td>' for text in row.accuracies)
        cells += "".join(f"<td>{text}</td>" for text in row.measures)
        body.append(f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _groups(evaluation: Evaluation) -> str:
    """Show, for each attack, the outcomes of all images at the largest budget, as a bar with its numbers."""
    bars = []
    for name in evaluation.records:
        counts = {group: per_budget[-1] for group, per_budget in evaluation.counts(name).items() if per_budget[-1]}
        parts = "".join(f'<i class="{group}" style="flex-grow:{count}"></i>' for group, count in counts.items())
        words = ", ".join(f"{count:,} {OUTCOMES[group]}" for group, count in counts.items())
        bar = f'<span class="bar" aria-hidden="true">{parts}</span>'
        bars.append(f"<li><b>{escape(name)}</b>{bar}<span>{words}</span></li>")
    return "".join(bars)


def _worst_cases(evaluation: Evaluation) -> str:
    if not evaluation.worst_cases:
        return '<p class="calm">No image was broken.</p>'
    cards = "".join(_card(evaluation, case) for case in evaluation.worst_cases)
    return f'<ol class="worst-cases">{cards}</ol>'


def _card(evaluation: Evaluation, case: WorstCase) -> str:
    shown = "".join(
        f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in _triple(case, evaluation.bounds)
    )
    label, prediction = (escape(evaluation.class_name(index)) for index in (case.label, case.prediction))
    return (
        f'<li><p class="verdict"><b>{label}</b> becomes <b class="prediction">{prediction}</b></p>'
        f'<div class="triple">{shown}</div><p class="facts">image {case.image_id}, {norm_text(evaluation.norm)} '
        f"{size_text(case.size)}, {escape(case.attack)}</p></li>"
    )


def _triple(case: WorstCase, bounds: tuple[float, float]) -> list[tuple[str, str]]:
    """Show the original, the perturbation and the result as (caption, <img>); none if the image is no picture.

    The perturbation is shown around middle gray, magnified until its largest element is white or black.
    """
    low, high = bounds
    if not np.isfinite([low, high]).all():
        return []
    original, adversarial = (as_picture((image - low) / (high - low)) for image in (case.original, case.adversarial))
    if original is None or adversarial is None:
        return []
    change = adversarial.astype(np.float64) - original
    largest = np.abs(change).max()
    factor = 0.5 / largest if largest > 0 else 1.0
    times = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return [
        ("original", _image(original, "original")),
        (f"change \N{MULTIPLICATION SIGN} {times}", _image(0.5 + change * factor, "perturbation, magnified")),
        ("adversarial", _image(adversarial, "adversarial")),
    ]


def as_picture(image: np.ndarray) -> np.ndarray | None:
    """Take an array for a picture [height, width, 1 or 3]; None if it is none.

    Channels may come first, and a row of a square number of elements is taken for a square.
    """
    image = np.asarray(image)
    side = round(image.size**0.5)
    if image.ndim == 1 and side >= 4 and side * side == image.size:
        image = image.reshape(side, side)
    if image.ndim == 2:
        return image[..., None]
    if image.ndim == 3 and image.shape[-1] not in (1, 3) and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    return image if image.ndim == 3 and image.shape[-1] in (1, 3) else None


def _image(picture: np.ndarray, alt: str) -> str:
    """Write an <img> with the picture in it, whose pixels stay sharp if they are few."""
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return embed_picture(pixels, SIDE).tag(alt, 'class="crisp"' if max(pixels.shape[:2]) <= SIDE // 2 else "")


def _settings(evaluation: Evaluation) -> str:
    """List the function and the arguments of each attack, and the evaluation's own arguments."""
    arguments = lambda values: ", ".join(f"{name}={_value_text(value)}" for name, value in values.items())
    texts = {
        name: f"{attack['function']}({arguments(attack['arguments'])})"
        for name, attack in evaluation.settings["attacks"].items()
    }
    texts |= {name: _value_text(value) for name, value in evaluation.settings.items() if name != "attacks"}
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in texts.items())


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
