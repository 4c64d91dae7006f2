"""A machine for the tests of ``schedule``: an ``/etc``, fake programs, a cache and a repository."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.backup.world import make_model, settle
from tests.storage.disks import python_environment
from zitcache.errors import Exit
from zitcache.events import Session
from zitcache.machine.schedulers import Schedulers
from zitcache.repository.repository import Repository
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks import schedule as task
from zitcache.tasks.schedule import InstallRequest, ScheduleReport

CRONTAB = """#!/bin/sh
# What crontab(1) of Debian does, on one file; refuses when told to.
set -e
file={folder}/crontab.of.user
[ ! -e {folder}/refuse ] || {{ echo "you ($LOGNAME) are not allowed to use this program" >&2; exit 1; }}
case "$1" in
    -l) [ -e "$file" ] || {{ echo "no crontab for me" >&2; exit 1; }}; cat "$file" ;;
    -)  cat >"$file.new"; mv "$file.new" "$file" ;;
    *)  exit 2 ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
# Keeps what it was told, and makes the links of "enable" as systemctl does.
echo "$*" >>{folder}/systemctl.log
[ ! -e {folder}/refuse ] || {{ echo "Access denied" >&2; exit 4; }}
units={units}
verb=
for word; do
    case "$word" in
        --user) units=$HOME/.config/systemd/user ;;
        --*) ;;
        *.timer)
            mkdir -p "$units/timers.target.wants"
            case "$verb" in
                enable) ln -sf "$units/$word" "$units/timers.target.wants/$word" ;;
                disable) rm -f "$units/timers.target.wants/$word" ;;
            esac ;;
        *) verb=$word ;;
    esac
done
"""
_MODULES = (
    "zitcache.machine.schedule_entries",
    "zitcache.tasks.schedule.installing",
    "zitcache.tasks.schedule.state",
    "zitcache.tasks.schedule.units",
)


@dataclass
class Machine:
    """``root``: stands for ``/`` where schedules are written. ``alive``: what runs jobs here."""

    base: Path
    root: Path
    home: Path
    cache: Path
    place: Path
    alive: set[str] = field(default_factory=set)

    @property
    def cron_file(self) -> Path:
        return self.root / "etc/cron.d/zitcache"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def crontab(self) -> Path:
        return self.root / "crontab.of.user"

    def told_systemd(self) -> list[str]:
        log = self.root / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def install(self, **request: object) -> tuple[ScheduleReport, Exit, Session]:
        session = Session()
        wanted = {"repository": str(self.place), "cache": str(self.cache), **request}
        outcome = task.install(InstallRequest(**wanted), session)  # type: ignore[arg-type]
        return outcome.data, outcome.exit_code, session

    def remove(self, **options: bool) -> tuple[ScheduleReport, Exit, Session]:
        session = Session()
        outcome = task.remove(session, **options)
        return outcome.data, outcome.exit_code, session

    def status(self) -> tuple[ScheduleReport, Exit]:
        outcome = task.schedule_status(str(self.place), Session())
        return outcome.data, outcome.exit_code

    def everything(self) -> dict[str, bytes]:
        """All files of the machine that a schedule might touch, with their bytes."""
        return {
            str(path.relative_to(self.base)): path.read_bytes()
            for top in (self.root, self.home, self.place.parent)
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }


def make_machine(base: Path, monkeypatch: pytest.MonkeyPatch, *, place: str = "data/zitcache") -> Machine:
    """A machine below ``base`` on which nothing runs jobs; add to ``alive`` what does."""
    for name in [name for name in os.environ if name.startswith(("ZITCACHE_", "XDG_", "MODELSCOPE", "HF_"))]:
        monkeypatch.delenv(name)
    machine = Machine(base, base / "root", base / "home", base / "cache", base / place)
    for folder in (machine.home, machine.place.parent, machine.root / "usr/bin", machine.root / "etc/cron.d"):
        folder.mkdir(parents=True, exist_ok=True)
    make_model(machine.cache / "models/a--b/snapshots/master")
    settle(machine.cache)
    Repository.create(LocalStorage(machine.place))
    configure(machine, "")
    words = {"folder": shlex.quote(str(machine.root)), "units": shlex.quote(str(machine.units))}
    for name, text in (("crontab", CRONTAB), ("systemctl", SYSTEMCTL)):
        program = machine.root / "usr/bin" / name
        program.write_text(text.format(**words))
        program.chmod(0o755)
    monkeypatch.setenv("HOME", str(machine.home))
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(machine.root))
    monkeypatch.setenv("PATH", f"{machine.root}/usr/bin:{os.environ['PATH']}")

    def find() -> Schedulers:
        own = running_scheduler(state_directory())
        return Schedulers(
            systemd="systemd" in machine.alive,
            cron="cron" in machine.alive,
            cron_daemon="cron" if "cron" in machine.alive else None,
            cron_command=None if "no-crontab" in machine.alive else str(machine.root / "usr/bin/crontab"),
            own_daemon=own or None,
        )

    for module in _MODULES:
        monkeypatch.setattr(f"{module}.find_schedulers", find)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return machine


def configure(machine: Machine, text: str) -> None:
    """Write the configuration; without a kit, whose 100 MB would be copied in every test."""
    config = machine.home / ".config/zitcache/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("kit = false\n" + text)
    config.chmod(0o600)


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on everybody is told that this is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def start(*arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
    """``zitcache ARGUMENTS`` as a process of its own, with both outputs in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "zitcache", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**python_environment(), **environ},
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def shell_words(line: str) -> Sequence[str]:
    """The words of a command as a shell sees them, without running it."""
    script = f"set -- {line}\nfor word; do printf '%s\\0' \"$word\"; done"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return os.fsdecode(done.stdout).split("\0")[:-1]
