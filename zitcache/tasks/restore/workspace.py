"""The staging place of a target: where it is, whose turn it is, and what a killed run left there.

It lies beside the target, or inside where the target itself cannot be renamed (a mount point). Its name
follows from the target alone, so that two restores to one target meet at its lock, and a later one finds
what an earlier one has fetched, of whatever snapshot: pieces are known by their content.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from zitcache.errors import Locked, UsageError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import remove_tree, temporary_name, write_durably
from zitcache.machine.mounts import mount_of, mounts

PREFIX = ".zitcache-restore"
_BELONGS = ".belongs-to"
DONE = ".done-"
_LONGEST_NAME = 160
_ATTEMPTS = 16
_LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Workspace:
    """``tree``: what is being built, with paths as in the target. ``old``: what had to step aside."""

    def __init__(self, target: Path) -> None:
        try:
            points = {mount.mount_point for mount in mounts()}
            self.target = target
            self.target_exists = os.path.lexists(target)
            self.inner_mounts = tuple(sorted(point for point in points if point.startswith(f"{target}/")))
            self.is_layered = mount_of(target).fstype in _LAYERED
            self.is_beside = not self.target_exists or (str(target) not in points and _is_renamable(target))
        except OSError as error:
            raise from_os_error(error, f"looking at {target}") from error
        self.directory = target.parent / _name(target) if self.is_beside else target / PREFIX
        self.tree = self.directory / "tree"
        self.old = self.directory / "old"

    @property
    def can_swap_whole(self) -> bool:
        """Whether the target as a whole can be put in place with one rename."""
        if not self.target_exists:
            return True
        # overlayfs refuses to rename directories of a lower layer, and copies files up to link them.
        return self.is_beside and not self.is_layered and not self.inner_mounts

    @contextlib.contextmanager
    def locked(self, session: Session) -> Iterator[None]:
        """Make the place, keep other restores to this target out, mend what a killed one left half done.

        The place is removed when all went well, and kept for the next run when something is staged in it.
        Raises :class:`Locked`, and ``CredentialsError`` or ``NoSpace`` where nothing can be written.
        """
        made: list[Path] = []
        try:
            lock = self._lock(made)
        except OSError as error:
            _remove_empty(made)
            raise from_os_error(error, f"making the staging place {self.directory}") from error
        try:
            self._remove_leftovers()
            self._recover()
            yield
        except BaseException:
            if not (os.path.lexists(self.tree) or os.path.lexists(self.old)):
                with contextlib.suppress(OSError):
                    self._remove()
                    _remove_empty(made)
            raise
        else:
            try:
                self._remove()
            except OSError as error:
                reason = error.strerror or error
                session.warn(
                    "leftover",
                    f"The staging place {self.directory} could not be removed: {reason}.",
                    f"See what is in it: ls -la {self.directory.parent}",
                )
        finally:
            os.close(lock)

    def park(self, live: Path) -> Path:
        """Rename ``live`` out of the way, after writing down where it belongs. Raises ``OSError``."""
        self.old.mkdir(exist_ok=True)
        number = sum(1 for name in os.listdir(self.old) if name.endswith(_BELONGS))
        write_durably(self.old / f"{number}{_BELONGS}", os.fsencode(live))
        parked = self.old / str(number)
        os.rename(live, parked)
        return parked

    def _lock(self, made: list[Path]) -> int:
        for _ in range(_ATTEMPTS):
            self._make(made)
            try:
                lock = os.open(
                    self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
            except FileNotFoundError:
                continue  # another restore has just finished and removed the place
            try:
                self._take(lock)
                if self._is_current(lock):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
        raise Locked(f"Other restores to {self.target} come and go.", hint="Run this again in a moment.")

    def _make(self, made: list[Path]) -> None:
        missing = [self.directory]
        while not os.path.lexists(missing[-1].parent):
            missing.append(missing[-1].parent)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700 if folder == self.directory else 0o777)
                made.append(folder)
        if self.directory.is_symlink() or not self.directory.is_dir():
            raise UsageError(
                f"{self.directory} is in the way: it is not a directory that zitcache made.",
                hint=f"Look at it, then remove it: ls -ld {self.directory}",
            )

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return  # some network file systems; staging is then only as safe as its single user
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Locked(
                f"Another restore to {self.target} is running.",
                hint="Wait for it to end, then run this again.",
            ) from None

    def _is_current(self, lock: int) -> bool:
        """Whether the locked file is the one that others will open: its place may have been removed."""
        try:
            found = os.lstat(self.directory / "lock")
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(lock))

    def _remove(self) -> None:
        """Away with it, under another name first: whoever comes next makes a new one with a new lock."""
        trash = self.directory.with_name(temporary_name(self.directory.name + DONE))
        os.rename(self.directory, trash)
        remove_tree(trash)

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory.parent):
                if name.startswith(self.directory.name + DONE):
                    remove_tree(self.directory.parent / name)

    def _recover(self) -> None:
        """Put back what a kill between the two renames of a switch left parked."""
        try:
            for note in sorted(self.old.glob(f"*{_BELONGS}")):
                live = Path(os.fsdecode(note.read_bytes()))
                parked = self.old / note.name.removesuffix(_BELONGS)
                belongs_here = live == self.target or self.target in live.parents
                if belongs_here and os.path.lexists(parked) and not os.path.lexists(live):
                    os.rename(parked, live)
        except OSError as error:
            raise from_os_error(
                error, f"recovering what an interrupted restore left in {self.old}"
            ) from error


def _name(target: Path) -> str:
    """Beside the target, its name tells it from its neighbours; a long one is shortened to stay a name."""
    raw = os.fsencode(target.name)
    if len(raw) <= _LONGEST_NAME:
        return f"{PREFIX}-{target.name}"
    return f"{PREFIX}-{os.fsdecode(raw[:32])}-{sha256(raw).hexdigest()[:32]}"


def _is_renamable(target: Path) -> bool:
    """Whether the target can be renamed within its parent."""
    same_device = os.lstat(target).st_dev == os.lstat(target.parent).st_dev
    return same_device and os.access(target.parent, os.W_OK | os.X_OK, effective_ids=True)


def _remove_empty(made: list[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()
