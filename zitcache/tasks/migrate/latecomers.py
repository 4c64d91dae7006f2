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
from zitcache.tasks.migrate.listing import Entry, Kind, Listing, list_everything
from zitcache.tasks.migrate.metadata import Metadata
from zitcache.tasks.migrate.removal import differing
from zitcache.tasks.migrate.transfer import Transfer


def bring_latecomers(old: Path, transfer: Transfer, session: Session) -> list[str]:
    """Carry over what ``old`` has that was not copied; returns the paths that differ on both sides.

    Raises what the disk refuses.
    """
    listing = list_everything(old)
    waiting: list[Entry] = []
    conflicts: list[str] = []
    metadata = Metadata(old, session)
    for entry in listing.entries.values():
        place = transfer.target / entry.path
        status = _lstat(place)
        if entry.kind is Kind.FILE:
            line = transfer.finished.get(entry.path)
            if line is not None and line.identity == entry.identity:
                continue
            untouched = (
                line is not None
                and status is not None
                and ((status.st_size, status.st_mtime_ns) == (line.copy_size, line.copy_mtime_ns))
            )
            if status is None or untouched:
                waiting.append(entry)
            elif differing(old, transfer.target, Listing(listing.root, {}, {}), [entry], session):
                conflicts.append(entry.path)
        elif status is None:
            _make(entry, place, transfer.target, metadata)
        elif entry.kind is Kind.DIRECTORY and not stat.S_ISDIR(status.st_mode):
            conflicts.append(entry.path)
    if waiting:
        session.progress.stage("Bringing latecomers", sum(entry.size for entry in waiting))
        transfer.bring(old, waiting)
        for entry in listing.of_kind(Kind.HARD_LINK):
            if not os.path.lexists(transfer.target / entry.path):
                _link(entry, transfer.target)
    return conflicts


def _make(entry: Entry, place: Path, target: Path, metadata: Metadata) -> None:
    try:
        if entry.kind is Kind.DIRECTORY:
            place.mkdir()
            metadata.copy(entry, os.fspath(place))
        elif entry.kind is Kind.SYMLINK:
            os.symlink(str(entry.target), place)
            metadata.copy_to_link(entry, os.fspath(place))
        elif os.path.lexists(target / str(entry.target)):
            _link(entry, target)
    except OSError as error:
        raise from_os_error(error, f"making {place}") from error


def _link(entry: Entry, target: Path) -> None:
    try:
        os.link(target / str(entry.target), target / entry.path, follow_symlinks=False)
    except OSError as error:
        raise from_os_error(error, f"making the hard link {target / entry.path}") from error


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
