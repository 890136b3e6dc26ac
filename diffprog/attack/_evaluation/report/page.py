"""The report as one page, which needs nothing else: no network, no other file, no program."""

from html import escape
from importlib.resources import files
from string import Template

from diffprog.attack._evaluation.report.curves import svg
from diffprog.attack._evaluation.report.pictures import triple
from diffprog.attack._evaluation.report.table import REST, budgets, norm_text, notes, percent, rows, size_text


def page(evaluation, title="Robustness") -> str:
    return Template(_read("page.html")).substitute(  # one pass: what is filled in is never searched
        title=escape(title),
        style=_read("page.css"),
        figures=_figures(evaluation),
        curves=svg(evaluation),
        legend=_legend(evaluation),
        cautions=_cautions(evaluation),
        table=_table(evaluation),
        notes=escape(notes(evaluation)),
        groups=_groups(evaluation),
        hardest=_hardest(evaluation),
        settings=_settings(evaluation),
        about=escape(_about(evaluation)),
    )


def _about(evaluation):
    count, attacks = len(evaluation.labels), len(evaluation.outcomes)
    made_with = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    return (
        f"{count:,} image{'s' * (count != 1)}, {attacks} attack{'s' * (attacks != 1)}, budgets in "
        f"{norm_text(evaluation.norm)}; {made_with}"
    )


def _figures(evaluation):
    worst = evaluation.worst_case()
    shown = [("without an attack", evaluation.clean_accuracy)]
    shown += [(f"at {text}", value) for text, value in zip(budgets(evaluation), worst, strict=True)]
    return "".join(
        f"<li><strong>{percent(value)}<small>%</small></strong><span>{escape(name)}</span></li>"
        for name, value in shown
    )


def _legend(evaluation):
    lines = [(name, f"c{number % 8}") for number, name in enumerate(evaluation.outcomes)] + [("worst case", "worst")]
    return "".join(f'<li class="{style}">{escape(name)}</li>' for name, style in lines)


def _cautions(evaluation):
    if not evaluation.warnings:
        return '<p class="calm">No check found anything to warn of.</p>'
    said = "".join(
        f"<li><code>{escape(caution.code)}</code><p>{escape(caution.sentence)}</p></li>"
        for caution in evaluation.warnings
    )
    return f'<ul class="cautions">{said}</ul>'


def _table(evaluation):
    heads = [*budgets(evaluation), *REST]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ["attack", *heads])
    body = []
    for name, accuracies, rest in rows(evaluation):
        cells = "".join(f'<td class="accuracy">{text}</td>' for text in accuracies)
        cells += "".join(f"<td>{text}</td>" for text in rest)
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _groups(evaluation):
    """What became of the images at the largest budget, per attack, as a bar with its numbers."""
    bars = []
    for name in evaluation.outcomes:
        counts = {group: numbers[-1] for group, numbers in evaluation.counts(name).items()}
        known = {group: count for group, count in counts.items() if count}
        parts = "".join(f'<i class="{group}" style="flex-grow:{count}"></i>' for group, count in known.items())
        words = ", ".join(f"{count:,} {WORDS[group]}" for group, count in known.items())
        bar = f'<span class="bar" aria-hidden="true">{parts}</span>'
        bars.append(f"<li><b>{escape(name)}</b>{bar}<span>{words}</span></li>")
    return "".join(bars)


WORDS = {"misclassified": "wrong before", "success": "broken", "nonfinite": "not finite", "failure": "withstood"}


def _hardest(evaluation):
    if not evaluation.hardest:
        return '<p class="calm">No image was broken.</p>'
    return f'<ol class="hardest">{"".join(_card(evaluation, hard) for hard in evaluation.hardest)}</ol>'


def _card(evaluation, hard):
    shown = "".join(
        f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in triple(hard, evaluation.bounds)
    )
    label, after = (escape(evaluation.class_name(of)) for of in (hard.label, hard.prediction))
    return (
        f'<li><p class="verdict"><b>{label}</b> becomes <b class="after">{after}</b></p>'
        f'<div class="triple">{shown}</div><p class="facts">image {hard.number}, {norm_text(evaluation.norm)} '
        f"{size_text(hard.size)}, {escape(hard.attack)}</p></li>"
    )


def _settings(evaluation):
    """The function and the arguments of each attack, and what the evaluation was given."""
    arguments = lambda given: ", ".join(f"{name}={_plain(value)}" for name, value in given.items())
    found = {
        name: f"{text['function']}({arguments(text['arguments'])})"
        for name, text in evaluation.settings["attacks"].items()
    }
    found |= {name: _plain(value) for name, value in evaluation.settings.items() if name != "attacks"}
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in found.items())


def _plain(value):
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read(name):
    return (files("diffprog.attack._evaluation.report") / "template" / name).read_text(encoding="utf-8")
