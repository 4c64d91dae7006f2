"""A small machine whose system disk can be reset: two real disks in image files, and a chroot on the first.

The system disk is an ext4 that really is ``/``; the data disk, an XFS, is mounted in it. Each command runs in
mount and network namespaces of its own: nothing stays mounted, and nothing can be reached.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
PROJECT = Path(__file__).parents[2]
CACHE = "/root/workspace/model_cache"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Field ``data`` of what ``--json`` printed."""
        envelope = json.loads(self.out)
        assert envelope["exit_code"] == self.code, self.err
        assert envelope["data"] is not None, envelope
        found: dict[str, Any] = envelope["data"]
        return found

    @property
    def codes(self) -> list[str]:
        """The codes of the warnings in what ``--json`` printed."""
        return [notice["code"] for notice in json.loads(self.out)["warnings"]]


@dataclass
class Machine:
    """``data_at``: where the data disk is mounted. ``data_options``: how ("ro", "noexec")."""

    folder: Path
    data_at: str = "/data"
    data_options: str = ""
    more: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("system.img", "data.img"):
            with (self.folder / name).open("wb") as file:
                file.truncate(3000 * MIB)
        run_checked([_tool("mkfs.xfs", "xfsprogs"), "-q", "-f", self.folder / "data.img"])
        (self.folder / "root").mkdir()
        self.reset()

    def reset(self) -> None:
        """Reset the system disk: a new file system, and the system as it comes from the provider."""
        image = self.folder / "system.img"
        run_checked([_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", image])
        done = self._enter(_INSTALL, chroot=False)
        assert done.code == 0, done.err

    def run(self, command: str, *, tools: bool = False, home: str | None = "/root") -> Ran:
        """Run a line of shell in the machine. ``tools``: with the Python and zitcache of this test run.

        Without them there is a bare Python that has no site-packages, and nothing else.
        """
        variables = [f"PATH={PATH}", *([f"HOME={home}"] if home is not None else [])]
        words = ["/usr/bin/env", "-i", *variables, "/bin/sh", "-c", command]
        return self._enter("", chroot=True, tools=tools, words=words)

    def zitcache(self, *arguments: str, environment: str = "") -> Ran:
        """Run zitcache as installed before the reset."""
        program = f"{sys.prefix}/bin/python -m zitcache"
        ran = self.run(f"{environment} {program} {shlex.join(arguments)}", tools=True)
        assert "Traceback" not in ran.err, ran.err
        return ran

    def _enter(self, script: str, *, chroot: bool, tools: bool = False, words: Sequence[str] = ()) -> Ran:
        lines = [
            "set -e",
            "mount -o loop system.img root",
            "mkdir -p root/usr root/.usr-local root/proc root/dev",
        ]
        if chroot:
            lines += [*_SYSTEM, *(_tools() if tools else _bare_python()), *self._data_lines()]
            script = 'exec chroot root "$@"'
        command = ["unshare", "--mount", "--net", "--propagation", "private", "/bin/sh", "-c"]
        done = subprocess.run(
            [*command, "\n".join([*lines, script]), "sh", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def _data_lines(self) -> list[str]:
        options = ",".join(["loop", *([self.data_options] if self.data_options else [])])
        place = shlex.quote(f"root{self.data_at}")
        return [f"mkdir -p {place}", f"mount -o {options} data.img {place}", *self.more]


_SYSTEM = (
    # Programs come from this system, read-only; what a user installs goes to the system disk.
    "mount --bind /usr root/usr",
    "mount -o remount,bind,ro root/usr",
    "mount --bind root/.usr-local root/usr/local",
    "mount -t proc proc root/proc",
    "mount --rbind /dev root/dev",
)
_INSTALL = """\
for name in bin sbin lib lib32 lib64; do
    [ ! -e /$name ] || ln -s usr/$name root/$name
done
mkdir -p root/root root/run root/opt root/tmp root/var/tmp root/var/spool/cron/crontabs root/.usr-local/bin
chmod 1777 root/tmp root/var/tmp
chmod 1730 root/var/spool/cron/crontabs
chown root:crontab root/var/spool/cron/crontabs
cp -a /etc root/etc
rm -rf root/etc/cron.d/zitcache* root/etc/environment
"""


_DEBIAN = "/usr/lib/python3/dist-packages"


def _bare_python() -> list[str]:
    """The Python of this test run in a usual place, and nothing that was ever installed into it."""
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    lines = [
        f"[ ! -d root{_DEBIAN} ] || mount -t tmpfs none root{_DEBIAN}",
    ]
    if sys.base_prefix != "/usr":
        lines += [
            "mkdir -p root/opt/python3",
            f"mount --bind {shlex.quote(sys.base_prefix)} root/opt/python3",
            f"mount -t tmpfs none root/opt/python3/{library}/site-packages",
        ]
    return lines


def _tools() -> list[str]:
    lines = []
    for place in dict.fromkeys([sys.base_prefix, str(PROJECT), sys.prefix]):
        if place != "/usr":
            lines += [f"mkdir -p {shlex.quote('root' + place)}"]
            lines += [f"mount --bind {shlex.quote(place)} {shlex.quote('root' + place)}"]
    return lines


def run_checked(command: Sequence[str | Path]) -> None:
    """Run it; its complaint is the failure."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def require_machine() -> None:
    """Skip where such a machine cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount disks and to change the root directory")
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    if not Path("/dev/loop-control").exists():
        pytest.skip("there are no loop devices here")


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name} (package {package})")
    return found
