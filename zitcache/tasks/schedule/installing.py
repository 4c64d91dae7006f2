"""Put the schedule there, for whatever runs jobs here, and take it away again."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import CredentialsError, Exit, UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import write_durably
from zitcache.machine.schedule_entries import read_crontab, write_crontab
from zitcache.machine.schedulers import find_schedulers
from zitcache.schedule import cron, systemd
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.schedule.jobs import JOB_NAMES, UNIT_PREFIX, Installation
from zitcache.schedule.times import parse_times
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import chosen_location, locate
from zitcache.tasks.schedule.state import ScheduleReport, schedule_state
from zitcache.tasks.settings import config_path, load_config

BACKENDS = ("auto", "systemd", "cron", "daemon")
_TIMEOUT_SECONDS = 30
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """``at``: a cron expression or a time of day; None for the configured one. ``backend``: likewise."""

    repository: str | None = None
    cache: str | None = None
    at: str | None = None
    backend: str | None = None
    dry_run: bool = False


def install(request: InstallRequest, session: Session) -> Outcome[ScheduleReport]:
    """Arm the schedule, replacing an earlier one of ours.

    Exit codes: 0; 1 if in the end nothing alive will run it. Raises ``UsageError`` for a wrong time or a
    backend that is not here, ``CredentialsError``, ``RepositoryNotFound``, ….
    """
    loaded = load_config()
    config = loaded[1] if loaded else Config()
    installation = describe(request, config, session)
    backend = choose_backend(request.backend or config.schedule.backend, session)
    files = _files(backend, installation)
    if request.dry_run:
        report = schedule_state(())
        report.changed, report.dry_run = [f"{path} (would be written)" for path in files], True
        return Outcome(data=report, warnings=session.warnings)
    changed = _remove_others(backend, session)
    try:
        changed += _install(backend, installation, files)
    except OSError as error:
        raise from_os_error(error, "installing the schedule") from error
    return _outcome(changed, session)


def remove(session: Session, *, dry_run: bool = False) -> Outcome[ScheduleReport]:
    """Take away what :func:`install` put there, whichever backend it was. What is not ours stays."""
    if dry_run:
        report = schedule_state(())
        report.changed, report.dry_run = [f"{entry} (would be removed)" for entry in report.entries], True
        return Outcome(data=report, warnings=session.warnings)
    changed = _remove_others(None, session)
    outcome = _outcome(changed, session)
    outcome.exit_code = Exit.OK
    return outcome


def describe(request: InstallRequest, config: Config, session: Session) -> Installation:
    """Everything that a run must be told, found out now, while there is a person to correct it."""
    location = chosen_location(request.repository, session)
    cache = str(locate(request.cache, session).path)
    place = location if "://" in location else os.path.abspath(location)
    environment = []
    path, named = config_path()
    if named and path is not None:
        environment.append(("ZITCACHE_CONFIG", os.path.abspath(path)))
    scratch = config.night.scratch or (f"{place.rstrip('/')}-drill" if "://" not in place else "")
    proofs = () if "://" in place else (f"{place.rstrip('/')}-proofs",)
    return Installation(
        program=own_program(),
        repository=place,
        options=("--repo", place, "--cache", cache),
        at=parse_times(request.at or config.schedule.at),
        cache=cache,
        scratch=scratch or None,
        writable=proofs,
        home=os.path.expanduser("~"),
        user=getpass.getuser(),
        environment=tuple(environment),
    )


def own_program() -> tuple[str, ...]:
    """The absolute words that start this very zitcache, from a place that outlives the shell."""
    launcher = os.environ.get("ZITCACHE_KIT_LAUNCHER")
    if launcher:
        return ("/bin/sh", os.path.abspath(launcher))
    script = os.path.abspath(sys.argv[0]) if sys.argv else ""
    if os.path.basename(script) == "zitcache" and os.access(script, os.X_OK) and os.path.isfile(script):
        return (script,)
    return (sys.executable, "-m", "zitcache")


def choose_backend(wanted: str, session: Session) -> str:
    """The backend to install for. Raises ``UsageError`` for one that nobody would run here."""
    if wanted not in BACKENDS:
        raise UsageError(f"--backend cannot be {wanted!r}.", hint=f"Use one of: {', '.join(BACKENDS)}")
    here = find_schedulers()
    if wanted == "auto":
        return "systemd" if here.systemd else "cron" if here.cron else "daemon"
    if wanted == "systemd" and not here.systemd:
        raise UsageError(
            "systemd does not run here (it is not the first process): nobody would start the timers.",
            hint="Use: zitcache schedule install --backend auto",
        )
    if wanted == "cron" and not here.cron:
        session.warn(
            "no-cron-daemon",
            "No cron daemon is running here: the entry is written, but nobody will run it until one does.",
            "Start it (service cron start), or use: zitcache schedule install --backend daemon",
        )
    return wanted


def _files(backend: str, installation: Installation) -> dict[str, str]:
    """The files to write, by path. A user's crontab is written under that name."""
    if backend == "systemd":
        is_root = os.geteuid() == 0
        folder = Path(systemd.SYSTEM_FOLDER) if is_root else _user_units()
        units = systemd.unit_files(installation, system=is_root)
        return {str(_rooted(folder) / name): text for name, text in units.items()}
    lock = shutil.which("flock")
    if backend == "cron" and os.geteuid() == 0:
        return {str(_rooted(Path(cron.SYSTEM_FILE))): cron.system_file(installation, lock=lock)}
    if backend == "cron":
        return {"crontab": cron.user_block(installation, lock=lock)}
    return {}


