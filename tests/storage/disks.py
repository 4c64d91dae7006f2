"""Small real file systems for tests that fill them, and a way to make system calls fail.

Needs root; every helper skips with a message otherwise. Also for tests of other packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


@contextmanager
def mounted(arguments: Sequence[str], mount_point: Path) -> Iterator[Path]:
    """``mount ARGUMENTS MOUNT_POINT`` for the time of the block; skips where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    mount_point.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(mount_point)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield mount_point
    finally:
        if subprocess.run(["umount", str(mount_point)], capture_output=True).returncode:
            subprocess.run(["umount", "-l", str(mount_point)], check=True)


@contextmanager
def tmpfs(mount_point: Path, *, size: int = 4 * MIB, inodes: int | None = None) -> Iterator[Path]:
    """A tmpfs of ``size`` bytes and at most ``inodes`` files."""
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    with mounted(["-t", "tmpfs", "-o", options, "tmpfs"], mount_point) as path:
        yield path


@contextmanager
def ext4(
    mount_point: Path, *, size: int = 8 * MIB, inodes: int | None = None, keep_image: bool = False
) -> Iterator[Path]:
    """A new ext4 of ``size`` bytes, mounted through a loop device.

    ``keep_image``: leave its image beside ``mount_point``, with ``.img`` at the end of its name.
    """
    mkfs = _tool("mkfs.ext4", "e2fsprogs")
    image = _sparse_image(mount_point, size)
    count = ["-N", str(inodes)] if inodes else []
    subprocess.run(
        [mkfs, "-q", "-F", "-m", "0", "-O", "^has_journal", *count, str(image)],
        check=True,
        capture_output=True,
    )
    with _mounted_image(image, mount_point, keep_image=keep_image) as path:
        yield path


@contextmanager
def xfs(mount_point: Path, *, size: int = 320 * MIB, options: str = "") -> Iterator[Path]:
    """A new XFS that can share blocks between files (reflink). Its tools refuse less than 300 MiB.

    ``options``: further mount options ("uquota"). The image is sparse: it takes what is written to it.
    """
    mkfs = _tool("mkfs.xfs", "xfsprogs")
    image = _sparse_image(mount_point, size)
    subprocess.run([mkfs, "-q", "-f", "-m", "reflink=1", str(image)], check=True, capture_output=True)
    with _mounted_image(image, mount_point, options=options) as path:
        yield path


@contextmanager
def btrfs(mount_point: Path, *, size: int = 128 * MIB) -> Iterator[Path]:
    """A new Btrfs of ``size`` bytes (at least 110 MiB), mixed block groups."""
    mkfs = _tool("mkfs.btrfs", "btrfs-progs")
    image = _sparse_image(mount_point, size)
    subprocess.run([mkfs, "-q", "-f", "-M", str(image)], check=True, capture_output=True)
    with _mounted_image(image, mount_point) as path:
        yield path


@contextmanager
def overlay(mount_point: Path, *, lower: Path, upper: Path, work: Path) -> Iterator[Path]:
    """An overlay of ``upper`` (written to) over ``lower``. ``upper`` and ``work`` must be on one disk."""
    for folder in (lower, upper, work):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with mounted(["-t", "overlay", "-o", options, "overlay"], mount_point) as path:
        yield path


def _tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name} (package {package})")
    return found


@contextmanager
def _mounted_image(
    image: Path, mount_point: Path, *, options: str = "", keep_image: bool = False
) -> Iterator[Path]:
    """Without its name, the image is a disk like any other; with it, all can see that it lies on ``/``."""
    words = "loop" + (f",{options}" if options else "")
    with mounted(["-o", words, str(image)], mount_point) as path:
        if not keep_image:
            image.unlink()
        yield path


def _sparse_image(mount_point: Path, size: int) -> Path:
    mount_point.parent.mkdir(parents=True, exist_ok=True)
    image = mount_point.with_name(mount_point.name + ".img")
    with image.open("wb") as file:
        file.truncate(size)
    return image


def with_faults(
    arguments: Sequence[str], injections: Sequence[str], log: Path
) -> subprocess.CompletedProcess[str]:
    """Run this Python with ``arguments`` under strace, which makes system calls fail.

    ``injections``: as for ``strace -e inject=…`` ("fsync:error=EIO:when=2"). ``log`` receives the trace of
    these calls. Skips where strace is missing or not allowed.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    if subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("strace is not allowed here")
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    command = [strace, "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={calls}"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    return subprocess.run(
        [*command, os.path.realpath(sys.executable), *arguments],
        capture_output=True,
        text=True,
        env=python_environment(),
    )


def python_environment() -> dict[str, str]:
    """For a Python that finds what this one finds, and makes no system calls of its own choosing."""
    search_path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": search_path, "PYTHONDONTWRITEBYTECODE": "1"}


def names_under(directory: Path) -> list[str]:
    """Every file below ``directory``, hidden ones too, as sorted relative paths."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())
