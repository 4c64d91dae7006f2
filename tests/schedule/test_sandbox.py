"""A night in the cage that its unit builds: all that it must write to is open, and nothing else is.

There is no systemd in a container, so the cage is made by the same means: a mount namespace in which only the
places of ``ReadWritePaths`` (read from the unit) can be written to, and the kernel's own "no memory that is
both written and run". Which system calls a night makes is compared with systemd's list.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schedule.world import Machine, make_machine
from tests.storage.disks import python_environment
from zitcache.machine.fstab import unmounted

pytestmark = pytest.mark.root
_DONE_WITHOUT = {"cachestat", "syscall_0x1c3"}
"""New in Linux 6.5; where it is refused, the page cache is sampled."""

_MDWE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = make_machine(tmp_path, monkeypatch)
    made.alive.add("systemd")
    for folder in ("textfiles", "pages", "state", "tmp"):
        (tmp_path / folder).mkdir()
    config = made.home / ".config/zitcache/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f'[metrics]\ntextfile = "{tmp_path}/textfiles/zitcache.prom"\n'
        f'[night]\nreport = "{tmp_path}/pages/report.html"\n'
    )
    return made


def caged(machine: Machine, unit: str, *, tracing: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run what ``unit`` runs, where all is read-only but what it names."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs root, and mounts that may be unshared")
    text = (machine.units / unit).read_text()
    listed = re.search(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)
    assert listed is not None
    places = [word.removeprefix("-") for word in shlex.split(listed[1])]
    places += [str(machine.base / "state"), str(machine.base / "tmp")]  # StateDirectory, PrivateTmp
    lines = ["set -e"]
    lines += [
        f"mount --bind {shlex.quote(place)} {shlex.quote(place)}" for place in places if Path(place).exists()
    ]
    lines += ["mount -o remount,bind,ro /", "! touch /etc/zitcache-cage 2>/dev/null"]
    lines.append(f"! touch {shlex.quote(str(machine.home / 'x'))} 2>/dev/null")
    command = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert command is not None
    words = [*shlex.split(command[1].replace("$$", "$").replace("%%", "%")), "--json"]
    if tracing is not None:
        words = ["strace", "-f", "-qq", "-o", str(tracing), *words]
    else:
        bounding = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
        assert bounding is not None
        kept = [name.removeprefix("CAP_").lower() for name in bounding[1].split()]
        caps = ",".join(["-all", *(f"+{name}" for name in kept)])
        words = [sys.executable, "-c", _MDWE, *words]
        words = ["setpriv", f"--bounding-set={caps}", "--no-new-privs", *words]
    lines.append(f"exec {shlex.join(words)}")
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        env={
            **python_environment(),
            "HOME": str(machine.home),
            "STATE_DIRECTORY": str(machine.base / "state"),
            "TMPDIR": str(machine.base / "tmp"),
        },
    )


def test_every_unit_can_do_its_work(machine: Machine) -> None:
    machine.install()
    for unit, steps in (
        ("zitcache-backup.service", ["backup", "forget", "prune", "report"]),
        ("zitcache-check.service", ["check", "drill", "report"]),
    ):
        done = caged(machine, unit)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        ran = [step["name"] for step in told["data"]["steps"] if step["skipped"] is None]
        assert ran == steps
        codes = {notice["code"] for notice in told["warnings"]}
        assert codes <= {"same-disk", "not-migrated", "system-disk"}, told["warnings"]
    assert (machine.base / "textfiles/zitcache.prom").read_text().startswith("# HELP zitcache_")
    assert (machine.base / "pages/report.html").is_file()
    assert (machine.place / "kit/recover.sh").is_file(), "the kit is kept in the repository"
    assert not list(Path(f"{machine.place}-drill").iterdir()), "the drill has cleaned up"
    assert not (machine.home / ".local").exists()


def test_a_night_needs_no_call_that_its_unit_forbids(machine: Machine) -> None:
    if shutil.which("strace") is None or shutil.which("systemd-analyze") is None:
        pytest.skip("needs strace and systemd-analyze (packages strace, systemd)")
    machine.install()
    allowed = members("@system-service")
    for unit in ("zitcache-backup.service", "zitcache-check.service"):
        trace = machine.base / "tmp" / unit
        done = caged(machine, unit, tracing=trace)
        assert done.returncode == 0, done.stdout + done.stderr
        made = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", trace.read_text(errors="replace"), re.MULTILINE))
        assert {"openat", "fsync"} <= made
        assert made - _DONE_WITHOUT <= allowed, f"forbidden: {sorted(made - allowed)}"


def members(group: str) -> set[str]:
    """The system calls of a group of systemd, the groups in it included."""
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True
    )
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip().split("#")[0].strip()
        if word.startswith("@"):
            found |= members(word)
        elif word:
            found.add(word)
    return found


def test_a_line_of_fstab_that_is_not_mounted_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text(
        "# /data none\nUUID=1 / ext4 defaults 0 1\n/dev/vdb /data ext4 nofail 0 2\n"
        "/dev/vdc /my\\040disk xfs defaults 0 0\n/dev/vdd none swap sw 0 0\nproc /proc proc defaults 0 0\n"
    )
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path))
    assert unmounted("/data/zitcache") == "/data"
    assert unmounted("/my disk/x") == "/my disk"
    assert unmounted("/database") is None and unmounted("/proc/1") is None
    assert unmounted("/root/x") is None
