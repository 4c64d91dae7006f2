"""What runs jobs here: systemd if it really is the init, a cron daemon that is alive, or our own daemon.

In rented containers PID 1 is a shell or an SSH server, ``systemctl`` may be installed all the same, and
``crontab`` takes lines that nobody will ever run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SYSTEMD = Path("/run/systemd/system")
"""Exists exactly where systemd is the init: ``sd_booted(3)``."""

_OWN_NAMES = frozenset({"zitcache", "zitcache.pyz", "run.py"})
_CRON_DAEMONS = frozenset({"cron", "crond", "fcron", "cronie", "supercronic", "anacron", "busybox-crond"})


@dataclass(frozen=True, slots=True)
class Schedulers:
    """``systemd``: it is the init here. ``cron``: a cron daemon is alive; ``cron_daemon``: its name.

    ``cron_command``: where ``crontab`` is, or None. ``own_daemon``: the process id of a running
    ``zitcache schedule run``, or None.
    """

    systemd: bool
    cron: bool
    cron_daemon: str | None
    cron_command: str | None
    own_daemon: int | None

    @property
    def any(self) -> bool:
        """Whether anything at all runs jobs here."""
        return self.systemd or self.cron or self.own_daemon is not None


def find_schedulers(proc: Path = PROC, systemd: Path = SYSTEMD) -> Schedulers:
    """Look for what runs jobs now. Raises nothing."""
    cron = None
    own = None
    for pid, words in _command_lines(proc):
        name = _program(words)
        if cron is None and name in _CRON_DAEMONS and _shares_our_files(proc, pid):
            cron = name
        if own is None and pid != os.getpid() and _is_own_daemon(words):
            own = pid
    return Schedulers(
        systemd=systemd.is_dir(),
        cron=cron is not None,
        cron_daemon=cron,
        cron_command=shutil.which("crontab"),
        own_daemon=own,
    )


def _command_lines(proc: Path) -> Iterator[tuple[int, list[str]]]:
    """Id and words of every process that is alive: a zombie has no words left."""
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    except OSError:
        return
    for pid in pids:
        with contextlib.suppress(OSError):
            raw = (proc / str(pid) / "cmdline").read_bytes()
            words = [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")]
            if words != [""]:
                yield pid, words


def _program(words: list[str]) -> str:
    """The name of the program: ``/usr/sbin/CRON -f`` is ``cron``, ``busybox crond`` is ``crond``."""
    name = words[0].rpartition("/")[2].lower().lstrip("-").rstrip(":")
    if name == "busybox" and len(words) > 1:
        name = words[1].rpartition("/")[2]
    return name


def _is_own_daemon(words: list[str]) -> bool:
    """``zitcache schedule run`` as a program, ``python -m zitcache schedule run``, or from a kit."""
    for index, word in enumerate(words[:8]):
        name, after = word.rpartition("/")[2], words[index + 1 : index + 3]
        if name in _OWN_NAMES and after == ["schedule", "run"]:
            return True
    return False


def _shares_our_files(proc: Path, pid: int) -> bool:
    """Whether that daemon reads the crontabs that we see: on a host, ``/proc`` shows those of containers too.

    True also where it may not be looked at: an ordinary user asks about root's daemon.
    """
    try:
        return os.readlink(proc / str(pid) / "ns" / "mnt") == os.readlink(proc / "self" / "ns" / "mnt")
    except OSError:
        return True
