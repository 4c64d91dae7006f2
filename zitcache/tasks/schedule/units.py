"""The system's or the user's systemd: where its units lie, and how they are switched on and off."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from zitcache.errors import CredentialsError, UsageError
from zitcache.events import Session
from zitcache.machine.schedulers import find_schedulers
from zitcache.schedule.jobs import JOB_NAMES, UNIT_PREFIX
from zitcache.schedule.systemd import SYSTEM_FOLDER

_TIMEOUT_SECONDS = 30
_DENIED = ("denied", "not permitted", "authentication", "privileges")
_LINGER = Path("/var/lib/systemd/linger")


def rooted(path: Path) -> Path:
    """``path`` below ``ZITCACHE_SYSTEM_ROOT``, which stands for ``/`` in tests."""
    root = os.environ.get("ZITCACHE_SYSTEM_ROOT", "")
    return Path(root, str(path).lstrip("/")) if root else path


def unit_folder(*, user: bool) -> Path:
    """Where units are put: the system's, or those of this user."""
    if not user:
        return rooted(Path(SYSTEM_FOLDER))
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "systemd" / "user"


def user_manager_runs() -> bool:
    """Whether there is a systemd for this user: only while somebody is logged in, or lingers."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(runtime, "systemd").is_dir()


def enable_timers(timers: Sequence[str], *, user: bool, session: Session) -> None:
    """Have systemd read the units anew, and start the timers now and at every start of the machine."""
    _systemctl(user, "daemon-reload")
    _systemctl(user, "enable", "--now", *timers)
    _systemctl(user, "restart", *timers)  # one that was running has the old times
    if user and not (_LINGER / _name()).exists():
        session.warn(
            "no-linger",
            "These timers run only while you are logged in.",
            f"Have them run always: loginctl enable-linger {shlex.quote(_name())}",
        )


def remove_units() -> list[str]:
    """Remove all units of ours and what pulls them in; gives their paths. Raises ``OSError``."""
    removed = []
    for user in (False, True):
        folder = unit_folder(user=user)
        names = [f"{UNIT_PREFIX}{job}{kind}" for job in JOB_NAMES for kind in (".timer", ".service")]
        present = [name for name in names if (folder / name).is_file()]
        if not present:
            continue
        timers = [name for name in present if name.endswith(".timer")]
        reachable = find_schedulers().systemd and (not user or user_manager_runs())
        if timers and reachable:
            _systemctl(user, "disable", "--now", *timers)
        for name in present:
            (folder / name).unlink()
            removed.append(str(folder / name))
            for link in folder.glob(f"*.wants/{name}"):
                link.unlink(missing_ok=True)
        if reachable:
            _systemctl(user, "daemon-reload")
    return removed


def _systemctl(user: bool, *words: str) -> None:
    """Run systemctl. Raises ``CredentialsError``, or ``UsageError`` with what it said."""
    command = ["systemctl", "--no-ask-password", *(["--user"] if user else []), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
        )
    except FileNotFoundError:
        raise UsageError("There is no program systemctl here.") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"systemd did not answer: {shlex.join(command)}.") from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        refused = CredentialsError if any(word in said.lower() for word in _DENIED) else UsageError
        raise refused(f"systemd refused: {said}.", hint=f"Try it: {shlex.join(command)}")


def _name() -> str:
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())
