"""Aligned columns in plain text. Small: importing a table library costs more than listing snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zitcache.ui.style import Style


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and whether its cells stand at the right (numbers)."""

    title: str
    right: bool = False


def cell_width(text: str) -> int:
    """How many terminal cells ``text`` takes: wide East Asian characters two, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], style: Style, indent: str = ""
) -> list[str]:
    """Lines of a table: a dim heading, then the rows. Cells are printable text without colour.

    A column that is empty in every row is left out; no rows give no lines.
    """
    cells = [list(row) for row in rows]
    if not cells:
        return []
    shown = [place for place in range(len(columns)) if any(row[place] for row in cells)]
    titles = [column.title for column in columns]
    widths = {place: max(cell_width(row[place]) for row in [titles, *cells]) for place in shown}

    def line(row: Sequence[str]) -> str:
        padded = []
        for place in shown:
            gap = " " * (widths[place] - cell_width(row[place]))
            padded.append(gap + row[place] if columns[place].right else row[place] + gap)
        return "  ".join(padded).rstrip()

    return [indent + style.dim(line(titles)), *(indent + line(row) for row in cells)]
