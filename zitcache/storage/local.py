"""A repository in a directory: on a local disk, or a network one that is mounted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from zitcache.errors import (
    IntegrityError,
    ObjectNotFound,
    ObjectTruncated,
    RepositoryNotFound,
    Unreachable,
    UsageError,
)
from zitcache.machine.direct import DirectAppender
from zitcache.machine.files import (
    PendingFile,
    drop_cached,
    nearest_existing,
    pread_into,
    sync_directory,
)
from zitcache.storage.descriptors import Descriptors
from zitcache.storage.folders import files_in, folders_in, size_of, translated
from zitcache.storage.names import TEMPORARY_PREFIX, check_name, is_name, is_temporary
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter

WRITER_FOLDER = "packs"
"""Where objects whose name is not known yet are written: on the file system of the packs they become."""


class LocalStorage:
    """Objects as files under ``directory``, which need not exist before the first write.

    Every write goes through :class:`~zitcache.machine.files.PendingFile`: all or no trace, ENOSPC and EIO at
    any call included; empty folders may stay. Raises only :class:`~zitcache.errors.ZitcacheError`.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = Path(os.path.abspath(directory))
        self._descriptors = Descriptors()
        with translated(f"opening {self._root}"):
            self._device = self._find()

    @property
    def location(self) -> str:
        """The absolute path of the directory."""
        return str(self._root)

    @property
    def is_remote(self) -> bool:
        """False: a disk, or a network one that the kernel reads ahead on."""
        return False

    @property
    def concurrency(self) -> int:
        """1: threads that compute ask for what they need when they need it."""
        return 1

    @property
    def directory(self) -> Path:
        """The absolute path of the directory."""
        return self._root

    def exists(self) -> bool:
        """Whether the directory is there. Raises ``UsageError`` if the path is something else."""
        with translated(f"opening {self._root}"):
            return self._find() is not None

    def require(self) -> None:
        """Raise ``RepositoryNotFound`` unless the directory is there."""
        if not self.exists():
            raise RepositoryNotFound(f"No repository was found at {self._root}: there is no such directory.")

    def store(self, name: str, data: Buffer) -> None:
        """See :meth:`Storage.store`. An object of another size (a damaged one) is replaced in one step."""
        path = self._path(name)
        size = memoryview(data).nbytes
        with translated(f"writing {path}"):
            found = size_of(path)
            if found == size:
                sync_directory(path.parent)  # whoever wrote it may have been killed before this
                return
            with self._pending(path.parent, size) as pending:
                pending.write(data)
                pending.commit(path, replace=found is not None)
            self._descriptors.forget(path)

    def create(self, name: str, data: Buffer) -> bool:
        """See :meth:`Storage.create`."""
        path = self._path(name)
        with translated(f"creating {path}"):
            if os.path.lexists(path):
                return False
            with self._pending(path.parent, memoryview(data).nbytes) as pending:
                pending.write(data)
                return pending.commit(path)

    def writer(self) -> ObjectWriter:
        """See :meth:`Storage.writer`."""
        folder = self._root / WRITER_FOLDER
        with translated(f"writing in {folder}"):
            return _Writer(self, self._pending(folder, None))

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.load`."""
        if offset < 0 or (length is not None and length < 0):
            raise IntegrityError(f"Bytes {offset}+{length} of {name} were asked for, which is no range.")
        path = self._path(name)
        with self._translated_reading(name, path), self._descriptors.reading(path) as file:
            wanted = max(file.size - offset, 0)
            wanted = wanted if length is None else min(wanted, length)
            parts: list[bytes] = []
            done = 0
            while done < wanted:
                part = os.pread(file.fd, wanted - done, offset + done)
                if not part:
                    break
                parts.append(part)
                done += len(part)
            if file.drop:
                drop_cached(file.fd, offset, done or 1)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Storage.load_into`."""
        if offset < 0:
            raise IntegrityError(f"Bytes from {offset} of {name} were asked for, which is no place.")
        path = self._path(name)
        with self._translated_reading(name, path), self._descriptors.reading(path) as file:
            count = pread_into(file.fd, buffer, offset)
            if file.drop:
                drop_cached(file.fd, offset, count or 1)
        if count < buffer.nbytes:
            raise ObjectTruncated(
                f"{path} is too short: {buffer.nbytes} bytes from {offset} were needed, {count} are there."
            )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`. Unfinished writes and foreign files are not objects."""
        folder = self._path(prefix)
        with translated(f"listing {folder}"):
            entries = files_in(folder)
        for entry, found in entries:
            if is_name(entry):
                yield ObjectInfo(f"{prefix}/{entry}", found.st_size, found.st_mtime)

    def info(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.info`."""
        path = self._path(name)
        with self._translated_reading(name, path):
            found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound(f"{path} is not a file.")
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        path = self._path(name)
        with translated(f"removing {path}"):
            self._remove(path)

    def stale_temporaries(self, max_age_seconds: float) -> tuple[str, ...]:
        """Names of what killed writers left behind: not written to for ``max_age_seconds``, oldest first."""
        limit = time.time() - max_age_seconds
        found: dict[str, float] = {}
        with translated(f"listing {self._root}"):
            for folder in ("", *filter(is_name, folders_in(self._root))):
                for entry, status in files_in(self._root / folder):
                    if is_temporary(entry) and status.st_mtime <= limit:
                        found[f"{folder}/{entry}".lstrip("/")] = status.st_mtime
        return tuple(sorted(found, key=found.__getitem__))

    def remove_temporary(self, name: str) -> None:
        """Remove one of :meth:`stale_temporaries`; no error when it is already gone."""
        folder, _, entry = name.rpartition("/")
        if not is_temporary(entry) or (folder and not is_name(folder)):
            raise UsageError(f"{name!r} is not an unfinished write of zitcache.")
        path = self._root / folder / entry
        with translated(f"removing {path}"):
            self._remove(path)

    def close(self) -> None:
        """Let go of open files, so that the disk can be unmounted. The storage can still be used."""
        self._descriptors.close()

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    def _find(self) -> int | None:
        """The device of the root; None if there is none. Raises ``UsageError`` if it is not a directory."""
        try:
            found = self._root.stat()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UsageError(
                f"{self._root} cannot be a repository: {nearest_existing(self._root)} is a file."
            ) from None
        if not stat.S_ISDIR(found.st_mode):
            raise UsageError(
                f"{self._root} cannot be a repository: it is a file.",
                hint="Name a directory on the data disk: zitcache init /path/on/the/data/disk",
            )
        return found.st_dev

    def _pending(self, folder: Path, size: int | None) -> PendingFile:
        drop = size is None
        try:
            return PendingFile(folder, prefix=TEMPORARY_PREFIX, size=size, drop_cache=drop)
        except FileNotFoundError:
            self._make(folder)
            return PendingFile(folder, prefix=TEMPORARY_PREFIX, size=size, drop_cache=drop)

    def _make(self, folder: Path) -> None:
        """Make ``folder`` and those above it durably, unless the disk they were on has been unmounted."""
        device = self._find()
        if self._device is not None and device != self._device:
            raise Unreachable(
                f"The disk that held {self._root} is gone.", hint="Mount it again, then run the same command."
            )
        missing = [folder]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            sync_directory(each.parent)
        self._device = self._find()

    def _remove(self, path: Path) -> None:
        self._descriptors.forget(path)
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError:
            return

    @contextmanager
    def _translated_reading(self, name: str, path: Path) -> Iterator[None]:
        with translated(f"reading {path}"):
            try:
                yield
            except FileNotFoundError:
                raise ObjectNotFound(f"{name} is missing from the repository {self._root}.") from None


class _Writer:
    """See :class:`~zitcache.storage.protocol.ObjectWriter`."""

    def __init__(self, storage: LocalStorage, pending: PendingFile) -> None:
        self._storage = storage
        self._pending = pending
        self._appender = DirectAppender(pending)

    def write(self, data: Buffer) -> None:
        with translated(f"writing {self._pending.path}"):
            self._appender.write(data)

    def commit(self, name: str) -> None:
        path = self._storage._path(name)
        with translated(f"writing {path}"):
            self._appender.finish()
            found = size_of(path)
            if found is None and not path.parent.is_dir():
                self._storage._make(path.parent)
            # One of another size is damaged, and this one, which has the right to the name, replaces it.
            replace = found is not None and found != self._pending.written
            self._pending.commit(path, replace=replace)
            self._storage._descriptors.forget(path)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pending.abort()
