"""What of a cache is in the target already: finished by an earlier run, or lying there from another time."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from zitcache.events import Session
from zitcache.machine.files import drop_cached
from zitcache.tasks.digesting import digest_files
from zitcache.tasks.migrate.journal import Done, done
from zitcache.tasks.migrate.listing import Entry, Kind, Listing
from zitcache.tasks.reading import FileRead, Wanted


def known_finished(listing: Listing, target: Path, journal: Mapping[str, Done]) -> dict[str, Done]:
    """Files that the journal says were copied and checked, and that both sides still look like then."""
    found: dict[str, Done] = {}
    lying = _Lying(target)
    for entry in listing.of_kind(Kind.FILE):
        line = journal.get(entry.path)
        if line is None or line.identity != entry.identity:
            continue
        status = lying.status(entry.path)
        if status is not None and (status.st_size, status.st_mtime_ns) == (
            line.copy_size,
            line.copy_mtime_ns,
        ):
            found[entry.path] = line
    return found


def look_alike(listing: Listing, target: Path, known: Mapping[str, Done]) -> list[Entry]:
    """Files that nothing is known of, but that lie in ``target`` with the same size and time."""
    lying = _Lying(target)
    return [
        entry
        for entry in listing.of_kind(Kind.FILE)
        if entry.path not in known
        and (status := lying.status(entry.path)) is not None
        and status.st_size == entry.size
        and abs(status.st_mtime_ns - entry.identity.mtime_ns) < 2_000_000_000  # FAT counts in twos
    ]


def compare_content(source: Path, target: Path, entries: list[Entry], session: Session) -> dict[str, Done]:
    """Read both sides of ``entries`` from the disk: those that are equal, byte for byte."""
    if not entries:
        return {}
    digests: dict[tuple[bool, str], str] = {}
    lock = threading.Lock()

    def on_file(read: FileRead[tuple[bool, str]]) -> None:
        if read.digests is not None:
            with lock:
                digests[read.key] = read.digests.blake3

    session.progress.stage("Comparing", 2 * sum(entry.size for entry in entries))
    wanted = []
    for entry in entries:
        _drop(target / entry.path)
        wanted.append(Wanted((True, entry.path), os.path.join(source, entry.path), entry.identity))
        wanted.append(Wanted((False, entry.path), os.path.join(target, entry.path)))
    digest_files(wanted, session, sha256=False, on_file=on_file)
    equal: dict[str, Done] = {}
    for entry in entries:
        here, there = digests.get((True, entry.path)), digests.get((False, entry.path))
        if here is not None and here == there:
            equal[entry.path] = done(entry, here, os.lstat(target / entry.path))
    return equal


def _drop(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        drop_cached(fd, 0, 0)
    finally:
        os.close(fd)


class _Lying:
    """Files that really lie in the tree: not those seen through a symlink on the way, which may lead back."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._own: dict[str, bool] = {"": True}

    def status(self, path: str) -> os.stat_result | None:
        """Of the regular file ``path``; None where there is no such file."""
        folder = os.path.dirname(path)
        if folder not in self._own:
            place = os.path.join(self._root, folder)
            self._own[folder] = os.path.realpath(place) == place
        if not self._own[folder]:
            return None
        try:
            status = os.lstat(os.path.join(self._root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if stat.S_ISREG(status.st_mode) else None
