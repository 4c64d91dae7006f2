"""What the kit's tasks tell."""

from __future__ import annotations

import msgspec


class KitReport(msgspec.Struct, kw_only=True):
    """``action``: "made" | "updated" | "up to date" | "checked" | "failed". ``path``: the kit's folder.

    ``tag``: which Python the part made or looked at is for; ``parts``: those of all parts. ``files`` and
    ``bytes``: what is in that part. ``pointer``: ``zitcache-recover.sh`` in the root of the disk.
    ``problem``: why it failed. ``steps``: what ``--check`` tried.
    """

    action: str
    path: str
    tag: str
    program: str
    parts: list[str] = []
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    pointer: str | None = None
    problem: str | None = None
    steps: list[KitStep] = []


class KitStep(msgspec.Struct, kw_only=True):
    """One thing that ``--check`` tried. ``detail``: what was found, or why it failed."""

    name: str
    ok: bool
    seconds: float
    detail: str
