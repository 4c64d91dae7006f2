"""Put the schedule there, for whatever runs jobs here, and take it away again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import Exit, UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import write_durably
from zitcache.machine.schedule_entries import read_crontab, write_crontab
from zitcache.machine.schedulers import find_schedulers
from zitcache.repository.repository import Repository
from zitcache.schedule import cron, systemd
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.schedule.jobs import Installation
from zitcache.schedule.times import parse_times
from zitcache.storage.opening import open_storage
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import chosen_location, locate
from zitcache.tasks.schedule.program import absolute, own_program
from zitcache.tasks.schedule.state import ScheduleReport, schedule_state
from zitcache.tasks.schedule.units import enable_timers, remove_units, rooted, unit_folder, user_manager_runs
from zitcache.tasks.settings import config_path, load_config

BACKENDS = ("auto", "systemd", "cron", "daemon")
CRONTAB = "crontab"
_START_SECONDS = 10.0
_MAX_LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """``at``: a cron expression or a time of day; None for the configured one. ``backend``: likewise."""

    repository: str | None = None
    cache: str | None = None
    at: str | None = None
    backend: str | None = None
    dry_run: bool = False


def install(request: InstallRequest, session: Session) -> Outcome[ScheduleReport]:
    """Arm the schedule, replacing an earlier one of ours: the new one is there before the old one goes.

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
        lines = [f"{path} (would be written)" for path in files]
        report.changed, report.dry_run = lines or ["zitcache schedule run (would be started)"], True
        report.texts = files
        return Outcome(data=report, warnings=session.warnings)
    _warn_of_keys(backend, installation, session)
    removed = _stop_daemon(session)
    try:
        changed = _install(backend, installation, files, session)
    except OSError as error:
        raise from_os_error(error, "installing the schedule") from error
    removed += _remove_others(backend, session)
    return _outcome([*changed, *(f"{entry} (removed)" for entry in removed)], session)


def remove(session: Session, *, dry_run: bool = False) -> Outcome[ScheduleReport]:
    """Take away what :func:`install` put there, whichever backend it was. What is not ours stays."""
    if dry_run:
        report = schedule_state(())
        report.changed, report.dry_run = [f"{entry} (would be removed)" for entry in report.entries], True
        return Outcome(data=report, warnings=session.warnings)
    removed = [*_stop_daemon(session), *_remove_others(None, session)]
    outcome = _outcome([f"{entry} (removed)" for entry in removed], session)
    outcome.exit_code = Exit.OK
    return outcome


def describe(request: InstallRequest, config: Config, session: Session) -> Installation:
    """Everything that a run must be told, found out now, while there is a person to correct it.

    Raises what opening the repository raises: a night that cannot do so would fail every time.
    """
    place = absolute(chosen_location(request.repository, session))
    Repository.open(open_storage(place))
    cache = absolute(str(locate(request.cache, session).path))
    environment = []
    path, named = config_path()
    if named and path is not None:
        environment.append(("ZITCACHE_CONFIG", os.path.abspath(path)))
    is_remote = "://" in place
    scratch = config.night.scratch or (None if is_remote else f"{place.rstrip('/')}-drill")
    # A file that appears whole is renamed into its folder.
    pages = [config.night.report, config.metrics.textfile]
    folders = [os.path.dirname(absolute(page)) for page in pages if page]
    proofs = [] if is_remote else [f"{place.rstrip('/')}-proofs"]
    return Installation(
        program=own_program(),
        repository=place,
        options=("--repo", place, "--cache", cache),
        at=parse_times(request.at or config.schedule.at),
        # systemd looks for the mount of a path as it is written.
        cache=os.path.realpath(cache),
        scratch=absolute(scratch) if scratch else None,
        writable=tuple(dict.fromkeys([*proofs, *folders])),
        home=os.path.expanduser("~"),
        user=_user_name(),
        environment=tuple(environment),
    )


