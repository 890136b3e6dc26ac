"""Tables as text."""

from collections.abc import Sequence


def text_table(
    rows: Sequence[Sequence[str]], align: str = "", separator: str = "  ", max_width: int | None = None
) -> list[str]:
    """Align the columns of a table.

    Args:
      rows: cells of each row; a row may be shorter than others.
      align: `<` or `>` for each column; the last sign holds for all further columns, left if there is none.
      separator: what stands between columns.
      max_width: largest width of a column, in characters; longer cells are not cut, and push what follows to the right.

    Returns:
      One line for each row, without trailing spaces.
    """
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]
    widths = widths if max_width is None else [min(width, max_width) for width in widths]
    signs = (align or "<").ljust(columns, (align or "<")[-1])
    return [
        separator.join(f"{cell:{sign}{width}}" for cell, sign, width in zip(row, signs, widths, strict=False)).rstrip()
        for row in rows
    ]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, aligned, so that it reads well in a terminal too.

    Args:
      head: names of the columns.
      rows: as many cells each.

    Returns:
      Lines of text, without a line end behind the last.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = text_table([(*row, "") for row in (head, rule, *rows)], separator=" | ")
    return "\n".join(f"| {line}" for line in lines)
