"""Who hears of a night: hooks before and after, the messages, the metrics. None of them can fail it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zitcache.errors import Exit, ZitcacheError
from zitcache.events import Notice, Outcome, Session
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import RunRecord, recent_runs
from zitcache.schedule.metrics import Metric, write_metrics
from zitcache.schedule.notify import Message, Teller, run_hook
from zitcache.schedule.sections import Level
from zitcache.tasks.configuration import Config
from zitcache.tasks.night.steps import Context
from zitcache.tasks.overview import Overview, overview

if TYPE_CHECKING:
    from zitcache.tasks.night import NightReport


class Telling:
    """Everything that the outside hears of one night."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._teller = Teller(config.notify)
        self.may_run = True

    def begin(self, session: Session) -> None:
        """The start: ping, then the hook. ``may_run`` is False after a required hook that failed."""
        _warn(self._teller.started(), session)
        notice = run_hook("before", self._config.hooks.before, {"ZITCACHE_RUN_ID": self._teller.run_id})
        if notice is not None:
            _warn([notice], session)
            self.may_run = not self._config.hooks.required

    def end(
        self, record: RunRecord, repository: Repository | None, context: Context, session: Session
    ) -> bool:
        """The end: metrics, hook, messages. Returns whether all of it went well."""
        view = _look(repository, context, session) if repository is not None else None
        notices = self._metrics(record, view)
        message = message_of(record, view)
        hook = run_hook(
            "after",
            self._config.hooks.after,
            {
                "ZITCACHE_RUN_ID": self._teller.run_id,
                "ZITCACHE_EXIT_CODE": str(record.exit_code),
                "ZITCACHE_LEVEL": message.level,
                "ZITCACHE_TITLE": message.title,
                "ZITCACHE_BODY": message.body,
            },
        )
        notices += [hook] if hook is not None else []
        notices += self._teller.finished(message)
        _warn(notices, session)
        return not notices

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

    def _metrics(self, record: RunRecord, view: Overview | None) -> list[Notice]:
        place = self._config.metrics.textfile
        if not place:
            return []
        try:
            write_metrics(Path(os.path.expanduser(place)), metrics_of(record, view))
        except OSError as error:
            return [
                Notice(
                    code="metrics-not-written",
                    message=f"The metrics file {place} could not be written: {error.strerror or error}.",
                    hint="Correct textfile in the section [metrics] of the configuration.",
                )
            ]
        return []


def message_of(record: RunRecord, view: Overview | None) -> Message:
    """What is told about a night: the first thing that went wrong, or how much is safe."""
    failed = [step for step in record.steps if step.exit_code and not step.skipped]
    stale = view.stale if view is not None else []
    level: Level = "ok"
    if any(step.exit_code != Exit.PARTIAL for step in failed):
        level = "failure"
    elif failed or stale:
        level = "warning"
    lines = [f"{step.name}: {step.message}" for step in record.steps if not step.skipped]
    if stale:
        lines.append(f"Too long ago: {', '.join(stale)}.")
    what = f"{failed[0].name} failed" if failed else f"{stale[0]} is too old" if stale else "a good night"
    if failed and level == "warning":
        what = f"{failed[0].name} was not complete"
    return Message(
        title=f"zitcache on {record.host}: {what}",
        body="\n".join(lines),
        level=level,
        exit_code=record.exit_code,
        log=record.log,
        data=[
            {"name": step.name, "exit_code": step.exit_code, "seconds": step.seconds, "message": step.message}
            for step in record.steps
            if not step.skipped
        ],
    )


def metrics_of(record: RunRecord, view: Overview | None) -> list[Metric]:
    """Ages as points in time, as Prometheus wants them: an age would stand still when nothing runs."""
    metrics = [
        Metric("last_run_timestamp_seconds", "When the last night ended.", record.ended),
        Metric("last_run_duration_seconds", "How long the last night took.", record.ended - record.started),
        Metric("last_run_exit_code", "Exit code of the last night.", record.exit_code),
    ]
    for step in record.steps:
        if not step.skipped:
            labels = {"step": step.name}
            metrics += [
                Metric("step_duration_seconds", "How long a step took.", step.seconds, labels),
                Metric("step_exit_code", "Exit code of a step.", step.exit_code, labels),
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


def _look(repository: Repository, context: Context, session: Session) -> Overview | None:
    from zitcache.tasks.report.collect import live_inventory

    with contextlib.suppress(ZitcacheError, OSError, msgspec.MsgspecError):
        fresh = Repository.open(repository.storage)  # the night has added to it
        snapshots, _ = list_snapshots(fresh)
        stock = live_inventory(context.cache, Session(session.progress, session.cancel))
        runs = recent_runs(fresh, context.state)
        return overview(fresh, snapshots, runs, stock, context.config.status)
    return None


def _warn(notices: list[Notice], session: Session) -> None:
    for notice in notices:
        session.warn(notice.code, notice.message, notice.hint)
