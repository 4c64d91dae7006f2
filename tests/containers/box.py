"""A container made by hand: what the image and the compose file promise, without a container engine.

A mount namespace with a root of its own that cannot be written, this Python and zitcache at their usual
paths, the scripts of the image, volumes as bind mounts, a tmpfs on /tmp, no network, and an ordinary user
without any capability. Needs root; skips with a message otherwise.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.containers.deployment import ROOT, compose_service, dockerfile_environment

UID = GID = 1000
_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--net")
_DROP = ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev")


class Box:
    """``volumes``: name of a compose volume to a folder of the host."""

    def __init__(self, directory: Path, volumes: Mapping[str, Path]) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to make a container by hand")
        for program in ("unshare", "setpriv", "chroot"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program} (package util-linux)")
        self.directory = directory
        self.volumes = volumes
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "root").mkdir(exist_ok=True)
        (directory / "bin").mkdir(exist_ok=True)
        program = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zitcache "$@"\n'
        (directory / "bin/zitcache").write_text(program)
        for script in (ROOT / "deploy/docker").iterdir():
            if os.access(script, os.X_OK):
                shutil.copy(script, directory / "bin")
        for script in (directory / "bin").iterdir():
            script.chmod(0o755)

    def start(
        self, service: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a service of ``compose.yaml``, with ``arguments`` for its entry point."""
        told = compose_service(service)
        command = [*told.get("entrypoint", ["zitcache"]), *(arguments or told.get("command") or ["--help"])]
        if "entrypoint" in told and not arguments:
            command = list(told["entrypoint"])
        values = {**dockerfile_environment(), **told.get("environment", {}), **(environment or {})}
        values["PATH"] = f"/image/bin:{values['PATH']}"
        return subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--net",
                "sh",
                "-euc",
                self._script(told, values, command),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, service: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a service of ``compose.yaml`` to its end."""
        running = self.start(service, *arguments, environment=environment)
        out, err = running.communicate(timeout=120)
        return subprocess.CompletedProcess(running.args, running.returncode, out, err)

    def _script(self, told: Mapping[str, object], values: Mapping[str, str], command: Sequence[str]) -> str:
        root = self.directory / "root"
        assert told["user"] == f"{UID}:{GID}" and told["read_only"] is True and told["network_mode"] == "none"
        lines = [f"mount -t tmpfs -o mode=755 tmpfs {root}"]
        for place in dict.fromkeys((*_SYSTEM, sys.base_prefix, sys.prefix, str(ROOT))):
            if os.path.islink(place) and place in _SYSTEM:
                lines.append(f"ln -s {os.readlink(place)} {root}{place}")
            elif os.path.isdir(place):
                lines += [f"mkdir -p {root}{place}", f"mount --rbind {place} {root}{place}"]
                if place not in ("/proc", "/dev"):
                    lines.append(f"mount -o remount,ro,bind {root}{place}")
        lines.append(f"mkdir -p {root}/image/bin {root}/tmp")
        lines.append(f"mount --bind {self.directory}/bin {root}/image/bin")
        lines.append(f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp")
        for volume in told.get("volumes", []):  # type: ignore[attr-defined]
            name, place, *mode = volume.split(":")
            lines += [f"mkdir -p {root}{place}", f"mount --bind {self.volumes[name]} {root}{place}"]
            if mode == ["ro"]:
                lines.append(f"mount -o remount,ro,bind {root}{place}")
        lines.append(f"mount -o remount,ro {root}")
        user = shlex.join(["setpriv", "--reuid", str(UID), "--regid", str(GID), *_DROP])
        words = shlex.join([f"{name}={value}" for name, value in values.items()])
        lines.append(f"exec chroot {root} {user} env -i {words} {shlex.join(command)}")
        return "\n".join(lines)


def own(folder: Path, uid: int = UID) -> Path:
    """Give ``folder`` and all in it to ``uid``."""
    for where, directories, files in os.walk(folder):
        for name in [*directories, *files]:
            os.chown(os.path.join(where, name), uid, uid, follow_symlinks=False)
    os.chown(folder, uid, uid)
    return folder
