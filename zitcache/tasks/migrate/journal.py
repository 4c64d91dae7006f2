"""What a migration has done so far, kept in the tree that it writes, so that the next run goes on there.

``.zitcache-migrating/`` holds ``plan.json`` (what moves from where), ``done.jsonl`` (one line for each file
that was copied and read back, appended), and ``lock``. It is untrusted input: lines that make no sense are
passed over, and a line only counts for a file of that name, size and times in the cache at hand.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.errors import IntegrityError, Locked, UsageError, from_os_error
from zitcache.machine.files import remove_tree, sync_directory, write_all, write_durably
from zitcache.repository.records import Path as PathText
from zitcache.repository.records import decode_record, portable, real_name
from zitcache.tasks.migrate.listing import Entry
from zitcache.tasks.migrate.names import JOURNAL_NAME
from zitcache.tasks.reading import Identity

_MAX_PLAN_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 16
_MAX_JOURNAL_BYTES = 1 << 30
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}

Method = Literal["copy", "reflink", "rename"]
Direction = Literal["there", "back"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What moves: the tree at ``source`` to ``target``. ``direction`` "back": an undo."""

    format: Literal["zitcache-migration-journal"] = "zitcache-migration-journal"
    version: Literal[1] = 1
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    direction: Direction = "there"
    source: PathText
    target: PathText
    source_bytes: str | None = None
    target_bytes: str | None = None
    method: Method

    @property
    def real_source(self) -> Path:
        """Where the tree comes from."""
        return Path(real_name(self.source, self.source_bytes))

    @property
    def real_target(self) -> Path:
        """Where it goes."""
        return Path(real_name(self.target, self.target_bytes))


class Done(msgspec.Struct, frozen=True, array_like=True):
    """A file that was copied and found right when it was read back.

    The first numbers are the identity of the original, the last two size and mtime of the copy as its file
    system keeps them.
    """

    path: PathText
    path_bytes: str | None
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    blake3: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
    copy_size: int
    copy_mtime_ns: int

    @property
    def identity(self) -> Identity:
        """The original when it was read."""
        return Identity(self.size, self.mtime_ns, self.ctime_ns, self.inode)


def done(entry: Entry, blake3: str, copy: os.stat_result) -> Done:
    """The line for ``entry``, whose copy has the status ``copy``."""
    text, raw = portable(entry.path)
    identity = entry.identity
    return Done(
        text,
        raw,
        identity.size,
        identity.mtime_ns,
        identity.ctime_ns,
        identity.inode,
        blake3,
        copy.st_size,
        copy.st_mtime_ns,
    )


def read_plan(root: Path) -> Plan | None:
    """The plan of the unfinished migration in the tree ``root``; None if there is none.

    Raises :class:`~zitcache.errors.IntegrityError` if it makes no sense.
    """
    path = root / JOURNAL_NAME / "plan.json"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    with os.fdopen(fd, "rb") as file:
        try:
            data = file.read(_MAX_PLAN_BYTES)
        except OSError as error:
            raise from_os_error(error, f"reading {path}") from error
    return decode_record(data, Plan, f"migration journal {path}")


def now() -> str:
    """The time in UTC, ISO 8601, microseconds."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


class Journal:
    """The open, locked journal of the tree ``root``. ``done``: by path, what earlier runs finished."""

    def __init__(self, root: Path) -> None:
        self.directory = root / JOURNAL_NAME
        self.done: dict[str, Done] = {}
        self._log = -1
        self._lock = -1
        self._writing = threading.Lock()

    def open(self, plan: Plan) -> Plan:
        """Make the journal and lock it, or take up the one there; returns its plan.

        Raises ``Locked`` while another run works on this tree, ``UsageError`` if something else has the name
        of the journal, and ``OSError``.
        """
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(self.directory).st_mode):
                raise UsageError(
                    f"{self.directory} is in the way: it is not a folder that zitcache made.",
                    hint=f"Look at it, then remove it: ls -ld {self.directory}",
                ) from None
        self._lock = os.open(
            self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        take_lock(self._lock, self.directory.parent)
        found = read_plan(self.directory.parent)
        if found is None:
            self.save(plan)
            sync_directory(self.directory.parent)
            found = plan
        self.load()
        self._log = os.open(
            self.directory / "done.jsonl",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        write_all(self._log, b"\n")  # ends a line that a killed run began
        return found

    def save(self, plan: Plan) -> None:
        """Write the plan durably. Raises ``OSError``."""
        write_durably(self.directory / "plan.json", msgspec.json.encode(plan) + b"\n", mode=0o600)

    def record(self, finished: Iterable[Done]) -> None:
        """Add lines, and bring them to the disk. Called from any thread. Raises ``OSError``."""
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in finished)
        if data:
            with self._writing:
                write_all(self._log, data)
                os.fdatasync(self._log)

    def move(self, root: Path) -> None:
        """The tree has another name now."""
        self.directory = root / JOURNAL_NAME

    def remove(self) -> None:
        """All is done: away with it. Raises ``OSError``."""
        # Without a plan it is nothing any more, whatever else is left of it.
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "plan.json").unlink()
        remove_tree(self.directory)
        sync_directory(self.directory.parent)

    def close(self) -> None:
        """Give back the lock."""
        for fd in (self._log, self._lock):
            if fd >= 0:
                os.close(fd)
        self._log = self._lock = -1

    def load(self) -> None:
        """Read what earlier runs finished. Raises ``OSError``."""
        path = self.directory / "done.jsonl"
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_JOURNAL_BYTES)
        except FileNotFoundError:
            return
        decoder = msgspec.json.Decoder(Done)
        for line in data.split(b"\n"):
            if line and len(line) <= _MAX_LINE_BYTES:
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, IntegrityError):
                    read = decoder.decode(line)
                    self.done[real_name(read.path, read.path_bytes)] = read


def take_lock(fd: int, place: Path) -> None:
    """Lock the open file or directory. Raises ``Locked`` while another run has it.

    Some network file systems have no locks: there a tree is only as safe as its single user.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise Locked(
            f"Another migration works on {place}.", hint="Wait for it to end, then run this again."
        ) from None
