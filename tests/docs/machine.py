"""A rented machine made by hand: a system disk that can be reset, data disks, no network, root.

A mount namespace and a process namespace with a root of their own: the system's programs read-only,
``/etc``, ``/root`` and the rest writable and kept between runs, disks at the places that a page names. Needs
root; skips with a message otherwise.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "hosts", "ssl")
_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child")
ROOT = Path(__file__).parents[2]


class Machine:
    """``disks``: place on the machine to a directory of the host, which should be a mount."""

    def __init__(self, directory: Path, disks: Mapping[str, Path]) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to make a machine by hand")
        if shutil.which("unshare") is None:
            pytest.skip("needs unshare (package util-linux)")
        self.system = directory / "system"
        self._bin = directory / "bin"
        self.disks = dict(disks)
        self._bin.mkdir(parents=True)
        program = self._bin / "zitcache"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zitcache "$@"\n')
        program.chmod(0o755)
        self._installed = True
        self._make_system()

    def reset(self) -> None:
        """Reset the system disk: everything but the disks is new, and zitcache is not installed."""
        shutil.rmtree(self.system)
        self._make_system()
        self._installed = False

    def at(self, path: str) -> Path:
        """Where ``path`` of the system disk lies on the host."""
        return self.system / path.lstrip("/")

    def run(
        self, script: str, environment: Mapping[str, str] | None = None, *, shell: str = "sh -eu"
    ) -> subprocess.CompletedProcess[str]:
        """Run ``script`` as root; what it leaves in the background ends with it."""
        values = {
            "HOME": "/root",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        words = shlex.join([f"{name}={value}" for name, value in values.items()])
        root = self.system
        lines = [f"mount --bind {root} {root}", f"cd {root}"]
        kept = [*_PROGRAMS, sys.base_prefix, *([sys.prefix, str(ROOT)] if self._installed else [])]
        for place in dict.fromkeys(kept):
            if place in _PROGRAMS and os.path.islink(place):
                lines.append(f"[ -e {root}{place} ] || ln -s {os.readlink(place)} {root}{place}")
            elif os.path.isdir(place):
                lines += [f"mkdir -p {root}{place}", f"mount --rbind {place} {root}{place}"]
                lines.append(f"mount -o remount,ro,bind {root}{place}")
        lines.append(f"mount -t tmpfs tmpfs {root}/usr/local/bin")
        if self._installed:
            lines.append(f"cp {self._bin}/zitcache {root}/usr/local/bin/")
        for place, disk in self.disks.items():
            lines += [f"mkdir -p {root}{place}", f"mount --rbind {disk} {root}{place}"]
        lines += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        lines.append(f"exec chroot {root} env -i {words} {shell} -c {shlex.quote(script)}")
        return subprocess.run(
            [*_UNSHARE, "sh", "-euc", "\n".join(lines)], capture_output=True, text=True, timeout=300
        )

    def _make_system(self) -> None:
        for folder in (
            "etc/cron.d",
            "root",
            "tmp",
            "proc",
            "dev",
            "run",
            "var/spool/cron/crontabs",
            "var/tmp",
        ):
            (self.system / folder).mkdir(parents=True)
        (self.system / "tmp").chmod(0o1777)
        for name in _ETC:
            source = Path("/etc", name)
            if source.is_dir():
                shutil.copytree(source, self.system / "etc" / name, symlinks=True)
            elif source.exists():
                shutil.copy(source, self.system / "etc" / name)
