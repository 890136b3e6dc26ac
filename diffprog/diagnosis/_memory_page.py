"""What a compiled program holds, as one web page, which needs nothing else: no network, no other file."""

from collections.abc import Hashable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffprog._rules.budget.search import in_words
from diffprog._util.files import write_text
from diffprog._util.html_page import fill, html_page, read_asset, script_json
from diffprog.diagnosis._memory_picture import line_of, share, svg, which

if TYPE_CHECKING:
    from diffprog.diagnosis._memory import MemoryReport, MemoryRow

_PACKAGE = "diffprog.diagnosis"


def html(report: "MemoryReport", path: str | Path | None) -> str | Path:
    """Write the page; return it, or the path of the file that was written."""
    reports = [r for r in (report.plain, report) if r is not None]
    title = f"What {report.program} holds"
    body = fill(
        read_asset(_PACKAGE, "memory_page.html"),
        title=escape(title),
        summary=escape(report.summary()),
        picture=svg(report),
        tables="\n".join(_table(r, report.budget is not None) for r in reports if r.rows),
        data=script_json([_data(r, report.budget is not None) for r in reports if r.spans]),
    )
    text = html_page(
        title,
        body,
        style=read_asset(_PACKAGE, "memory_page.css"),
        script=read_asset(_PACKAGE, "memory_page.js"),
    )
    return text if path is None else write_text(path, text)


def _table(report: "MemoryReport", has_budget: bool) -> str:
    rows = "\n".join(_row(row, report.peak) for row in report.rows)
    return f"""<section class="card">
<h2>All lines at the peak{which(report, has_budget)}</h2>
<table>
<tr><th class="bytes">held</th><th class="bytes">share</th><th>by the pass</th><th>line</th><th></th></tr>
{rows}
</table>
</section>"""


def _row(row: "MemoryRow", total: int) -> str:
    text, callers = row.operation, ""
    if row.source:
        text = row.source.text
        around = "".join(f" ← {frame}" for frame in row.source.callers)
        callers = f'<span class="callers">{escape(row.source.file)}{escape(around)}</span>'
    return (
        f'<tr><td class="bytes">{in_words(row.bytes)}</td><td class="bytes">{share(row.bytes, total)}</td>'
        f'<td><span class="key {row.phase}"></span>{row.phase}</td><td>{escape(row.where)}</td>'
        f'<td class="code"><code>{escape(text)}</code>{callers}</td></tr>'
    )


def _data(report: "MemoryReport", has_budget: bool) -> dict[str, Any]:
    lines: dict[Hashable, int] = {}
    texts: list[dict[str, str]] = []
    spans = []
    for span in report.spans:
        key = (line_of(span), span.phase)
        if key not in lines:
            lines[key] = len(texts)
            text = span.source.text if span.source else span.operation
            texts.append({"where": span.where, "phase": span.phase, "text": text})
        spans.append([span.start, span.stop, span.bytes, lines[key]])
    return {
        "program": report.program + which(report, has_budget),
        "running": report.running,
        "peak": report.peak_at,
        "lines": texts,
        "spans": spans,
    }
