"""The one moment in which the target changes: loose files first, then each unit with one rename."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zitcache.errors import from_os_error
from zitcache.machine.files import exchange, rename_noreplace, sync_directory
from zitcache.tasks.restore.staging import Staging, split_off_links


def put_in_place(staging: Staging) -> None:
    """Give every staged name its place in the target.

    Raises ``CredentialsError``, ``Unreachable``, …: each model is then either what it was or restored, and
    the next run does the rest.
    """
    target = staging.target
    try:
        if not staging.workspace.target_exists:
            rename_noreplace(staging.tree, target)
            sync_directory(target.parent)
        else:
            _place_loose(staging)
            for unit in staging.units:
                _swap(staging, unit)
        _settle_directories(staging)
    except OSError as error:
        raise from_os_error(error, f"putting the restored files in place at {target}") from error


def _place_loose(staging: Staging) -> None:
    touched: set[Path] = set()
    for entry in staging.wanted:
        path = entry.real_path
        if path not in staging.wanted_paths or staging.unit_of(path) is not None:
            continue
        live = staging.target / path
        if entry.kind == "directory":
            live.mkdir(parents=True, exist_ok=True)
        else:
            live.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging.tree / path, live)
        touched.add(live.parent)
    for folder in touched:
        sync_directory(folder)


def _swap(staging: Staging, unit: str) -> None:
    staged = staging.tree / unit if unit else staging.tree
    live = staging.target / unit if unit else staging.target
    live.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(live):
        rename_noreplace(staged, live)
        sync_directory(live.parent)
        return
    if exchange(staged, live):
        previous = staged
    else:
        # No atomic swap on this file system: two renames; the workspace mends a kill between them.
        previous = staging.workspace.park(live)
        try:
            os.rename(staged, live)
        except OSError:
            os.rename(previous, live)
            raise
    sync_directory(live.parent)
    _rescue_latecomers(staging, unit, previous, live)


def _rescue_latecomers(staging: Staging, unit: str, previous: Path, live: Path) -> None:
    """Move over what another program wrote into the old directory while the new one was being built."""
    if previous.is_symlink() or not previous.is_dir():
        return
    for folder, directories, names in os.walk(previous, onerror=_fail):
        here = os.path.relpath(folder, previous)
        for name in [*names, *split_off_links(folder, directories)]:
            inner = name if here == "." else os.path.join(here, name)
            old, new = os.path.join(folder, name), live / inner
            if (os.path.join(unit, inner) if unit else inner) in staging.wanted_paths:
                continue
            if os.path.lexists(new) and _looks_same(old, new):
                continue
            new.parent.mkdir(parents=True, exist_ok=True)
            os.replace(old, new)


def _looks_same(old: str, new: Path) -> bool:
    """Whether ``new`` is what was carried over from ``old``: a second name of it, or a copy."""
    before, after = os.lstat(old), os.lstat(new)
    if os.path.samestat(before, after):
        return True
    return (stat.S_IFMT(before.st_mode), before.st_size, before.st_mtime_ns) == (
        stat.S_IFMT(after.st_mode),
        after.st_size,
        after.st_mtime_ns,
    )


def _settle_directories(staging: Staging) -> None:
    """Modes and times of directories in which something was renamed, innermost first."""
    for entry in reversed(staging.selected):
        if entry.kind != "directory":
            continue
        path = staging.target / entry.real_path
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue  # the directory of a file that could not be brought back
        if not stat.S_ISDIR(status.st_mode):
            continue
        if stat.S_IMODE(status.st_mode) != entry.mode:
            os.chmod(path, entry.mode)
        if status.st_mtime_ns != entry.mtime_ns:
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _fail(error: OSError) -> None:
    raise error
