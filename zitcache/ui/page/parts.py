"""Small pieces of HTML. Every text from outside goes through :func:`escape`."""

from __future__ import annotations

import html
from collections.abc import Sequence

from zitcache.ui.text import printable


def escape(text: str) -> str:
    """``text`` for HTML, attributes included: no markup, no control characters."""
    return html.escape(printable(text), quote=True)


def card(title: str, content: str) -> str:
    """A section with a heading."""
    name = title.lower().replace(" ", "-")
    return f'<section class="card" id="{name}"><h2>{escape(title)}</h2>{content}</section>'


def figure(name: str, value: str, note: str) -> str:
    """A number in large type."""
    return (
        f'<div class="figure" id="figure-{name}"><span>{escape(name)}</span>'
        f"<strong>{escape(value)}</strong><small>{escape(note)}</small></div>"
    )


def badge(state: str, text: str) -> str:
    """A coloured word. ``state``: "good", "warn", "bad" or "plain"."""
    return f'<span class="badge {state}">{escape(text)}</span>'


def nowrap(text: str) -> str:
    """A value that stays on one line."""
    return f'<span class="nowrap">{escape(text)}</span>'


def rows(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table. Cells are HTML already; columns without any content are left out."""
    shown = [place for place in range(len(titles)) if any(line[place] for line in lines)]
    head = ""
    if any(titles):
        head = (
            "<thead><tr>" + "".join(f"<th>{escape(titles[place])}</th>" for place in shown) + "</tr></thead>"
        )
    body = "".join(
        "<tr>" + "".join(_cell(titles[place], line[place]) for place in shown) + "</tr>" for line in lines
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _cell(title: str, content: str) -> str:
    named = f' data-title="{escape(title)}"' if title else ""
    empty = "" if content else ' class="empty"'
    return f"<td{named}{empty}>{content}</td>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What the colours mean. ``entries``: the class of the colour, and its meaning."""
    items = "".join(f'<span><i class="{name}"></i>{escape(text)}</span>' for name, text in entries)
    return f'<p class="legend">{items}</p>' if items else ""


def fold(title: str, content: str) -> str:
    """``content`` (HTML) behind a line that opens it."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def details(title: str, lines: Sequence[str]) -> str:
    """A list that is folded away."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return fold(title, f"<ul>{items}</ul>")
