"""The one moment in which the old path changes: from the directory to a symlink, or back."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import UsageError, from_os_error
from zitcache.machine.files import exchange, remove_tree, sync_directory, temporary_name
from zitcache.tasks.migrate.names import JOURNAL_NAME, old_place
from zitcache.tasks.migrate.places import Ends, kind_at
from zitcache.tasks.migrate.structure import replace_by_symlink

_CANNOT_MOVE = {errno.EXDEV, errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL}
_WHY = {
    errno.EXDEV: "it came with the image of the container, whose directories cannot be renamed",
    errno.EBUSY: "it is a mount point",
    errno.EACCES: "its parent directory may not be written",
    errno.EPERM: "its parent directory may not be written",
    errno.EROFS: "its disk is mounted read-only",
}


@dataclass(frozen=True, slots=True)
class Switched:
    """``linked``: the old path is a symlink now. ``old``: where the old tree is. ``reason``: if not."""

    linked: bool
    old: Path | None
    reason: str = ""


def link(ends: Ends) -> Switched:
    """Make the old path a symlink to the target, in one step where the file system can. Idempotent.

    Where it cannot be renamed, nothing changes and ``reason`` says why. Raises what the disk refuses.
    """
    source, target, old = ends.source, ends.target, ends.old
    try:
        kind = kind_at(source)
        if ends.is_linked:
            _drop_link(old)
            return Switched(True, old if kind_at(old) == "directory" else None)
        if kind == "directory":
            if os.path.ismount(source):
                return Switched(False, source, _WHY[errno.EBUSY])
            if kind_at(old) == "directory":
                raise UsageError(
                    f"{old} is in the way: the old copy of an earlier migration.",
                    hint=f"Look at it, then remove it: rm -r {old}",
                )
            return _swap(source, target, old)
        if kind is None:
            source.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(target, source)
        elif kind == "symlink" and not os.path.exists(source):
            replace_by_symlink(source, os.fspath(target))  # it led nowhere
        else:
            raise UsageError(
                f"{source} is something else now, and stays as it is: {_described(source, kind)}.",
                hint=f"Look at it: ls -ld {source}",
            )
        sync_directory(source.parent)
        return Switched(True, old if kind_at(old) == "directory" else None)
    except OSError as error:
        raise from_os_error(error, f"linking {source} to {target}") from error


def _swap(source: Path, target: Path, old: Path) -> Switched:
    try:
        _drop_link(old)
        os.symlink(target, old)
        sync_directory(source.parent)
    except OSError as error:
        if error.errno in _CANNOT_MOVE:
            return Switched(False, source, _WHY.get(error.errno, str(error.strerror)))
        raise
    try:
        if not exchange(old, source):
            # No atomic swap here. Killed in between, the next run finds the old tree beside, and no source.
            os.unlink(old)
            os.rename(source, old)
            try:
                os.symlink(target, source)
            except OSError:
                os.rename(old, source)
                raise
    except OSError as error:
        _drop_link(old)
        if error.errno in _CANNOT_MOVE:
            return Switched(False, source, _WHY.get(error.errno, str(error.strerror)))
        raise
    sync_directory(source.parent)
    return Switched(True, old)


def rename_whole(ends: Ends) -> bool:
    """Move the tree to the target by renaming, in steps after each of which the old path leads to it.

    Any step may be the first: what an interrupted run left is gone on with. False, and nothing changed, where
    it cannot be renamed there. Raises what the disk refuses.
    """
    source, target, old = ends.source, ends.target, ends.old
    try:
        if kind_at(source) == "directory":
            target.parent.mkdir(parents=True, exist_ok=True)
            if not can_rename_between(source.parent, target.parent) or os.path.ismount(source):
                return False
            if kind_at(target) == "directory":
                remove_tree(target / JOURNAL_NAME)
                target.rmdir()
            if kind_at(target) is None:
                os.symlink(old, target)  # leads to where the tree will be in a moment
            _drop_link(old)
            os.symlink(target, old)
            sync_directory(source.parent)
            try:
                swapped = exchange(old, source)
            except OSError as error:
                if error.errno not in _CANNOT_MOVE:
                    raise
                swapped = False
            if not swapped:
                os.unlink(old)
                os.unlink(target)
                return False
            sync_directory(source.parent)
        if kind_at(target) == "symlink" and kind_at(old) == "directory":
            if not exchange(target, old):
                raise OSError(errno.EINVAL, "The file system swapped names once, and not again")
            sync_directory(target.parent)
        _drop_link(old)
        sync_directory(source.parent)
        return True
    except OSError as error:
        raise from_os_error(error, f"renaming {source} to {target}") from error


def swap_back(source: Path, tree: Path) -> None:
    """Give directory ``tree`` the name ``source``, now a symlink or nothing. Raises what the disk refuses."""
    try:
        kind = kind_at(source)
        if kind == "symlink":
            if exchange(tree, source):
                sync_directory(source.parent)
                os.unlink(tree)
            else:
                # Killed in between, the next run finds the tree beside, and no source.
                os.unlink(source)
                os.rename(tree, source)
        else:
            os.rename(tree, source)
        sync_directory(source.parent)
    except OSError as error:
        raise from_os_error(error, f"putting the cache back at {source}") from error


def forget_link_beside(source: Path) -> None:
    """Remove the symlink that a killed swap left at the place of the old copy."""
    with contextlib.suppress(OSError):
        _drop_link(old_place(source))


def _drop_link(path: Path) -> None:
    if os.path.islink(path):
        path.unlink()


def can_rename_between(a: Path, b: Path) -> bool:
    """Whether a directory can be renamed from ``a`` to ``b``, tried with an empty one."""
    here, there = a / temporary_name(), b / temporary_name()
    try:
        here.mkdir(mode=0o700)
    except OSError:
        return False
    try:
        here.rename(there)
    except OSError:
        here.rmdir()
        return False
    there.rmdir()
    return True


def _described(path: Path, kind: str) -> str:
    if kind == "symlink":
        return f"a symlink to {os.readlink(path)}"
    return f"a {stat.filemode(os.lstat(path).st_mode)} {kind}"
