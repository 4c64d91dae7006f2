"""What a migration has left of a cache at its old place, once the new one is known to be whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zitcache.cache.marker import read_marker
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.tasks.clean.candidate import Candidate, Identity, identity
from zitcache.tasks.clean.report import Kind
from zitcache.tasks.migrate.names import old_place
from zitcache.tasks.migrate.removal import only_in_old


def old_copies(cache: Path, session: Session) -> Iterator[Candidate]:
    """The old copy of the migrated cache at ``cache``; none if it has no marker or there is no old copy.

    It may go only if the link is in place, every file of it lies at the new place, too, as large as here, and
    what was written to it after the migration is there as well.
    """
    try:
        marker = read_marker(cache)
    except ZitcacheError:
        return
    if marker is None:
        return
    source = Path(marker.real_source)
    old = old_place(Path(os.path.realpath(source.parent)) / source.name)
    if not old.is_dir() or old.is_symlink():
        return
    relies_on: list[tuple[str, Identity]] = []
    keep = _why_not(old, source, cache, marker.time, relies_on, session)
    reason = f"The old copy of the cache that was moved to {cache}."
    yield Candidate(str(old), Kind.OLD_COPY, reason, keep=keep, relies_on=tuple(relies_on))


def _why_not(
    old: Path,
    source: Path,
    cache: Path,
    moment: str,
    relies_on: list[tuple[str, Identity]],
    session: Session,
) -> str | None:
    """Why the copy must stay; ``relies_on`` gets the files at the new place that make it superfluous."""
    if not source.is_symlink() or os.path.realpath(source) != str(cache):
        return f"{source} does not lead to {cache}: the migration is not in effect."
    for folder, _, names in os.walk(old):
        for name in names:
            session.cancel.check()
            path = Path(folder, name)
            twin = cache / path.relative_to(old)
            if not _is_alike(path, twin, relies_on):
                return f"{path.relative_to(old)} is not the same in {cache}."
    try:
        newer = only_in_old(old, cache, moment, session)
    except (ZitcacheError, OSError, ValueError) as error:
        return f"It could not be compared with {cache}: {error}"
    return f"{newer[0]} was written here after the migration." if newer else None


def _is_alike(path: Path, twin: Path, relies_on: list[tuple[str, Identity]]) -> bool:
    try:
        if path.is_symlink():
            return twin.is_symlink() and os.readlink(twin) == os.readlink(path)
        found = twin.lstat()
        relies_on.append((str(twin), identity(found)))
        return found.st_size == path.lstat().st_size
    except OSError:
        return False
