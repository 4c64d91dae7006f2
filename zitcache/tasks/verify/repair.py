"""Put right what is damaged or missing: each file is built in a copy beside it, then renamed over it.

The copy takes the good pieces from the damaged file and the bad ones from the repository; it counts only if
the BLAKE3 of the whole is right. A kill at any moment leaves the old file or the new one under the name, and
the next run goes on with the copy. The live file itself is never written to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zitcache.errors import Locked, NoSpace, from_os_error
from zitcache.events import Session
from zitcache.machine.files import sync_directory
from zitcache.machine.mounts import free_space
from zitcache.repository.records import TreeEntry
from zitcache.tasks.fetching import FetchTask, fetch_files
from zitcache.tasks.reading import Identity
from zitcache.tasks.verify.findings import Findings
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.reference import Reference
from zitcache.tasks.verify.repair_plan import PREFIX, FileRepair, plan_repair

_BATCH_BYTES = 1 << 30
_STEP_BYTES = 1 << 20
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}


_Maker = Callable[[TreeEntry, str], bool]
"""Makes a link for an entry under the given name; False if it cannot be."""


class Repair:
    """One run of repairs. ``failed``: by path, why something could not be put right."""

    def __init__(self, reference: Reference, live: Live, findings: Findings, session: Session) -> None:
        self._reference = reference
        self._live = live
        self._root = live.scope.root
        self._session = session
        self._findings = findings
        self._done: set[str] = set()
        self.plan = plan_repair(reference, live, findings)
        self.failed: dict[str, str] = dict(self.plan.impossible)

    def run(self) -> None:
        """Repair everything that can be; marks it in the findings.

        Raises ``Locked``, ``NoSpace``, ``CredentialsError``, ``Interrupted``, …: what was finished stays, and
        the next run goes on.
        """
        with _lock(self._root):
            for batch in _batches(self.plan.files):
                self._require_space(batch)
                self._fetch(batch)
            for entry in self.plan.hard_links:
                self._session.cancel.check()
                self._put(entry, self._make_hard_link)
            for entry in self.plan.symlinks:
                self._put(entry, self._make_symlink)
            self._remove_old_copies()
        self._mark()

    def _fetch(self, batch: Sequence[FileRepair]) -> None:
        repairs = {}
        for repair in batch:
            if self._make_parents(repair.entry):
                repairs[repair.copy] = repair
        tasks = [FetchTask(repair.entry, repair.copy, repair.candidate) for repair in repairs.values()]
        self._session.progress.stage("Repairing", sum(repair.entry.size for repair in repairs.values()))
        fetched = fetch_files(
            self._reference.repository,
            tasks,
            self._session,
            lambda task: self._place(repairs[task.destination]),
        )
        for repair in repairs.values():
            reason = fetched.failed.get(repair.entry.real_path)
            if reason is not None:
                self._give_up(repair, f"the repository's copy is damaged, too: {reason}")
        self._findings.bytes_read += fetched.bytes_from_repository

    def _place(self, repair: FileRepair) -> None:
        """Rename a finished copy over the file. Runs in a thread."""
        try:
            if repair.sha256 is not None and _sha256_of(repair.copy) != repair.sha256:
                self._give_up(repair, "what the snapshot holds is not what the blob's name asks for, either")
                return
            found = _lstat(repair.target)
            if found is not None and stat.S_ISDIR(found.st_mode):
                self._give_up(repair, "a directory is in its place")
                return
            now = Identity.of(found) if found is not None else None
            arrived = repair.was_missing and found is not None and stat.S_ISREG(found.st_mode)
            if arrived or (repair.candidate == repair.target and now != repair.old):
                self._give_up(repair, "something else wrote to it meanwhile")
                return
            if found is not None:
                with contextlib.suppress(OSError):
                    os.chown(repair.copy, found.st_uid, found.st_gid)
            os.replace(repair.copy, repair.target)
            sync_directory(os.path.dirname(repair.target))
        except OSError as error:
            raise from_os_error(error, f"putting the repaired {repair.target} in place") from error
        self._done.add(repair.entry.real_path)

    def _give_up(self, repair: FileRepair, reason: str) -> None:
        self.failed[repair.entry.real_path] = reason
        with contextlib.suppress(OSError):
            os.unlink(repair.copy)

    def _make_parents(self, entry: TreeEntry) -> bool:
        """Make the directories above ``entry``; False if something else stands in the way of one."""
        path = ""
        try:
            for part in entry.real_path.split("/")[:-1]:
                path = f"{path}/{part}" if path else part
                full = self._live.full_path(path)
                found = _lstat(full)
                if found is None:
                    os.mkdir(full)
                    known = self._reference.entries.get(path)
                    if known is not None:
                        os.chmod(full, known.mode)
                    sync_directory(os.path.dirname(full))
                elif not stat.S_ISDIR(found.st_mode):
                    # Followed, a link would lead the repair out of the cache.
                    self.failed[entry.real_path] = f"{path} is not a directory"
                    return False
        except OSError as error:
            raise from_os_error(error, f"making {self._live.full_path(path)}") from error
        return True

    # -- links --------------------------------------------------------------------------------------

    def _put(self, entry: TreeEntry, make: _Maker) -> None:
        """Make a link under a name of its own, then rename it over the old name."""
        path = entry.real_path
        target = self._live.full_path(path)
        new = os.path.join(os.path.dirname(target), PREFIX + os.urandom(12).hex())
        if not self._make_parents(entry):
            return
        try:
            found = _lstat(target)
            if found is not None and stat.S_ISDIR(found.st_mode):
                self.failed[path] = "a directory is in its place"
                return
            if not make(entry, new):
                return
            os.replace(new, target)
            # Where both names are one file already, rename(2) does nothing at all.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            sync_directory(os.path.dirname(target))
        except OSError as error:
            raise from_os_error(error, f"putting the repaired {target} in place") from error
        self._done.add(path)

    def _make_symlink(self, entry: TreeEntry, new: str) -> bool:
        os.symlink(entry.real_target, new)
        os.utime(new, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        return True

    def _make_hard_link(self, entry: TreeEntry, new: str) -> bool:
        first = entry.real_target
        source = self._live.full_path(first)
        if first in self.failed or not _is_regular(source) or self._is_still_wrong(first):
            self.failed[entry.real_path] = f"{first}, of which it is a second name, could not be repaired"
            return False
        try:
            os.link(source, new, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            shutil.copy2(source, new, follow_symlinks=False)
            with open(new, "rb") as copied:
                os.fsync(copied.fileno())
        return True

    def _is_still_wrong(self, path: str) -> bool:
        return path not in self._done and self._findings.is_wrong(path)

    # -- around it ----------------------------------------------------------------------------------

    def _require_space(self, batch: Sequence[FileRepair]) -> None:
        """Fail before anything is written if the copies cannot fit."""
        needed = sum(max(0, repair.entry.size - _allocated(repair.copy)) for repair in batch)
        free = free_space(self._root).bytes_free
        if free < needed:
            raise NoSpace(
                f"Repairing {batch[0].entry.path} needs {needed / 1e9:.2f} GB for a copy beside it; the disk "
                f"has {free / 1e9:.2f} GB free. It was not touched.",
                hint="Free some space, then run the same command again.",
            )

    def _remove_old_copies(self) -> None:
        """Copies that an earlier run left, which nothing needs any more."""
        for path in self._live.left_out:
            if self._live.scope.covers(path) and os.path.basename(path).startswith(PREFIX):
                with contextlib.suppress(OSError):
                    os.unlink(self._live.full_path(path))

    def _mark(self) -> None:
        findings = self._findings
        for wrong in findings.wrong:
            names = [path for path in (wrong.path, *wrong.others) if path in self._reference.entries]
            wrong.repaired = wrong.repairable and all(path in self._done for path in names)
        back = [path for path in findings.missing if path in self._done]
        findings.restored = sorted(back, key=os.fsencode)
        for path in back:
            findings.missing.discard(path)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_regular(path: str) -> bool:
    found = _lstat(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _allocated(path: str) -> int:
    found = _lstat(path)
    return found.st_blocks * 512 if found is not None else 0


def _sha256_of(path: str) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_STEP_BYTES):
            hasher.update(data)
    return hasher.hexdigest()


def _batches(repairs: Sequence[FileRepair]) -> Iterator[list[FileRepair]]:
    """Small files together, large ones alone: a nearly full disk holds one copy, not all of them."""
    batch: list[FileRepair] = []
    for repair in repairs:
        if batch and sum(one.entry.size for one in [*batch, repair]) > _BATCH_BYTES:
            yield batch
            batch = []
        batch.append(repair)
    if batch:
        yield batch


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Keep other repairs of this cache out. Where directories cannot be locked, nothing is."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                f"Another zitcache is repairing {root}.", hint="Wait for it to end, then run this again."
            ) from None
        except OSError:
            pass  # NFS needs a writable descriptor, which directories do not have
        yield
    finally:
        os.close(fd)
