"""What ``clean`` can find, and what it says about it."""

from __future__ import annotations

from enum import Enum

import msgspec


class Kind(str, Enum):
    """What a leftover is; the values are those of ``--kind`` and of the JSON output."""

    UNFINISHED_DOWNLOAD = "unfinished-download"
    SHADOWING_STUB = "shadowing-stub"
    STALE_LOCK = "stale-lock"
    OWN_STAGING = "own-staging"
    OLD_COPY = "old-copy"
    XET_CACHE = "xet-cache"
    PIP_CACHE = "pip-cache"
    UV_CACHE = "uv-cache"
    CONDA_PACKAGES = "conda-packages"
    TORCH_CACHE = "torch-cache"
    TORCH_HUB = "torch-hub"


IN_CACHES = frozenset(
    {
        Kind.UNFINISHED_DOWNLOAD,
        Kind.SHADOWING_STUB,
        Kind.STALE_LOCK,
        Kind.OWN_STAGING,
        Kind.OLD_COPY,
        Kind.XET_CACHE,
    }
)
"""The kinds that lie in or beside a model cache; the others are caches of other tools."""

ONLY_NAMED = frozenset({Kind.OLD_COPY, Kind.TORCH_HUB})
"""The kinds that are shown, but removed only if ``--kind`` names them: a download, or a copy of weights."""


class CleanItem(msgspec.Struct, kw_only=True):
    """One leftover. ``path``: absolute; of several files in one folder, that folder.

    ``size_bytes``: disk blocks that its removal gives back, each inode counted once, none for an inode that
    has names elsewhere. ``age_seconds``: since anything in it changed. ``kept_because``: a sentence, None if
    it was removed, or would be with ``--delete``.
    """

    path: str
    kind: str
    size_bytes: int
    reason: str
    age_seconds: float
    removed: bool
    kept_because: str | None
    files: int


class CleanReport(msgspec.Struct, kw_only=True):
    """``caches``: the model caches looked in. Bytes: of all items, of those that may go, of those gone."""

    items: list[CleanItem]
    bytes_found: int
    bytes_removable: int
    bytes_freed: int
    dry_run: bool
    caches: list[str]
