"""``init``: make a repository, in a place that holds nothing else."""

from __future__ import annotations

import os
import shlex

import msgspec

from zitcache.errors import UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.mounts import is_system_disk, mount_of
from zitcache.repository.records import CuttingRules
from zitcache.repository.repository import CONFIG, Repository
from zitcache.repository.reserve import keep_reserve
from zitcache.storage.folders import translated
from zitcache.storage.names import is_temporary
from zitcache.storage.opening import open_storage
from zitcache.storage.protocol import Storage
from zitcache.storage.traits import StorageTraits, innermost

README_NAME = "readme.txt"
_README = """\
This folder is a zitcache repository. It holds snapshots of AI model caches (gigabytes of weights), so that
they can be brought back when the disk that the cache lies on is wiped.

Do not rename, edit or delete anything in it by hand: the files share their contents with each other.

    pip install zitcache                           get the program (Python 3.10 or later)
    zitcache snapshots --repo THIS_FOLDER          see what is in here
    zitcache restore --repo THIS_FOLDER            bring the newest snapshot back to where it came from
    zitcache restore --repo THIS_FOLDER --to DIR   or to another place
    zitcache check --repo THIS_FOLDER --read-data  prove that every byte in here is still good

What is what: config (JSON: format and id), packs/ (the contents, compressed), index/ (what lies where),
snapshots/ (one small object for each). The format is written down in docs/FORMAT.md of zitcache.
"""


class InitReport(msgspec.Struct, kw_only=True):
    """The new repository's id, place and format version; what the endpoint of a remote one can do."""

    repository: str
    id: str
    version: int
    endpoint: StorageTraits | None = None


def init(repository: str, session: Session, *, cutting: CuttingRules | None = None) -> Outcome[InitReport]:
    """Create a repository in a place of its own, which must be empty; a directory is made if it is missing.

    The endpoint of one in S3 is probed first.

    ``cutting``: other rules than the usual ones, to share blobs with a repository that has those.

    Raises ``UsageError`` if the place is a file, holds anything, or holds a repository already, or if the
    endpoint breaks a promise on which repositories rest;
    ``CredentialsError``, ``NoSpace`` and the like from writing.
    """
    storage = open_storage(repository)
    traits = _probe(storage, session)
    _refuse_occupied(storage)
    created = Repository.create(storage, cutting=cutting, traits=traits)
    try:
        storage.create(README_NAME, _README.encode())
    except ZitcacheError as error:
        # The repository is complete without it.
        session.warn("readme-not-written", f"The note {README_NAME} could not be written: {error.message}")
    keep_reserve(storage)
    _warn_about_disk(storage, session)
    report = InitReport(
        repository=storage.location, id=created.config.id, version=created.config.version, endpoint=traits
    )
    return Outcome(data=report, warnings=session.warnings)


def _probe(storage: Storage, session: Session) -> StorageTraits | None:
    """What a remote endpoint can do; None for a directory. Raises as :func:`init` does."""
    if not storage.is_remote:
        return None
    from zitcache.storage.s3.probe import probe, refuse_occupied
    from zitcache.storage.s3.storage import S3Storage

    remote = innermost(storage)
    if not isinstance(remote, S3Storage):
        return None
    refuse_occupied(remote)
    session.progress.stage("Probing the endpoint")
    return probe(remote, session)


def _refuse_occupied(storage: Storage) -> None:
    """Raise ``UsageError`` if the directory holds anything but what mkfs or a killed ``init`` left in it."""
    place = storage.location
    if "://" in place:
        return
    with translated(f"looking into {place}"):
        try:
            found = sorted(os.listdir(place))
        except FileNotFoundError:
            return
    if CONFIG in found:
        return  # Repository.create says what is there
    occupants = [name for name in found if name != "lost+found" and not is_temporary(name)]
    if not occupants:
        return
    if {"packs", "snapshots"} & set(occupants):
        raise UsageError(
            f"{place} looks like a repository that has lost its config. Nothing was changed.",
            hint="Bring the file `config` back from a copy, or choose another place.",
        )
    names = ", ".join(repr(name) for name in occupants[:3]) + (", …" if len(occupants) > 3 else "")
    raise UsageError(
        f"{place} is not empty (it holds {names}); a repository needs a folder of its own.",
        hint=f"Name a new one: zitcache init {shlex.quote(os.path.join(place, 'zitcache'))}",
    )


def _warn_about_disk(storage: Storage, session: Session) -> None:
    place = storage.location
    if "://" in place:
        return
    with translated(f"looking at the disk of {place}"):
        if mount_of(place).is_memory:
            session.warn(
                "in-memory",
                f"{place} lies in memory ({mount_of(place).fstype}): it is gone when the machine restarts.",
                "Keep the repository on a data disk: zitcache init /path/on/the/data/disk",
            )
        elif is_system_disk(place):
            session.warn(
                "system-disk",
                f"{place} lies on the system disk: a reset of that disk takes the snapshots with it.",
                "Keep the repository on a data disk: zitcache init /path/on/the/data/disk",
            )