def choose_backend(wanted: str, session: Session) -> str:
    """The backend to install for. Raises ``UsageError`` for one that nobody would run here."""
    if wanted not in BACKENDS:
        raise UsageError(f"--backend cannot be {wanted!r}.", hint=f"Use one of: {', '.join(BACKENDS)}")
    here = find_schedulers()
    is_root = os.geteuid() == 0
    systemd_runs = here.systemd and (is_root or user_manager_runs())
    if wanted == "auto":
        if systemd_runs:
            return "systemd"
        return "cron" if here.cron and (is_root or here.cron_command) else "daemon"
    if wanted == "systemd" and not systemd_runs:
        who = "systemd does not run here (it is not the first process)"
        if here.systemd:
            who = "No systemd runs for this user (there is no session)"
        raise UsageError(
            f"{who}: nobody would start the timers.", hint="Use: zitcache schedule install --backend auto"
        )
    if wanted == "cron" and not is_root and not here.cron_command:
        raise UsageError(
            "There is no program crontab here, through which an ordinary user reaches cron.",
            hint="Install the package cron, or use: zitcache schedule install --backend daemon",
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
        units = systemd.unit_files(installation, system=is_root)
        return {str(unit_folder(user=not is_root) / name): text for name, text in units.items()}
    tools = cron.Tools(flock=shutil.which("flock"), nice=shutil.which("nice"))
    if backend == "cron" and os.geteuid() == 0:
        return {str(rooted(Path(cron.SYSTEM_FILE))): cron.system_file(installation, tools)}
    if backend == "cron":
        return {CRONTAB: cron.user_block(installation, tools)}
    return {}


def _install(backend: str, installation: Installation, files: dict[str, str], session: Session) -> list[str]:
    if backend == "daemon":
        return [_start_daemon(installation)]
    if CRONTAB in files:
        write_crontab(cron.with_block(_own_crontab(), files[CRONTAB]))
        return [CRONTAB]
    if backend == "systemd":
        for place in filter(None, (installation.scratch, *installation.writable)):
            # systemd can open only what exists to a protected unit.
            Path(place).mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # cron ignores files that others may write to, and systemd warns about executable ones.
        write_durably(path, text.encode("utf-8", "surrogateescape"), mode=0o644)
        os.chmod(path, 0o644)  # whatever the umask is
    if backend == "systemd":
        timers = [Path(path).name for path in files if path.endswith(".timer")]
        enable_timers(timers, user=os.geteuid() != 0, session=session)
    return list(files)


def _own_crontab() -> str:
    """The crontab as it is. Raises ``UsageError`` if it cannot be read: what is not seen would be lost."""
    text = read_crontab()
    if text is None:
        raise UsageError("The crontab could not be read, so nothing was changed.", hint="See why: crontab -l")
    return text


def _start_daemon(installation: Installation) -> str:
    """Start our own scheduler detached from this terminal, and wait until it holds its lock."""
    state = state_directory()
    running = running_scheduler(state)
    if running is not None:  # it could not be stopped, which has been said
        return f"zitcache schedule run (process {running}, as it was)"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = [*installation.program, "schedule", "run", "--at", installation.at.text, *installation.options]
    log = state / "scheduler.log"
    with contextlib.suppress(OSError):
        if log.stat().st_size > _MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.old"))
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


def _warn_of_keys(backend: str, installation: Installation, session: Session) -> None:
    """Keys of a bucket in this shell's environment are not there at night, under cron and systemd."""
    if not installation.is_remote or backend == "daemon" or not os.environ.get("AWS_ACCESS_KEY_ID"):
        return
    place = (
        "/etc/zitcache/environment" if backend == "systemd" and os.geteuid() == 0 else "~/.aws/credentials"
    )
    session.warn(
        "keys-not-at-night",
        "The keys of the bucket are in the environment of this shell. A night does not see that.",
        f"Put them into {place} (mode 0600), then try: zitcache night --only report --force",
    )


def _stop_daemon(session: Session) -> list[str]:
    """Stop our own scheduler: it has the old times, also if the new backend is the same."""
    process = running_scheduler(state_directory())
    if not process:
        return []
    if process == 1:
        session.warn(
            "scheduler-is-first-process",
            "The scheduler is the start command of this container: stopping it would stop the container.",
            "Change the times in that command: zitcache schedule run --at TIME",
        )
        return []
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + _START_SECONDS
    while running_scheduler(state_directory()) is not None or _is_alive(process):
        if time.monotonic() > deadline:
            session.warn("scheduler-not-stopped", f"The scheduler (process {process}) does not stop.")
            return []
        time.sleep(0.05)
    return [f"zitcache schedule run (process {process})"]


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about has no words left."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def _remove_others(keep: str | None, session: Session) -> list[str]:
    """Remove the entries of every backend but ``keep``, whose files are replaced in place."""
    removed: list[str] = []
    for backend, remove_all in (("systemd", remove_units), ("cron", _remove_cron)):
        if keep == backend:
            continue
        try:
            removed += remove_all()
        except PermissionError as error:
            session.warn(
                "not-removed", f"{error.filename} could not be removed: {error.strerror}.", "Use sudo."
            )
        except OSError as error:
            raise from_os_error(error, "removing the schedule") from error
    return removed


def _remove_cron() -> list[str]:
    removed = []
    path = rooted(Path(cron.SYSTEM_FILE))
    if path.is_file():
        path.unlink()
        removed.append(str(path))
    crontab = read_crontab() or ""  # what cannot be read is left as it is
    rest = cron.without_block(crontab)
    if rest != crontab:
        write_crontab(rest)
        removed.append(CRONTAB)
    return removed


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers run as a number that nobody has written down
        return str(os.geteuid())


def _outcome(changed: list[str], session: Session) -> Outcome[ScheduleReport]:
    report = schedule_state(recent_runs(None, state_directory()))
    report.changed = changed
    exit_code = Exit.OK if report.armed else Exit.DAMAGE
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)
