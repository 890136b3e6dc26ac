"""The report as one page, which needs nothing else: no network, no other file, no program."""

from html import escape

import numpy as np

from diffprog._util.html_page import embed_picture, fill, html_page, read_asset
from diffprog.attribute._draw.colors import scale_of
from diffprog.attribute._draw.maps import blurred, over
from diffprog.attribute._evaluation.report.curves import curve_figures
from diffprog.attribute._evaluation.report.table import COSTS, average_text, headline, heads, notes, rows
from diffprog.attribute._evaluation.results import AttributionEvaluation, Average
from diffprog.images import to_bytes

PACKAGE = "diffprog.attribute._evaluation.report"
BLUR = 1 / 112  # deviation, as a part of the longer side: neighbors of opposite signs add up, and sums stay
SIDE = 224  # pixels of a picture's longer side, at most


def report_page(evaluation: AttributionEvaluation, title: str = "Attribution") -> str:
    """Write the report's page."""
    body = fill(
        read_asset(PACKAGE, "page.html"),
        title=escape(title),
        about=escape(_about(evaluation)),
        headline=escape(headline(evaluation)),
        table=_table(evaluation),
        notes=escape(notes(evaluation)),
        curves=curve_figures(evaluation),
        maps=_maps(evaluation),
        settings=_settings(evaluation),
    )
    return html_page(title, body, style=read_asset(PACKAGE, "page.css"))


def _about(evaluation: AttributionEvaluation) -> str:
    made_with = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    return f"{len(evaluation.methods)} methods, {len(evaluation.measures)} measures; {made_with}"


def _table(evaluation: AttributionEvaluation) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ["method", *heads(evaluation), *COSTS])
    body = []
    for row in rows(evaluation):
        cells = "".join(
            f'<td class="measure{" best" if is_best else ""}">{escape(text)}</td>'
            for text, is_best in zip(row.measures, row.are_best, strict=True)
        )
        cells += "".join(f"<td>{escape(text) or '-'}</td>" for text in row.costs)
        body.append(f'<tr><th scope="row">{escape(row.name)}</th>{cells}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _maps(evaluation: AttributionEvaluation) -> str:
    """Show the first images, each with the maps of all methods beside it."""
    if evaluation.images.ndim != 4 or evaluation.images.shape[-1] not in (1, 3) or not len(evaluation.images):
        return '<p class="calm">There are no pictures to show.</p>'
    return "".join(_image(evaluation, number) for number in range(len(evaluation.images)))


def _image(evaluation: AttributionEvaluation, number: int) -> str:
    image = evaluation.images[number]
    label, prediction = int(evaluation.labels[number]), int(evaluation.predictions[number])
    name = evaluation.class_name(label)
    facts = f"image {number}, explained: {name}"
    if prediction >= 0:
        facts += f" (probability {evaluation.probabilities[number]:.2f})"
        facts += "" if prediction == label else f"; the model's answer: {evaluation.class_name(prediction)}"
    figures = [_figure(to_bytes(_rgb(image)), name, "the picture", "")]
    for method, record in evaluation.methods.items():
        if record.maps.shape[1:] == (0, 0):
            figures.append(f"<figure><figcaption><b>{escape(method)}</b> no map of a picture</figcaption></figure>")
            continue
        values = blurred(record.maps[number].astype(np.float64), BLUR * max(record.maps.shape[1:]))
        shown = to_bytes(over(image, values, scale_of(values)))
        figures.append(_figure(shown, f"{method} for {name}", method, _values(evaluation, method, number)))
    return f'<li><p class="facts">{escape(facts)}</p><div class="sheet">{"".join(figures)}</div></li>'


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _figure(pixels: np.ndarray, alt: str, caption: str, facts: str) -> str:
    few = max(pixels.shape[:2]) <= SIDE // 2
    picture = embed_picture(pixels, SIDE, jpeg_quality=None if few else 85)
    tag = picture.tag(alt, 'class="crisp"' if few else "")
    return f"<figure>{tag}<figcaption><b>{escape(caption)}</b> {escape(facts)}</figcaption></figure>"


def _values(evaluation: AttributionEvaluation, method: str, number: int) -> str:
    """List what the measures say of one map."""
    found = []
    for measure, measured in evaluation.methods[method].measured.items():
        value = average_text(Average(float(measured.value[number]), float("nan"), 0))
        found.append(f"{measure} {value}")
    return ", ".join(found)


def _settings(evaluation: AttributionEvaluation) -> str:
    """List functions and arguments of methods and measures, and the evaluation's own arguments."""
    arguments = lambda values: ", ".join(f"{name}={value}" for name, value in values.items())
    texts = {}
    for kind in ("methods", "measures"):
        for name, each in evaluation.settings[kind].items():
            texts[name] = f"{each['function']}({arguments(each['arguments'])})"
    texts |= {name: str(value) for name, value in evaluation.settings.items() if name not in ("methods", "measures")}
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in texts.items())
