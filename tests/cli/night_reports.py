"""What the commands about nights give in the tests of the command line."""

from __future__ import annotations

from typing import Any

import msgspec

from zitcache.tasks.config import ConfigReport, SettingState
from zitcache.tasks.history import HistoryReport, RunStep, RunSummary
from zitcache.tasks.night import NightReport, NightStep
from zitcache.tasks.overview import DiskForecast, ModelState, Moment, Overview
from zitcache.tasks.overview.sizes import Sizes, Totals
from zitcache.tasks.report import ReportData, ReportReport
from zitcache.tasks.report.collect import InventoryLine, RunPoint, SnapshotPoint
from zitcache.tasks.schedule import ScheduleReport
from zitcache.tasks.status import StatusReport

REPO, CACHE = "/data/zitcache", "/root/workspace/model_cache"
SNAPSHOT = "3fa4b2c1" + "0" * 56
MODEL, TIME = "Tongyi-MAI/Z-Image-Turbo", "2026-01-31T02:00:00Z"
SIZE, STORED = 32_848_304_654, 14_100_000_000
DAY = 86_400.0


def moment(what: str, days: float, limit_days: float, **changes: Any) -> Moment:
    """Something that was done ``days`` ago and is not too old."""
    made = Moment(
        what=what, time=TIME, age_seconds=days * DAY, limit_seconds=limit_days * DAY, stale=days > limit_days
    )
    return msgspec.structs.replace(made, **changes)


def overview(**changes: Any) -> Overview:
    """The case, backed up last night."""
    made = Overview(
        repository=REPO,
        cache=CACHE,
        last_good=SNAPSHOT,
        snapshots=17,
        models=[
            ModelState(
                id=MODEL,
                revision="master",
                size_bytes=SIZE,
                in_cache="complete",
                snapshot_id=SNAPSHOT,
                snapshot_time=TIME,
                age_seconds=0.4 * DAY,
            )
        ],
        moments=[
            moment("backup", 0.4, 1.5),
            moment("check", 29, 40),
            moment("drill", 12, 40),
            moment("proof", 12, 40),
        ],
        stale=[],
        disk=DiskForecast(
            path=REPO,
            bytes_free=310_000_000_000,
            bytes_total=500_000_000_000,
            stored_bytes=STORED,
            growth_per_day=1_000_000_000.0,
            days_left=310.0,
        ),
    )
    return msgspec.structs.replace(made, **changes)


def schedule_report(**changes: Any) -> ScheduleReport:
    """cron runs it."""
    made = ScheduleReport(
        armed=True,
        backend="cron",
        at="0 2 * * *",
        next_run="2026-02-01T02:00:00Z",
        entries=["/etc/cron.d/zitcache"],
        runs_here=["cron"],
        problem=None,
        last_run=TIME,
        last_exit_code=0,
    )
    return msgspec.structs.replace(made, **changes)


def status_report(**changes: Any) -> StatusReport:
    """All is well."""
    made = StatusReport(
        ok=True,
        problems=[],
        overview=overview(),
        schedule=schedule_report(),
        picture="/data/zitcache-proofs/2026-01-19/picture.png",
    )
    return msgspec.structs.replace(made, **changes)


def night_report(**changes: Any) -> NightReport:
    """A night without drill and proof."""
    made = NightReport(
        repository=REPO,
        steps=[
            NightStep(name="backup", exit_code=0, seconds=21.2, message="32.8 GB in 16 files", data={"a": 1}),
            NightStep(name="forget", exit_code=0, seconds=0.2, message="17 snapshots kept, 1 forgotten"),
            NightStep(name="check", exit_code=0, seconds=4.0, message="17 snapshots sound"),
            NightStep(name="drill", exit_code=0, seconds=0.0, message="not due", skipped="not due"),
        ],
        seconds=26.0,
        told=True,
    )
    return msgspec.structs.replace(made, **changes)


def run_summary(**changes: Any) -> RunSummary:
    """The run of such a night."""
    made = RunSummary(
        id="77aa01bc" + "0" * 56,
        command="night",
        host="box",
        started=TIME,
        seconds=26.0,
        exit_code=0,
        steps=[RunStep(name="backup", exit_code=0, seconds=21.2, message="32.8 GB in 16 files")],
        pending=False,
        log="02:00:21 backup: 32.8 GB in 16 files\n",
    )
    return msgspec.structs.replace(made, **changes)


def report_data(**changes: Any) -> ReportData:
    """The figures of the page."""
    made = ReportData(
        time=TIME,
        host="box",
        program="zitcache 0.1.0",
        overview=overview(),
        inventory=[
            InventoryLine(
                id=MODEL,
                revision="master",
                layout="modelscope",
                files=16,
                size_bytes=SIZE,
                dtypes={"BF16": 8_000_000_000, "F32": 24_800_000_000},
                complete=True,
                problems=[],
            )
        ],
        snapshots=[
            SnapshotPoint(
                id=SNAPSHOT,
                time=TIME,
                size_bytes=SIZE,
                bytes_new_stored=STORED,
                state="good",
                host="box",
                tags=["nightly"],
                pinned=False,
            )
        ],
        by_dtype=[
            Sizes(name="F32", size_bytes=24_800_000_000, stored_bytes=8_200_000_000),
            Sizes(name="BF16", size_bytes=8_000_000_000, stored_bytes=5_300_000_000),
        ],
        by_model=[Sizes(name=MODEL, size_bytes=SIZE, stored_bytes=STORED)],
        totals=Totals(size_bytes=17 * SIZE, unique_bytes=SIZE, stored_bytes=STORED),
        runs=[RunPoint(started=TIME, seconds=26.0, exit_code=0, steps=[("backup", 21.2, 0)])],
    )
    return msgspec.structs.replace(made, **changes)


NIGHT_COMMANDS: dict[str, tuple[tuple[str, ...], str, msgspec.Struct]] = {
    "night": (("night",), "night.night", night_report()),
    "schedule": (("schedule", "status"), "schedule.schedule_status", schedule_report()),
    "status": (("status",), "status.status", status_report()),
    "history": (
        ("history",),
        "history.history",
        HistoryReport(repository=REPO, runs=[run_summary(log="")]),
    ),
    "log": (("log",), "history.log", run_summary()),
    "report": (
        ("report",),
        "report.report",
        ReportReport(output="/root/zitcache-report.html", size_bytes=48_000, figures=report_data()),
    ),
    "config": (
        ("config", "show"),
        "config.show",
        ConfigReport(
            path="/root/.config/zitcache/config.toml",
            settings=[
                SettingState(name="repo", value=REPO, origin="config", source="/etc/zitcache.toml"),
                SettingState(name="night.proof", value=True, origin="default"),
            ],
        ),
    ),
}
"""Per command: the arguments of a plain call, the task behind it, and what that task gives."""

NIGHT_CONTRACT: dict[str, set[str] | list[set[str]]] = {
    "night": {"repository", "steps", "seconds", "told", "dry_run"},
    "schedule": {"armed", "backend", "at", "next_run", "entries", "runs_here", "problem", "changed"},
    "status": {"ok", "problems", "overview", "schedule", "picture"},
    "history": {"repository", "runs"},
    "log": {"id", "command", "host", "started", "seconds", "exit_code", "steps", "pending", "log"},
    "report": {"output", "size_bytes", "figures"},
    "config": {"path", "settings"},
}
