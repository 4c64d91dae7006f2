"""Which model caches there are: those to look in, and all whose models must be left alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.environment import candidate_roots
from zitcache.cache.layouts import is_directory
from zitcache.errors import CacheNotFound, UsageError
from zitcache.events import Session
from zitcache.tasks.clean.candidate import is_below
from zitcache.tasks.settings import resolve_cache, warn_ignored


@dataclass(frozen=True, slots=True)
class Places:
    """``caches``: where to look for leftovers. ``known``: these and every other cache there is.

    Real paths, none inside another.
    """

    caches: tuple[Path, ...]
    known: tuple[Path, ...]


def find_places(cache: str | None, session: Session) -> Places:
    """The caches that exist: the one that was named (flag, environment, config), else all that the SDKs or
    people would use. Raises ``CacheNotFound`` or ``UsageError`` if the named one is no directory.
    """
    setting = resolve_cache(cache)
    warn_ignored(setting, session)
    environ, home, cwd = dict(os.environ), Path.home(), Path.cwd()
    around = [root.path for root in candidate_roots(environ, home, cwd)]
    if setting.value is None:
        found = _outermost(around)
        return Places(found, found)
    named = Path(os.path.realpath(setting.value))
    if not os.path.lexists(named):
        raise CacheNotFound(f"There is no {named} (named by {setting.source}).")
    if not named.is_dir():
        raise UsageError(
            f"{named} (named by {setting.source}) is a file, not a directory.",
            hint="Name the cache's top directory.",
        )
    return Places((named,), _outermost([named, *around]))


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    real = dict.fromkeys(Path(os.path.realpath(path)) for path in paths if is_directory(path))
    # A whole file system is no cache: a variable that names it holds an accident, and all would be walked.
    usable = [path for path in real if path != Path("/")]
    return tuple(
        path
        for path in usable
        if not any(other != path and is_below(str(path), str(other)) for other in usable)
    )
