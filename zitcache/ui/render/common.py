"""Pieces that several reports share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zitcache.ui.text import printable, rate

if TYPE_CHECKING:
    from zitcache.ui.report import View

SHORT_ID = 8


def short(snapshot_id: str) -> str:
    """The first eight characters of an id."""
    return printable(snapshot_id)[:SHORT_ID]


def bullets(title: str, paths: Sequence[str], view: View) -> list[str]:
    """A heading and one path a line; nothing when there is none."""
    if not paths:
        return []
    return [title, *view.items([f"  {printable(path)}" for path in paths])]


def speed(byte_count: int, seconds: float) -> str:
    """`` (1.5 GB/s)``, or nothing when too little was done to tell."""
    return f" ({rate(byte_count / seconds)})" if byte_count > 0 and seconds >= 0.05 else ""
