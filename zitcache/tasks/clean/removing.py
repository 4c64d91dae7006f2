"""Take one candidate away, so that an interruption leaves it whole or gone, and a change in the last moment
leaves it where it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from zitcache.machine.trees import remove_tree, temporary_name
from zitcache.tasks.clean.candidate import Candidate
from zitcache.tasks.clean.footprint import Footprint, measure
from zitcache.tasks.clean.guard import Guard, lock_files

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LOCKS = 256
_CHANGED = "It changed while zitcache was at work."


@dataclass(frozen=True, slots=True)
class Removal:
    """``kept``: why it is still there, None if it went. ``failed``: it should have gone, and could not.
    ``freed_bytes``: what the disk got back."""

    freed_bytes: int = 0
    kept: str | None = None
    failed: bool = False


def remove(candidate: Candidate, planned: Footprint, guard: Guard, now: float) -> Removal:
    """Remove ``candidate`` if nothing about it has changed since ``planned``, and nobody needs or uses it."""
    guard.refresh()
    verdict = guard.look(candidate, now)
    if verdict is None:
        return Removal(kept="It was gone already.")
    if verdict.keep is not None:
        return Removal(kept=verdict.keep)
    if verdict.footprint.signature != planned.signature:
        return Removal(kept=_CHANGED)
    try:
        with _held(candidate) as is_free:
            if not is_free:
                return Removal(kept="It is in use: somebody has taken its lock.")
            return _take_away(candidate, verdict.footprint)
    except OSError as error:
        return Removal(kept=f"It could not be removed: {error.strerror or error}.", failed=True)


@contextlib.contextmanager
def _held(candidate: Candidate) -> Iterator[bool]:
    """Hold the locks that guard ``candidate``, so that no download or restore begins meanwhile."""
    with contextlib.ExitStack() as stack:
        for lock in lock_files(candidate.locks)[:_MOST_LOCKS]:
            try:
                fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            stack.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
        yield True


def _take_away(candidate: Candidate, expected: Footprint) -> Removal:
    parent, name = os.path.split(candidate.path)
    if candidate.names is not None:
        folder = os.open(candidate.path, _OPEN_FOLDER)
        try:
            for inner in candidate.names:
                _unlink_known(folder, inner, expected)
        finally:
            os.close(folder)
        return Removal(expected.size_bytes)
    folder = os.open(parent, _OPEN_FOLDER)
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return _remove_folder(folder, candidate, expected)
        _unlink_known(folder, name, expected)
        os.fsync(folder)
        return Removal(expected.size_bytes)
    finally:
        os.close(folder)


def _unlink_known(folder: int, name: str, expected: Footprint) -> None:
    """Unlink a file that was looked at before; one that has taken its name since is left alone."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (status.st_dev, status.st_ino) in expected.inodes:
            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _remove_folder(parent: int, candidate: Candidate, expected: Footprint) -> Removal:
    """Put the folder aside with one rename, make sure that it is still what was looked at, and remove it.

    Half a package cache is worse than none: after the rename it is gone for everybody, and what a kill leaves
    is a name of ours that the next ``clean`` finds.
    """
    above, name = os.path.split(candidate.path)
    aside = temporary_name()
    os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
    path = f"/proc/self/fd/{parent}/{aside}"
    found = measure(Candidate(path, candidate.kind, candidate.reason), os.geteuid())
    if found is None or found.problem is not None or found.signature != expected.signature:
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
            return Removal(kept=_CHANGED)
        return Removal(kept=f"{_CHANGED} It is now {os.path.join(above, aside)}.", failed=True)
    remove_tree(path)
    os.fsync(parent)
    return Removal(expected.size_bytes)
