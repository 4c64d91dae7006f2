"""What forget, prune, undelete and repair share: opening for deletion, and the move of a snapshot."""

from __future__ import annotations

import contextlib

from zitcache.codec.blob import blob_id
from zitcache.errors import CredentialsError, IntegrityError, ObjectNotFound, ZitcacheError
from zitcache.events import Session
from zitcache.repository.locks import LOCK_FOLDER
from zitcache.repository.marks import FORGOTTEN_FOLDER, forgotten_note, nonce
from zitcache.repository.repository import SNAPSHOT_FOLDER, Repository
from zitcache.repository.reserve import ReserveStorage
from zitcache.tasks.locations import open_repository

DEFAULT_GRACE_SECONDS = 24 * 3600


def open_for_deleting(flag: str | None, session: Session) -> tuple[Repository, ReserveStorage]:
    """The repository that is meant, over a storage that lives on its reserve where the disk is full."""
    opened = open_repository(flag, session)
    storage = ReserveStorage(opened.storage)
    return opened.over(storage), storage


def require_deletable(repository: Repository) -> None:
    """Raise ``CredentialsError`` before anything is begun, where the storage refuses deletions as such."""
    try:
        repository.storage.delete(f"{LOCK_FOLDER}/{nonce()}{nonce()}")
    except CredentialsError as error:
        raise denied(repository, error) from error


def denied(repository: Repository, error: CredentialsError) -> CredentialsError:
    """The refusal to delete something, with what to do about it."""
    return CredentialsError(
        f"{repository.storage.location} does not allow to delete: {error.message}",
        hint="Nothing is half done. Run the same command with credentials that may delete; "
        "backup and restore do not need them.",
    )


def move_to_forgotten(repository: Repository, snapshot_id: str) -> bool:
    """Put a snapshot where ``undelete`` finds it, then take it out of the list; False if it is gone already.

    Killed in between, it is still there as if nothing had been done. Raises what the storage raises.
    """
    name = f"{SNAPSHOT_FOLDER}/{snapshot_id}"
    try:
        data = repository.storage.load(name)
    except ObjectNotFound:
        return False
    if blob_id(data).hex() != snapshot_id:
        raise IntegrityError(
            f"Snapshot {snapshot_id[:8]} is damaged, so it cannot be forgotten in a way that can be undone.",
            hint="Set it aside: zitcache repair",
        )
    note = repository.store_record(FORGOTTEN_FOLDER, forgotten_note(snapshot_id, data))
    try:
        repository.storage.delete(name)
    except ZitcacheError as error:
        with contextlib.suppress(ZitcacheError):
            repository.storage.delete(f"{FORGOTTEN_FOLDER}/{note}")
        if isinstance(error, CredentialsError):
            raise denied(repository, error) from error
        raise
    return True
