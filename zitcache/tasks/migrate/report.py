"""What a migration is asked for, what it plans, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class MigrateRequest:
    """``target``: where the cache shall lie; with ``undo`` the migrated cache, None for the one in use.

    ``cache``: which cache, None for the one in use. ``force``: also to a disk that a reset wipes.
    ``environment``, ``kit``: whether to set variables, and to keep a kit at the target.
    """

    target: str | None
    cache: str | None = None
    undo: bool = False
    delete_source: bool = False
    force: bool = False
    dry_run: bool = False
    environment: bool = True
    kit: bool = True


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the plan: a stable name, what it does, and how many bytes it writes at most."""

    name: str
    does: str
    bytes: int = 0


class MigratePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, to be shown and agreed to. ``bytes_left``: of ``bytes``, what is not there yet."""

    action: str
    source: str
    target: str
    method: str
    files: int
    bytes: int
    bytes_left: int
    steps: list[Step]


Confirm = Callable[[MigratePlan], bool]
"""Asked with the plan before anything changes."""


class MigrateReport(msgspec.Struct, kw_only=True):
    """``action``: "migrated" | "relinked" | "undone" | "source deleted" | "nothing to do".

    ``source``: the old path; ``target``: where the cache lies (or lay, before an undo). ``method``: "copy" |
    "reflink" | "rename". ``linked``: whether the old path is a symlink to the target. ``old_copy``: where
    the old copy still is. ``bytes_resumed``: not written again, from an earlier run. ``files_verified``: read
    back from the disk and compared. ``variables``: set in the environment, in ``environment_files``.
    ``kit``: its folder. ``steps``: what was, or with ``dry_run`` would be, done.
    """

    action: str
    source: str
    target: str
    method: str
    files: int
    bytes: int
    seconds: float
    linked: bool
    source_deleted: bool
    old_copy: str | None = None
    bytes_resumed: int = 0
    files_verified: int = 0
    variables: dict[str, str] = {}
    environment_files: list[str] = []
    kit: str | None = None
    dry_run: bool = False
    steps: list[Step] = []
