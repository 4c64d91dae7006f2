"""``night``: everything that keeps a cache safe, in one run that nobody watches.

``steps``: what each step does and says · ``drilling``: where a drill restores to · ``due``: which steps it is
time for · ``telling``: hooks, messages, metrics · ``alone``: the lock · here: their order, and the record.

A step that fails is recorded and told, and the rest goes on where that makes sense: a check is as useful
after a failed backup, but nothing is forgotten on such a night.
"""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from zitcache import __version__
from zitcache.errors import Exit, Interrupted, Locked, UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.fstab import unmounted
from zitcache.machine.plain import plain
from zitcache.repository.repository import Repository
from zitcache.schedule.history import Run, RunRecord, StepRecord, recent_runs, remember, state_directory
from zitcache.schedule.times import parse_times
from zitcache.storage.opening import open_storage
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import chosen_location
from zitcache.tasks.night.alone import alone
from zitcache.tasks.night.due import due_steps
from zitcache.tasks.night.report import NightReport, NightStep, described
from zitcache.tasks.night.steps import STEPS, Context, Done, run_step
from zitcache.tasks.night.telling import Telling
from zitcache.tasks.overview.ages import has_drawn
from zitcache.tasks.report import ReportData
from zitcache.tasks.schedule.missed import last_began, note_night, was_missed
from zitcache.tasks.settings import load_config

KILLED = 137
"""In the history: a night that did not end by itself. As a shell shows it, 128 and SIGKILL."""

_BACKUP_IS_THERE = {Exit.OK, Exit.DAMAGE, Exit.PARTIAL}
_GRAVEST = (
    Exit.BUG,
    Exit.TAMPERED,
    Exit.DAMAGE,
    Exit.NO_SPACE,
    Exit.CREDENTIALS,
    Exit.UNREACHABLE,
    Exit.NOT_FOUND,
    Exit.USAGE,
    Exit.LOCKED,
    Exit.PROOF_FAILED,
    Exit.PARTIAL,
)


@dataclass(frozen=True, slots=True)
class NightRequest:
    """``only``/``skip``: names of :data:`~zitcache.tasks.night.steps.STEPS`; a step named in ``only`` still
    waits until it is due, unless ``force``. ``render``: makes the page of the figures. ``test``: tell only.
    ``wait_seconds``: how long another night may still take. ``if_missed``: the times of nights; only if one
    of them has passed since the last night.
    """

    render: Callable[[ReportData], str]
    repository: str | None = None
    cache: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    force: bool = False
    dry_run: bool = False
    test: bool = False
    wait_seconds: float = 0.0
    if_missed: str | None = None


def night(request: NightRequest, session: Session) -> Outcome[NightReport]:
    """Run a night.

    Exit codes: 0; else that of the gravest step. Raises ``Locked`` while another night runs here, and
    ``UsageError`` for a wrong configuration or step. Whatever else goes wrong is a failed step, which is
    recorded and told.
    """
    unknown = [name for name in (*request.only, *request.skip) if name not in STEPS]
    if unknown:
        raise UsageError(f"A night has no step {unknown[0]!r}.", hint=f"The steps are: {', '.join(STEPS)}")
    times = parse_times(request.if_missed) if request.if_missed is not None else None
    path, config = load_config() or (None, Config())
    state = state_directory()
    if times is not None and not was_missed(
        times, last_began(request.repository, state), datetime.now().astimezone()
    ):
        return _nothing_to_do(session)
    if request.test:
        return Telling(config, path).test(session)
    if request.dry_run:
        return _Night(request, config, state, session).preview()
    try:
        with alone(state, session, request.wait_seconds) as killed:
            run = _Night(request, config, state, session)
            if killed is not None:
                run.remember_killed(killed)
            return run.run(Telling(config, path))
    except Locked:
        if times is None:
            raise
        return _nothing_to_do(session)  # it is running


