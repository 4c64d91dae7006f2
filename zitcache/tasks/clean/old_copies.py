"""What a migration has left of a cache at its old place, once the new one is known to be whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zitcache.cache.exclusions import OWN_PREFIX
from zitcache.cache.marker import MigrationMarker, read_marker
from zitcache.errors import ZitcacheError
from zitcache.tasks.clean.candidate import Candidate, Identity, identity
from zitcache.tasks.clean.report import Kind

PREFIX = f"{OWN_PREFIX}old-"
"""What the name of an old copy, beside the link that took its place, begins with."""


def old_copies(cache: Path) -> Iterator[Candidate]:
    """The old copies of the migrated cache at ``cache``; none if it has no marker.

    One may go only if the link is in place and every file of it lies at the new place, too, as large as here.
    """
    try:
        marker = read_marker(cache)
    except ZitcacheError:
        return
    if marker is None:
        return
    source = Path(marker.real_source)
    for old in _beside(source, marker):
        reason = f"The old copy of the cache that was moved to {cache}."
        keep, relies_on = _compare(old, source, cache)
        yield Candidate(str(old), Kind.OLD_COPY, reason, keep=keep, relies_on=relies_on)


def _beside(source: Path, marker: MigrationMarker) -> list[Path]:
    parent = Path(os.path.realpath(source.parent))
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return []
    ours = [name for name in names if name.startswith(PREFIX)]
    return [parent / name for name in ours if source.name in name or marker.id in name]


def _compare(old: Path, source: Path, cache: Path) -> tuple[str | None, tuple[tuple[str, Identity], ...]]:
    """Why the copy must stay, and the files at the new place that make it superfluous."""
    if not source.is_symlink() or os.path.realpath(source) != str(cache):
        return f"{source} does not lead to {cache}: the migration is not in effect.", ()
    relies_on: list[tuple[str, Identity]] = []
    for folder, _, names in os.walk(old):
        for name in names:
            path = Path(folder, name)
            twin = cache / path.relative_to(old)
            try:
                if path.is_symlink():
                    same = twin.is_symlink() and os.readlink(twin) == os.readlink(path)
                else:
                    found = twin.lstat()
                    same = found.st_size == path.lstat().st_size
                    relies_on.append((str(twin), identity(found)))
            except OSError:
                same = False
            if not same:
                return f"{path.relative_to(old)} is not the same in {cache}.", ()
    return None, tuple(relies_on)
