"""Run one command and measure it: wall time with the data on the disk, CPU time, peak memory, cold caches."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_KEPT_OUTPUT = 4000
_TOOL_SETTINGS = ("ZITCACHE_", "BORG_", "RESTIC_", "MODELSCOPE_", "HF_")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, where, and what to add to the environment."""

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run. ``seconds`` counts everything, ``sync_seconds`` of it passed in the last sync.

    ``peak_bytes`` is ``ru_maxrss``: of a command with several processes, the largest one.
    """

    seconds: float
    sync_seconds: float
    cpu_seconds: float
    peak_bytes: int


class CommandError(Exception):
    """A measured command ended with another code than 0."""

    def __init__(self, command: Command, code: int, output: str) -> None:
        self.code = code
        tail = output.strip()[-600:]
        super().__init__(f"exit code {code} from: {' '.join(command.argv)}\n{tail}")


def run(command: Command, log: Path, sync_at: Path | None = None) -> Sample:
    """Run ``command`` to its end, then sync the file system of ``sync_at`` inside the measured time.

    Output goes to the file ``log``. Raises :class:`CommandError`.
    """
    # A setting of the person who measures must not steer what is measured.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_TOOL_SETTINGS)}
    environment = {**inherited, **command.env}
    with log.open("wb") as output:
        start = time.perf_counter()
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        ended = time.perf_counter()
        if sync_at is not None:
            sync_file_system(sync_at)
        synced = time.perf_counter()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise CommandError(command, child.returncode, log.read_text(errors="replace")[-_KEPT_OUTPUT:])
    return Sample(
        seconds=synced - start,
        sync_seconds=synced - ended,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
    )


def sync_file_system(path: Path) -> None:
    """``sync -f``: everything written to the file system of ``path`` is on the disk."""
    descriptor = os.open(path if path.is_dir() else path.parent, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def can_drop_caches() -> bool:
    """Whether the kernel lets us drop its caches: root outside most containers."""
    return os.geteuid() == 0 and os.access(_DROP_CACHES, os.W_OK) and _try_drop()


def _try_drop() -> bool:
    try:
        _DROP_CACHES.write_text("1")
    except OSError:
        return False
    return True


def make_cold(paths: Iterable[Path], drop: bool) -> None:
    """Put what lies under ``paths`` out of memory: with ``drop`` all kernel caches, else file by file.

    The second way leaves names and inodes in memory; only root can do better.
    """
    os.sync()
    if drop:
        _DROP_CACHES.write_text("3")
        return
    for root in paths:
        for folder, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(OSError):
                    _forget(Path(folder, name))


def _forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def disk_use(path: Path) -> int:
    """Bytes that the files at and under ``path`` take on the disk: blocks as ``du`` counts, hard links once.

    Directories themselves are left out: the few hundred that some tools make weigh on a small sample only.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    for item in paths:
        status = item.lstat()
        if not stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def remove(path: Path) -> None:
    """Remove a file or a tree; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