class _Night:
    """One night: what it knows, and what it has done so far."""

    def __init__(self, request: NightRequest, config: Config, state: Path, session: Session) -> None:
        self._request = request
        self._config = config
        self._state = state
        self._session = session
        self._started = time.time()
        self._clock = time.monotonic()
        self._steps: list[StepRecord] = []
        self._skipped: dict[str, str] = {}
        self._data: dict[str, object] = {}
        self._log: list[str] = []
        self._seen = 0
        self._location: str | None = request.repository
        self._repository: Repository | None = None
        self._unopened: Done | None = None
        self._runs: list[Run] = []
        self._open()
        self._skipped = due_steps(request, config, self._runs, self._started)

    def preview(self) -> Outcome[NightReport]:
        """Which steps it is time for."""
        return self._outcome(told=True)

    def remember_killed(self, began: float) -> None:
        """Record a night that never came to its end: it could not do so itself."""
        text = "The night was killed, or the machine went down: what it had done until then is kept."
        record = RunRecord(
            command="night",
            host=socket.gethostname(),
            program=f"zitcache {__version__}",
            started=began,
            ended=began,
            exit_code=KILLED,
            log=text + "\n",
        )
        self._session.warn("night-killed", f"The last night did not end. {text}", "zitcache history")
        remember(record, self._repository, self._state)

    def run(self, telling: Telling) -> Outcome[NightReport]:
        """All steps, then the record, then the messages."""
        telling.begin(self._session)
        failure: BaseException | None = None
        try:
            if telling.may_run:
                self._all_steps()
            else:
                self._add(Done(Exit.USAGE, "the hook 'before' failed, and is required"), "hook", 0.0)
                self._skipped |= dict.fromkeys(STEPS, "the hook 'before' failed")
        except (Interrupted, KeyboardInterrupt) as error:
            self._add(Done(Exit.INTERRUPTED, "interrupted; what was done is kept"), "stop", 0.0)
            failure = error
        self._say_warnings()
        record = self._record()
        for notice in remember(record, self._repository, self._state):
            self._session.warn(notice.code, notice.message, notice.hint)
        if record.step("backup") is not None:
            note_night(self._started, self._state)
        if failure is not None:
            telling.stopped(record)
            raise failure
        told = telling.end(record, self._repository, self._context(), self._session)
        return self._outcome(told=told)

    def _all_steps(self) -> None:
        for name in STEPS:
            if name == "prune" and self._disk_is_full() and self._may("prune"):
                self._skipped.pop(name, None)  # due or not: nothing else makes room
            if name in self._skipped:
                continue
            reason = self._not_now(name)
            if reason is not None:
                self._skipped[name] = reason
                continue
            done = self._step(name)
            if name == "prune" and self._disk_is_full() and _has_freed(done):
                self._steps = [step for step in self._steps if step.name != "backup"]
                self._step("backup")

    def _step(self, name: str) -> Done:
        self._session.cancel.check()
        began = time.monotonic()
        step_session = Session(self._session.progress, self._session.cancel)
        done = self._unopened or run_step(name, self._context(), step_session)
        self._session.warnings += step_session.warnings
        self._add(done, name, time.monotonic() - began)
        return done

    def _may(self, name: str) -> bool:
        return name not in self._request.skip and (not self._request.only or name in self._request.only)

    def _disk_is_full(self) -> bool:
        return any(step.name == "backup" and step.exit_code == Exit.NO_SPACE for step in self._steps)

    def _not_now(self, name: str) -> str | None:
        """Why a step must not run after what has happened so far."""
        backup = next((step for step in self._steps if step.name == "backup"), None)
        failed = backup is not None and Exit(backup.exit_code) not in _BACKUP_IS_THERE
        if self._unopened is not None and self._steps:
            return "the repository cannot be opened"
        if name == "forget" and failed:
            return "nothing is forgotten when the backup failed"
        # Pruning is how a full disk gets room for the next backup.
        if name == "prune" and failed and backup is not None and backup.exit_code != Exit.NO_SPACE:
            return "nothing is pruned when the backup failed"
        return None

    def _context(self) -> Context:
        return Context(
            config=self._config,
            repository=self._location,
            cache=self._request.cache,
            render=self._request.render,
            state=self._state,
            draws="proof" not in self._skipped and self._config.night.proof,
            drew=any(step.name == "drill" and has_drawn(step.data) for step in self._steps),
        )

    def _open(self) -> None:
        """Find the repository and its history, or what every step would fail with."""
        try:
            self._location = chosen_location(self._request.repository, self._session)
            self._repository = Repository.open(open_storage(self._location))
            self._runs = recent_runs(self._repository, self._state)
        except ZitcacheError as error:
            message, hint = error.message, error.hint
            place = unmounted(self._location) if self._location and "://" not in self._location else None
            if place is not None:
                message, hint = (
                    f"{place} is not mounted, and the repository is on it.",
                    f"mount {shlex.quote(place)}",
                )
            self._repository, self._unopened = None, Done(error.exit_code, message, hint=hint)
            self._runs = recent_runs(None, self._state)

    def _add(self, done: Done, name: str, seconds: float) -> None:
        self._say_warnings()
        self._data[name] = done.data
        self._steps.append(
            StepRecord(
                name=name,
                exit_code=int(done.exit_code),
                seconds=seconds,
                message=done.message,
                data=msgspec.Raw(msgspec.json.encode(plain(done.data))),
            )
        )
        code = f"exit code {int(done.exit_code)}: " if done.exit_code else ""
        self._say(f"{name}: {code}{done.message}")
        if done.hint:
            self._say(f"  {done.hint}")

    def _say_warnings(self) -> None:
        for notice in self._session.warnings[self._seen :]:
            self._say(f"  warning: {notice.message}")
        self._seen = len(self._session.warnings)

    def _say(self, line: str) -> None:
        # A name may hold a line break, and must not pose as a line of its own.
        text = line.replace("\\", "\\\\").replace("\n", "\\n") if "\n" in line else line
        self._log.append(f"{time.strftime('%H:%M:%S')} {text}")

    def _record(self) -> RunRecord:
        return RunRecord(
            command="night",
            host=socket.gethostname(),
            program=f"zitcache {__version__}",
            started=self._started,
            ended=time.time(),
            exit_code=int(self._exit_code()),
            steps=[
                *self._steps,
                *(
                    StepRecord(name=name, exit_code=0, seconds=0.0, message=reason, skipped=True)
                    for name, reason in self._skipped.items()
                ),
            ],
            warnings=list(self._session.warnings)[:200],
            log="\n".join(self._log) + "\n",
        )

    def _exit_code(self) -> Exit:
        codes = {Exit(step.exit_code) for step in self._steps}
        stopped = codes & {Exit.INTERRUPTED, Exit.TERMINATED}
        return next((code for code in (*stopped, *_GRAVEST) if code in codes), Exit.OK)

    def _outcome(self, *, told: bool) -> Outcome[NightReport]:
        report = NightReport(
            repository=None if self._repository is None else self._repository.storage.location,
            steps=described(self._steps, self._skipped, self._data),
            seconds=time.monotonic() - self._clock,
            told=told,
            dry_run=self._request.dry_run,
        )
        return Outcome(data=report, warnings=self._session.warnings, exit_code=self._exit_code())


def _nothing_to_do(session: Session) -> Outcome[NightReport]:
    report = NightReport(repository=None, steps=[], seconds=0.0, told=True, none_missed=True)
    return Outcome(data=report, warnings=session.warnings)


def _has_freed(done: Done) -> bool:
    return done.exit_code == Exit.OK and getattr(done.data, "bytes_freed", 0) > 0


__all__ = ["NightReport", "NightRequest", "NightStep", "night"]
