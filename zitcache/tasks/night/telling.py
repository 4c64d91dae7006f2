"""Who hears of a night: hooks before and after, the messages, the metrics. None of them can fail it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zitcache.errors import Exit, ZitcacheError
from zitcache.events import Notice, Outcome, Session
from zitcache.machine.fstab import unmounted
from zitcache.machine.texts import json_text, printable
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import Run, RunRecord, StepRecord, last_with_step, own_runs, recent_runs
from zitcache.schedule.hooks import launch_hook, run_hook
from zitcache.schedule.metrics import Metric, write_metrics
from zitcache.schedule.notify import Message, Teller
from zitcache.schedule.sections import HookConfig, Level
from zitcache.tasks.configuration import Config
from zitcache.tasks.night.steps import STEPS, Context
from zitcache.tasks.overview import Overview, overview
from zitcache.tasks.secrets import foreign_hooks, readable_secrets

if TYPE_CHECKING:
    from zitcache.tasks.night import NightReport


_STOPPED_TIMEOUT_SECONDS = 0.7
"""After SIGTERM, everything has to be over within two seconds."""


class Telling:
    """Everything that the outside hears of one night. ``path``: of the configuration, None without one."""

    def __init__(self, config: Config, path: Path | None) -> None:
        self._config = config
        self._path = path
        self._hooks = config.hooks
        self._teller = Teller(config.notify)
        self.may_run = True

    def begin(self, session: Session) -> None:
        """The start: ping, then the hook. ``may_run`` is False after a required hook that failed."""
        if self._path is not None:
            _warn([readable_secrets(self._path, self._config)], session)
            refused = foreign_hooks(self._path, self._config)
            if refused is not None:
                _warn([refused], session)
                self.may_run = not self._hooks.required
                self._hooks = HookConfig()
        _warn(self._teller.started(), session)
        notice = run_hook(
            "before",
            self._hooks.before,
            {"ZITCACHE_RUN_ID": self._teller.run_id},
            stopping=lambda: bool(session.cancel),
        )
        if notice is not None:
            _warn([notice], session)
            self.may_run = not self._hooks.required

    def end(
        self, record: RunRecord, repository: Repository | None, context: Context, session: Session
    ) -> bool:
        """The end: metrics, hook, messages. Returns whether all of it went well."""
        runs, view = _look(repository, context, session) if repository is not None else ([], None)
        notices = self._metrics(record, view, runs)
        message = message_of(record, view)
        hook = run_hook(
            "after", self._hooks.after, self._variables(message), stopping=lambda: bool(session.cancel)
        )
        notices += [hook] if hook is not None else []
        notices += self._teller.finished(message)
        _warn(notices, session)
        return not notices

    def stopped(self, record: RunRecord) -> None:
        """The end of a night that was told to stop, in the time that is left.

        The hook is started, because it may put right what the one before did, but nobody waits for it.
        """
        message = message_of(record, None)
        launch_hook(self._hooks.after, self._variables(message))
        self._teller.timeout_seconds = _STOPPED_TIMEOUT_SECONDS
        self._teller.stopped(message)

    def _variables(self, message: Message) -> dict[str, str]:
        values = {
            "ZITCACHE_RUN_ID": self._teller.run_id,
            "ZITCACHE_EXIT_CODE": str(message.exit_code),
            "ZITCACHE_LEVEL": message.level,
            "ZITCACHE_TITLE": message.title,
            "ZITCACHE_BODY": message.body,
        }
        return {name: value.replace("\0", "") for name, value in values.items()}

    def test(self, session: Session) -> Outcome[NightReport]:
        """Send a test message through every channel and say which of them did not work."""
        from zitcache.tasks.night import NightReport

        started = time.monotonic()
        notices = self._teller.started()
        title = f"zitcache on {socket.gethostname()}: this is a test"
        # Of the gravest level, so that every channel gets it; the ping says 0, or an alarm would go off.
        text = "If you can read this, you will be told when something goes wrong."
        notices += self._teller.finished(Message(title, text, "failure", 0))
        _warn(notices, session)
        report = NightReport(repository=None, steps=[], seconds=time.monotonic() - started, told=not notices)
        exit_code = Exit.UNREACHABLE if notices else Exit.OK
        return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)

    def _metrics(self, record: RunRecord, view: Overview | None, runs: Sequence[Run]) -> list[Notice]:
        if not self._config.metrics.textfile:
            return []
        place = os.path.expanduser(self._config.metrics.textfile)
        absent = unmounted(place)
        reason = f"{absent} is not mounted"
        if absent is None:
            try:
                write_metrics(Path(place), metrics_of(record, view, runs))
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return []
        return [
            Notice(
                code="metrics-not-written",
                message=f"The metrics file {place} could not be written: {reason}.",
                hint="Correct textfile in the section [metrics] of the configuration.",
            )
        ]


def message_of(record: RunRecord, view: Overview | None) -> Message:
    """What is told about a night: the first thing that went wrong, or how much is safe.

    The ping service also hears of what another unit failed at last: else a check that went well would turn
    off the alarm of the backup before it.
    """
    failed = [step for step in record.steps if step.exit_code and not step.skipped]
    stale = view.stale if view is not None else []
    earlier = [moment.last_exit_code for moment in view.moments if moment.last_exit_code] if view else []
    level: Level = "ok"
    if any(step.exit_code != Exit.PARTIAL for step in failed):
        level = "failure"
    elif failed or stale:
        level = "warning"
    lines = [f"{step.name}: {printable(step.message)}" for step in record.steps if not step.skipped]
    if stale:
        lines.append(f"Too long ago: {', '.join(stale)}.")
    what = f"{failed[0].name} failed" if failed else f"{stale[0]} is too old" if stale else "a good night"
    if failed and level == "warning":
        what = f"{failed[0].name} was not complete"
    if failed and failed[0].exit_code in {Exit.INTERRUPTED, Exit.TERMINATED}:
        what = "the night was stopped"
    return Message(
        title=f"zitcache on {record.host}: {what}",
        body="\n".join(lines),
        level=level,
        exit_code=record.exit_code,
        log=json_text(record.log),
        data=[
            {
                "name": step.name,
                "exit_code": step.exit_code,
                "seconds": step.seconds,
                "message": json_text(step.message),
            }
            for step in record.steps
            if not step.skipped
        ],
        ping_code=record.exit_code or next(iter(earlier), 0),
    )


def metrics_of(record: RunRecord, view: Overview | None, runs: Sequence[Run] = ()) -> list[Metric]:
    """Ages as points in time, as Prometheus wants them: an age would stand still when nothing runs.

    ``runs``: the history, newest first. Of a step that this run did not do, the last time it was done counts:
    under systemd a backup and a check are runs of their own, and the file is written by each.
    """
    metrics = [
        Metric("last_run_timestamp_seconds", "When the last night ended.", record.ended),
        Metric("last_run_duration_seconds", "How long the last night took.", record.ended - record.started),
        Metric("last_run_exit_code", "Exit code of the last night.", record.exit_code),
    ]
    for step, ended in _last_steps(record, runs):
        labels = {"step": step.name}
        metrics += [
            Metric("step_duration_seconds", "How long a step took.", step.seconds, labels),
            Metric("step_exit_code", "Exit code of a step.", step.exit_code, labels),
            Metric("step_timestamp_seconds", "When the night of a step ended.", ended, labels),
        ]
    if view is None:
        return metrics
    for moment in view.moments:
        labels = {"what": moment.what}
        when = 0.0 if moment.age_seconds is None else max(0.0, record.ended - moment.age_seconds)
        help_text = "When this last went well; 0 for never."
        metrics.append(Metric("last_success_timestamp_seconds", help_text, when, labels))
        metrics.append(Metric("stale", "Whether this is too long ago.", int(moment.stale), labels))
    metrics.append(Metric("snapshots", "Snapshots in the repository.", view.snapshots))
    for model in view.models:
        labels = {"model": model.id, "revision": model.revision}
        metrics.append(Metric("model_size_bytes", "Size of a model.", model.size_bytes, labels))
        protected = int(model.snapshot_id is not None)
        metrics.append(Metric("model_protected", "Whether a good snapshot holds it.", protected, labels))
    if view.disk is not None:
        metrics.append(Metric("stored_bytes", "Bytes of all packs.", view.disk.stored_bytes))
        metrics.append(Metric("disk_free_bytes", "Free on the repository's disk.", view.disk.bytes_free))
    return metrics


def _last_steps(record: RunRecord, runs: Sequence[Run]) -> Iterator[tuple[StepRecord, float]]:
    """The last time of every step, and when that run ended."""
    own = own_runs(runs)
    for name in STEPS:
        now = record.step(name)
        before = last_with_step(own, name)
        if now is not None:
            yield now, record.ended
        elif before is not None:
            yield before[1], before[0].record.ended


def _look(repository: Repository, context: Context, session: Session) -> tuple[list[Run], Overview | None]:
    from zitcache.tasks.report.collect import live_inventory

    with contextlib.suppress(ZitcacheError, OSError, msgspec.MsgspecError):
        fresh = Repository.open(repository.storage)  # the night has added to it
        snapshots, _ = list_snapshots(fresh)
        stock = live_inventory(context.cache, Session(session.progress, session.cancel))
        runs = recent_runs(fresh, context.state)
        return runs, overview(fresh, snapshots, runs, stock, context.config.status)
    return [], None


def _warn(notices: Iterable[Notice | None], session: Session) -> None:
    for notice in notices:
        if notice is not None:
            session.warn(notice.code, notice.message, notice.hint)
