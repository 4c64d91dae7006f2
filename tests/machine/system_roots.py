"""Programs with another system disk under them: ``/`` is a loop disk, an overlay, or whatever was mounted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.storage.disks import python_environment

_OF_THE_SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var", "proc", "sys", "dev")


def run_on(
    root: Path,
    arguments: Sequence[str],
    *,
    disks: Mapping[str, Path] | None = None,
    environ: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run this Python with ``arguments`` where ``root`` is ``/`` and ``/root`` the home directory.

    What programs need (``/usr``, this Python) is bind mounted into it, read-only, except ``without``.
    ``disks``: further directories by the place where they appear. ``environ``: beside PATH and HOME; nothing
    is inherited. Skips where mounts may not be unshared.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root to make another system disk")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("cannot unshare mounts here")
    python = python_environment()["PYTHONPATH"]
    lines = ["set -e", f"cd {shlex.quote(str(root))}", "mkdir -p tmp root"]
    kernel = ("proc", "sys", "dev")
    lines += [
        _shown(Path("/", name), f"/{name}", read_only=name not in kernel)
        for name in _OF_THE_SYSTEM
        if name not in without
    ]
    folders = _outermost([sys.base_prefix, sys.prefix, *python.split(os.pathsep)])
    lines += [_shown(folder, str(folder), read_only=True) for folder in folders]
    lines += [_shown(disk, place) for place, disk in (disks or {}).items()]
    command = f"cd /root && exec {shlex.join([sys.executable, *arguments])}"
    lines.append(f"exec chroot . /bin/sh -c {shlex.quote(command)}")
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONPATH": python,
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environ or {}),
        },
    )


def _shown(source: Path, place: str, *, read_only: bool = False) -> str:
    """A line of shell that makes ``source`` appear at ``place`` of the new root, if it exists."""
    inside = shlex.quote(f".{place}")
    if source.is_symlink():
        return f"[ -L {inside} ] || ln -s {shlex.quote(os.readlink(source))} {inside}"
    if not source.is_dir():
        return "true"
    outside = shlex.quote(str(source))
    if not read_only:
        return f"mkdir -p {inside}; mount --rbind {outside} {inside}"
    # Without what is mounted below it: that may be the disk of somebody else, and could be written to.
    return f"mkdir -p {inside}; mount --bind {outside} {inside}; mount -o remount,bind,ro {inside}"


def _outermost(folders: Sequence[str]) -> list[Path]:
    found = sorted({Path(folder).absolute() for folder in folders if Path(folder).is_dir()})
    system = [Path("/", name) for name in _OF_THE_SYSTEM]
    return [
        path
        for path in found
        if not any(other in path.parents for other in found)
        and not any(place == path or place in path.parents for place in system)
    ]
