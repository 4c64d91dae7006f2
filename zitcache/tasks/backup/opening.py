"""Opening the repository that a backup goes to, or making it."""

from __future__ import annotations

from pathlib import Path

from zitcache.errors import RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.repository.records import RepositoryConfig
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.storage.protocol import Storage
from zitcache.tasks.locations import chosen_location, refuse_overlap
from zitcache.tasks.snapshots.creating import init


def find_repository(
    flag: str | None, cache: Path, session: Session, *, create: bool
) -> tuple[Storage, Repository | None]:
    """Where the backup goes; None for a repository that has yet to be made (only if ``create``).

    Raises ``UsageError`` where it and the cache lie one in the other, ``RepositoryNotFound``, ….
    """
    storage = open_storage(chosen_location(flag, session))
    refuse_overlap(storage.location, cache, session)
    try:
        return storage, Repository.open(storage)
    except RepositoryNotFound:
        if not create:
            raise
        return storage, None


def make_repository(storage: Storage, session: Session, *, dry_run: bool) -> Repository:
    """Make it. A dry run makes nothing and gets an empty one in memory."""
    if dry_run:
        return Repository(storage, RepositoryConfig(id="0" * 32, created=""))
    try:
        init(storage.location, session)
    except UsageError as error:
        # Another backup may have made it in this very moment.
        try:
            return Repository.open(storage)
        except RepositoryNotFound:
            raise error from None
    return Repository.open(storage)
