"""What a killed zitcache leaves: staging, temporary files, and what it must never be mistaken for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from zitcache.machine.trees import TEMPORARY_PREFIX
from zitcache.tasks.clean.candidate import Candidate
from zitcache.tasks.clean.report import Kind
from zitcache.tasks.migrate.names import JOURNAL_NAME, LEFTOVERS_NAME, LINK_PREFIX, PART_PREFIX
from zitcache.tasks.restore import workspace

_TEMPORARY = "A temporary file of a zitcache that was killed."
_STAGING = "Where an interrupted restore kept what it had fetched."
_TRASH = "What a restore had finished with and was removing when it was killed."
_RESUMABLE = "An interrupted restore can go on from it: zitcache restore. To remove it all the same: --all"
_JOURNAL = "What an interrupted migration has noted of its work."
_PART = "A file that a migration had not finished copying."
_MIGRATION = "An interrupted migration can go on from it: zitcache migrate {root}"
_SET_ASIDE = "What lay here before the cache was moved here, and is not in the cache."
_LOOK = "It may be the only copy. Look at it, then remove it yourself."
_PARKED = "It holds model files that an interrupted restore had put aside. Run: zitcache restore"


def own_leftover(entry: os.DirEntry[str], root: str | None = None) -> Candidate | None:
    """The candidate that a name with our prefix is, in the cache ``root`` or beside one.

    None for what is no leftover: the marker of a migration, the kit, and all that this version does not know.
    """
    if root is not None and (candidate := _of_a_migration(entry, root)) is not None:
        return candidate
    if entry.name.startswith(TEMPORARY_PREFIX):
        return Candidate(entry.path, Kind.OWN_STAGING, _TEMPORARY)
    if entry.name.startswith(workspace.PREFIX) and entry.is_dir(follow_symlinks=False):
        return _restore_workspace(entry)
    return None


def own_leftovers_in(folders: Iterable[str | os.PathLike[str]]) -> Iterator[Candidate]:
    """Our leftovers right in ``folders``: beside caches, and where ``clean`` itself puts folders aside."""
    for folder in dict.fromkeys(os.path.realpath(folder) for folder in folders):
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            continue
        for entry in found:
            candidate = own_leftover(entry)
            if candidate is not None:
                yield candidate


def _of_a_migration(entry: os.DirEntry[str], root: str) -> Candidate | None:
    journal = os.path.join(root, JOURNAL_NAME)
    if entry.path == journal:
        goes_on = _MIGRATION.format(root=root)
        keep = f"{goes_on} To give it up, remove all of {root} yourself: it is half a copy."
        return Candidate(entry.path, Kind.OWN_STAGING, _JOURNAL, keep=keep)
    if entry.path == os.path.join(root, LEFTOVERS_NAME):
        return Candidate(entry.path, Kind.OWN_STAGING, _SET_ASIDE, keep=_LOOK)
    if entry.name.startswith((PART_PREFIX, LINK_PREFIX)):
        goes_on = f"{_MIGRATION.format(root=root)} To remove it all the same: --all"
        return Candidate(
            entry.path,
            Kind.OWN_STAGING,
            _PART,
            locks=(os.path.join(journal, "lock"),),
            keep_unless_all=goes_on if os.path.lexists(journal) else None,
        )
    return None


def _restore_workspace(entry: os.DirEntry[str]) -> Candidate:
    if workspace.DONE in entry.name:
        return Candidate(entry.path, Kind.OWN_STAGING, _TRASH)
    locks = (os.path.join(entry.path, "lock"),)
    parked = _names(os.path.join(entry.path, "old"))
    staged = os.path.lexists(os.path.join(entry.path, "tree"))
    return Candidate(
        entry.path,
        Kind.OWN_STAGING,
        _STAGING,
        locks=locks,
        keep=_PARKED if parked else None,
        keep_unless_all=_RESUMABLE if staged else None,
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