def _install(backend: str, installation: Installation, files: dict[str, str]) -> list[str]:
    for place in (installation.scratch, *installation.writable):
        if place and backend == "systemd":
            # systemd can open only what exists to a protected unit.
            Path(place).mkdir(parents=True, exist_ok=True, mode=0o700)
    if backend == "cron" and "crontab" in files:
        write_crontab(cron.with_block(read_crontab() or "", files["crontab"]))
        return ["crontab"]
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # cron ignores files that others may write to, and systemd warns about executable ones.
        write_durably(path, text.encode(), mode=0o644)
    if backend == "systemd":
        _systemctl("daemon-reload")
        timers = [Path(path).name for path in files if path.endswith(".timer")]
        _systemctl("enable", "--now", *timers)
    if backend == "daemon":
        return [_start_daemon(installation)]
    return list(files)


def _start_daemon(installation: Installation) -> str:
    """Start our own scheduler detached from this terminal, and wait until it holds its lock."""
    state = state_directory()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = [*installation.program, "schedule", "run", "--at", installation.at.text, *installation.options]
    log = state / "scheduler.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if running_scheduler(state) is not None:
            return f"zitcache schedule run (process {child.pid}, log {log})"
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise UsageError(
        "The scheduler did not start.", hint=f"See why: tail {log}; or run it here: zitcache schedule run"
    )


def _remove_others(keep: str | None, session: Session) -> list[str]:
    """Remove the entries of every backend but ``keep``, whose files are replaced in place."""
    removed: list[str] = []
    with _denied_is_said(session):
        if keep != "systemd":
            removed += _remove_units()
        if keep != "cron":
            removed += _remove_cron()
    process = running_scheduler(state_directory())
    if process:
        # A running one has the old times, also if the new backend is the same.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
            removed.append(f"zitcache schedule run (process {process})")
        deadline = time.monotonic() + _START_SECONDS
        while running_scheduler(state_directory()) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    return [f"{entry} (removed)" for entry in removed]


def _remove_units() -> list[str]:
    removed = []
    for folder in {_rooted(Path(systemd.SYSTEM_FOLDER)), _rooted(_user_units())}:
        names = [f"{UNIT_PREFIX}{job}{kind}" for job in JOB_NAMES for kind in (".timer", ".service")]
        present = [name for name in names if (folder / name).is_file()]
        timers = [name for name in present if name.endswith(".timer")]
        if timers and find_schedulers().systemd:
            _systemctl("disable", "--now", *timers)
        for name in present:
            (folder / name).unlink()
            removed.append(str(folder / name))
    if removed and find_schedulers().systemd:
        _systemctl("daemon-reload")
    return removed


def _remove_cron() -> list[str]:
    removed = []
    path = _rooted(Path(cron.SYSTEM_FILE))
    if path.is_file():
        path.unlink()
        removed.append(str(path))
    crontab = read_crontab() or ""
    rest = cron.without_block(crontab)
    if rest != crontab:
        write_crontab(rest)
        removed.append("crontab")
    return removed


@contextlib.contextmanager
def _denied_is_said(session: Session) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        session.warn("not-removed", f"{error.filename} could not be removed: {error.strerror}.", "Use sudo.")


def _systemctl(*words: str) -> None:
    """Run systemctl, for the user's own manager unless we are root. Raises ``CredentialsError``."""
    scope: Sequence[str] = () if os.geteuid() == 0 else ("--user",)
    command = ["systemctl", *scope, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(f"systemd did not answer: {' '.join(command)}.") from None
    if done.returncode:
        raise CredentialsError(
            f"systemd refused: {done.stderr.strip() or done.returncode}.", hint=f"Try it: {' '.join(command)}"
        )


def _user_units() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "systemd" / "user"


def _rooted(path: Path) -> Path:
    """``path`` below ``ZITCACHE_SYSTEM_ROOT``, which stands for ``/`` in tests."""
    root = os.environ.get("ZITCACHE_SYSTEM_ROOT", "")
    return Path(root, str(path).lstrip("/")) if root else path


def _outcome(changed: list[str], session: Session) -> Outcome[ScheduleReport]:
    report = schedule_state(recent_runs(None, state_directory(), 1))
    report.changed = changed
    exit_code = Exit.OK if report.armed else Exit.DAMAGE
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)
