"""What programs wrote into the old directory in the last moment: brought over after the switch.

They had files or the directory open when the path became a link. Nothing is ever removed from the target for
it, and a file that has changed on both sides is left on both.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zitcache.errors import from_os_error
from zitcache.events import Session
from zitcache.tasks.migrate.journal import Done
from zitcache.tasks.migrate.listing import Entry, Kind, Listing, list_everything
from zitcache.tasks.migrate.metadata import Metadata
from zitcache.tasks.migrate.removal import differing
from zitcache.tasks.migrate.structure import make_hard_link
from zitcache.tasks.migrate.transfer import Transfer


def bring_latecomers(old: Path, transfer: Transfer, session: Session) -> list[str]:
    """Carry over what ``old`` has that was not copied; returns the paths that differ on both sides.

    Raises what the disk refuses.
    """
    listing = list_everything(old)
    target = transfer.target
    suspects: list[Entry] = []
    waiting: list[Entry] = []
    conflicts: list[str] = []
    metadata = Metadata(old, session)
    for entry in listing.entries.values():
        status = _lstat(target / entry.path)
        if entry.kind is Kind.FILE:
            line = transfer.finished.get(entry.path)
            if line is None or line.identity != entry.identity:
                (waiting if status is None else suspects).append(entry)
        elif status is None and entry.kind is not Kind.HARD_LINK:
            _make(entry, target / entry.path, metadata)
        elif status is not None and entry.kind is Kind.DIRECTORY and not stat.S_ISDIR(status.st_mode):
            conflicts.append(entry.path)
    # Most have another ctime only: a name of theirs was removed, or their mode changed.
    different = set(differing(old, target, Listing(listing.root, {}, {}), suspects, session))
    for entry in suspects:
        if entry.path not in different:
            continue
        if _is_as_copied(target / entry.path, transfer.finished.get(entry.path)):
            waiting.append(entry)
        else:
            conflicts.append(entry.path)
    session.progress.stage("Bringing latecomers", sum(entry.size for entry in waiting))
    transfer.bring(old, waiting)
    brought = {entry.path for entry in waiting}
    for entry in listing.of_kind(Kind.HARD_LINK):
        if entry.target in brought or not os.path.lexists(target / entry.path):
            _link(entry, target)
    return conflicts


def _is_as_copied(path: Path, line: Done | None) -> bool:
    """Whether nobody has written to the copy since it was made."""
    status = _lstat(path)
    return (
        line is not None
        and status is not None
        and stat.S_ISREG(status.st_mode)
        and (status.st_size, status.st_mtime_ns) == (line.copy_size, line.copy_mtime_ns)
    )


def _make(entry: Entry, place: Path, metadata: Metadata) -> None:
    try:
        if entry.kind is Kind.DIRECTORY:
            place.mkdir()
            metadata.copy(entry, os.fspath(place))
        else:
            os.symlink(str(entry.target), place)
            metadata.copy_to_link(entry, os.fspath(place))
    except OSError as error:
        raise from_os_error(error, f"making {place}") from error


def _link(entry: Entry, target: Path) -> None:
    first = target / str(entry.target)
    try:
        if os.path.lexists(first):
            make_hard_link(first, target / entry.path)
    except OSError as error:
        raise from_os_error(error, f"making the hard link {target / entry.path}") from error


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
