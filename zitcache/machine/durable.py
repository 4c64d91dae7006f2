"""Files that survive a power cut: all of it under its final name, or no trace.

The order: temporary file in the same directory, preallocate, write, length check, fsync, rename, fsync of
the directory. A failed fsync is never tried again: Linux drops the dirty pages and the second call lies
(https://wiki.postgresql.org/wiki/Fsync_Errors). Write again instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType

from zitcache.machine.pagecache import drop_cached
from zitcache.machine.raw import Buffer, preallocate, sync_directory, write_all
from zitcache.machine.renames import rename_noreplace
from zitcache.machine.trees import TEMPORARY_PREFIX, temporary_name

_ATTEMPTS = 8


class PendingFile:
    """A file being written under a temporary name in ``directory``, on the file system of its final name.

    ``size``: bytes to reserve on the disk, if known. ``drop_cache``: let go of its pages once they are on the
    disk. Leaving the ``with`` block without :meth:`commit` removes it. Raises ``OSError``.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        prefix: str = TEMPORARY_PREFIX,
        mode: int = 0o666,
        size: int | None = None,
        drop_cache: bool = False,
    ) -> None:
        self.path = Path(directory, temporary_name(prefix))
        self.written = 0
        """Bytes given to :meth:`write`."""
        self._reserved = size
        self._drop_cache = drop_cache
        self._fd = -1
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        if size:
            try:
                preallocate(self._fd, size)
            except BaseException:
                self.abort()
                raise

    @property
    def fd(self) -> int:
        """The open descriptor, for ``pwrite``. Raises ``ValueError`` after commit or abort."""
        if self._fd < 0:
            raise ValueError("The pending file is closed.")
        return self._fd

    def write(self, buffer: Buffer) -> None:
        """Append ``buffer``. On an error the file is gone."""
        try:
            write_all(self.fd, buffer)
        except BaseException:
            self.abort()
            raise
        self.written += memoryview(buffer).nbytes

    def commit(
        self, final_path: str | os.PathLike[str], *, size: int | None = None, replace: bool = False
    ) -> bool:
        """Make the file durable as ``final_path``; on an error no trace of it is left.

        ``size``: the length it must have (default: what was reserved or given to :meth:`write`). Returns
        whether it is this file that now has the name: without ``replace``, one that is there already is kept
        (and its name made durable), and this one is removed.
        """
        final = Path(final_path)
        try:
            self._settle(size)
            if replace:
                self.path.replace(final)
                sync_directory(final.parent)
                self._close()
                return True
            return self._commit_new(final)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove the temporary file. Does nothing after a commit; never raises ``OSError``."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            self._close()

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def __del__(self) -> None:
        # Forgotten without commit or abort, as after a kill: the descriptor goes, the file stays as it is.
        with contextlib.suppress(OSError):
            if self._fd >= 0:
                self._close()

    def _settle(self, size: int | None) -> None:
        """Check the length, and bring the content to the disk."""
        if size is None:
            size = self._reserved if self._reserved is not None else (self.written or None)
        found = os.fstat(self.fd).st_size
        if size is not None and (found != size or self.written not in (0, size)):
            raise OSError(
                errno.EIO, f"{self.written or found} of {size} bytes were written", os.fspath(self.path)
            )
        os.fsync(self.fd)
        if self._drop_cache:
            drop_cached(self.fd, 0, 0)

    def _commit_new(self, final: Path) -> bool:
        for _ in range(_ATTEMPTS):
            try:
                rename_noreplace(self.path, final)
            except FileExistsError:
                # Its writer may not have synced the directory yet, or may fail to and take the name back.
                sync_directory(final.parent)
                if os.path.lexists(final):
                    self.abort()
                    return False
                continue
            try:
                sync_directory(final.parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    final.unlink()
                raise
            self._close()
            return True
        raise OSError(errno.EBUSY, "The name comes and goes", os.fspath(final))

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


def write_durably(path: str | os.PathLike[str], data: Buffer, *, mode: int = 0o666) -> None:
    """Write ``data`` as ``path``, replacing what is there in one step. ``mode`` is subject to the umask.

    Raises ``OSError``; then ``path`` is as it was (unless the last step, the sync of the directory, failed).
    """
    final = Path(path)
    with PendingFile(final.parent, mode=mode, size=memoryview(data).nbytes) as pending:
        pending.write(data)
        pending.commit(final, replace=True)


def create_durably(path: str | os.PathLike[str], data: Buffer, *, mode: int = 0o666) -> bool:
    """Write ``data`` as ``path`` unless that exists: False, and nothing changed, if it does.

    Of several that try at once, exactly one succeeds, on file systems without hard links too (see
    :func:`~zitcache.machine.renames.rename_noreplace`). Raises ``OSError``; then no trace is left.
    """
    final = Path(path)
    if os.path.lexists(final):
        return False
    with PendingFile(final.parent, mode=mode, size=memoryview(data).nbytes) as pending:
        pending.write(data)
        return pending.commit(final)
