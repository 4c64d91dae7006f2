"""What the target holds already: files that are good stay and are not read from the repository."""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.errors import UsageError, from_os_error
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.tasks.digesting import digest_files
from zitcache.tasks.reading import FileRead, Wanted


@dataclass(slots=True)
class Survey:
    """``kept``: entries that are right at the target; ``wanted``: all others. In the snapshot's order."""

    target: Path
    kept: list[TreeEntry] = field(default_factory=list)
    wanted: list[TreeEntry] = field(default_factory=list)
    metadata_differs: list[TreeEntry] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be written (modes and times apart)."""
        return not self.wanted

    def mend_metadata(self, session: Session) -> None:
        """Give files that are otherwise right their mode and time back; warn where that is not allowed."""
        for entry in reversed(self.metadata_differs):
            path = os.path.join(self.target, entry.real_path)
            try:
                os.chmod(path, entry.mode)
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
            except OSError as error:
                session.warn(
                    "metadata", f"Mode and time of {path} could not be set: {error.strerror or error}."
                )


def survey(target: Path, entries: Sequence[TreeEntry], session: Session) -> Survey:
    """Compare the target with the snapshot, reading the files whose size is right.

    Raises :class:`UsageError` where a directory stands in the place of a file or the other way round, also
    where a link stands in the place of a directory: writing through it would lead out of the target.
    """
    found = Survey(target)
    directories: set[str] = set()
    suspects: list[TreeEntry] = []
    good: set[str] = set()
    metadata: set[str] = set()
    first_names: dict[str, tuple[int, int]] = {}
    for entry in entries:
        path = os.path.join(target, entry.real_path)
        _require_directories_above(target, entry.real_path, directories)
        status = _lstat(path)
        if status is None:
            continue
        if (entry.kind == "directory") != stat.S_ISDIR(status.st_mode):
            raise _in_the_way(path, status, entry.kind)
        if entry.kind == "symlink":
            if stat.S_ISLNK(status.st_mode) and os.fsencode(os.readlink(path)) == os.fsencode(
                entry.real_target
            ):
                good.add(entry.real_path)
        elif entry.kind == "directory":
            good.add(entry.real_path)
        elif entry.kind == "hardlink":
            if first_names.get(entry.real_target) == (status.st_dev, status.st_ino):
                good.add(entry.real_path)
        elif stat.S_ISREG(status.st_mode):
            first_names[entry.real_path] = (status.st_dev, status.st_ino)
            if status.st_size == entry.size:
                suspects.append(entry)
        if entry.kind in {"file", "directory"} and stat.S_IMODE(status.st_mode) != entry.mode:
            metadata.add(entry.real_path)
        if entry.kind == "file" and status.st_mtime_ns != entry.mtime_ns:
            metadata.add(entry.real_path)
    good |= _hash(target, suspects, session)
    for entry in entries:
        path = entry.real_path
        is_good = path in good and (entry.kind != "hardlink" or entry.real_target in good)
        (found.kept if is_good else found.wanted).append(entry)
        if is_good and path in metadata:
            found.metadata_differs.append(entry)
    return found


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error


def _require_directories_above(target: Path, path: str, known: set[str]) -> None:
    """``known``: what was looked at before. A snapshot need not list the directories it puts files into."""
    above: list[str] = []
    parent = posixpath.dirname(path)
    while parent and parent not in known:
        above.append(parent)
        parent = posixpath.dirname(parent)
    for parent in reversed(above):
        full_path = os.path.join(target, parent)
        status = _lstat(full_path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise _in_the_way(full_path, status, "directory")
        known.add(parent)


def _in_the_way(path: str, status: os.stat_result, kind: str) -> UsageError:
    names = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link", stat.S_IFREG: "file"}
    what = names.get(stat.S_IFMT(status.st_mode), "special file")
    return UsageError(
        f"{path} is a {what}, but a {kind} in the snapshot. Nothing was changed.",
        hint="Move it away, or restore elsewhere: zitcache restore --to DIR",
    )


def _hash(target: Path, entries: Sequence[TreeEntry], session: Session) -> set[str]:
    """The paths of those files whose BLAKE3 is that of the snapshot."""
    if not entries:
        return set()
    good: set[str] = set()
    lock = threading.Lock()

    def on_file(read: FileRead[TreeEntry]) -> None:
        if read.digests is not None and read.digests.blake3 == read.key.blake3:
            with lock:
                good.add(read.key.real_path)

    session.progress.stage("Looking at what is there", sum(entry.size for entry in entries))
    wanted = [Wanted(entry, os.path.join(target, entry.real_path)) for entry in entries]
    digest_files(wanted, session, sha256=False, on_file=on_file)
    return good
