"""The figures of the report, from the repository, the cache and the history."""

from __future__ import annotations

import contextlib
import socket
import time

import msgspec

from zitcache import __version__
from zitcache.cache.inventory import Inventory, inventory
from zitcache.errors import CacheNotFound, ZitcacheError
from zitcache.events import Session
from zitcache.repository.selection import Snapshot, list_snapshots, newest_good
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import locate, open_repository
from zitcache.tasks.overview import Overview, overview
from zitcache.tasks.overview.ages import iso_of
from zitcache.tasks.overview.problems import problems_of
from zitcache.tasks.overview.sizes import Sizes, Totals, sizes_by_dtype, sizes_by_model, totals
from zitcache.tasks.report.pictures import Picture, golden_picture, last_picture
from zitcache.tasks.schedule.state import schedule_state
from zitcache.tasks.settings import load_config

MAX_SNAPSHOTS = 400
MAX_RUNS = 60


class SnapshotPoint(msgspec.Struct, kw_only=True):
    """A snapshot on the time line. ``state``: "good", "partial" or "suspect"."""

    id: str
    time: str
    size_bytes: int
    bytes_new_stored: int
    state: str
    host: str
    tags: list[str]
    pinned: bool


class RunPoint(msgspec.Struct, kw_only=True):
    """A run. ``steps``: name, seconds and exit code of each that ran. ``bytes_read``: by its backup."""

    started: str
    seconds: float
    exit_code: int
    steps: list[tuple[str, float, int]]
    bytes_read: int | None = None
    bytes_new_stored: int | None = None
    backup_seconds: float | None = None


class InventoryLine(msgspec.Struct, kw_only=True):
    """A model that lies in the cache. ``dtypes``: bytes of each."""

    id: str
    revision: str
    layout: str
    files: int
    size_bytes: int
    dtypes: dict[str, int]
    complete: bool
    problems: list[str]


class ReportData(msgspec.Struct, kw_only=True):
    """Everything that the page shows. ``golden``/``proof``: the pictures to lay side by side.

    ``problems``: sentences, the gravest first. ``next_run``: ISO time, None if no night comes by itself, for
    the reason in ``schedule_problem``; ``backend``: what runs them.
    """

    time: str
    host: str
    program: str
    overview: Overview
    inventory: list[InventoryLine]
    snapshots: list[SnapshotPoint]
    by_dtype: list[Sizes]
    by_model: list[Sizes]
    totals: Totals
    runs: list[RunPoint]
    problems: list[str] = []
    next_run: str | None = None
    backend: str | None = None
    schedule_problem: str | None = None
    golden: Picture | None = None
    proof: Picture | None = None


def collect(repository: str | None, cache: str | None, session: Session) -> ReportData:
    """Gather the figures; weights are not read. A cache that is gone is no error: the page then says so."""
    opened = open_repository(repository, session)
    snapshots, unreadable = list_snapshots(opened)
    for snapshot_id, problem in unreadable.items():
        session.warn("snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}")
    stock = live_inventory(cache, session)
    runs = recent_runs(opened, state_directory(), MAX_RUNS)
    loaded = load_config()
    config = loaded[1] if loaded else Config()
    newest = newest_good(snapshots)
    entries = []
    if newest is not None:
        with contextlib.suppress(ZitcacheError):
            entries = opened.tree(newest.record)
    view = overview(opened, snapshots, runs, stock, config.status)
    schedule = schedule_state(runs)
    proof = last_picture(opened)
    return ReportData(
        time=iso_of(time.time()),
        host=socket.gethostname(),
        program=f"zitcache {__version__}",
        overview=view,
        inventory=_inventory(stock),
        snapshots=[_point(snapshot) for snapshot in snapshots[-MAX_SNAPSHOTS:]],
        by_dtype=sizes_by_dtype(opened, entries),
        by_model=sizes_by_model(opened, entries, newest.record.models if newest else []),
        totals=totals(opened, snapshots),
        runs=[run_point(run) for run in reversed(runs)],
        problems=problems_of(view, unreadable, schedule.last_exit_code),
        next_run=schedule.next_run,
        backend=schedule.backend,
        schedule_problem=schedule.problem,
        golden=golden_picture(opened, proof.model if proof else None),
        proof=proof,
    )


def live_inventory(cache: str | None, session: Session) -> Inventory | None:
    """What lies in the cache now; None, with a warning, if there is none."""
    try:
        return inventory(locate(cache, session).path)
    except CacheNotFound as error:
        session.warn("no-cache", error.message.splitlines()[0], "Bring it back: zitcache restore")
        return None


class _BackupFigures(msgspec.Struct):
    bytes_read: int = 0
    bytes_new_stored: int = 0


def run_point(run: Run) -> RunPoint:
    """A run as a point on a chart."""
    record = run.record
    point = RunPoint(
        started=iso_of(record.started),
        seconds=max(0.0, record.ended - record.started),
        exit_code=record.exit_code,
        steps=[(step.name, step.seconds, step.exit_code) for step in record.steps if not step.skipped],
    )
    backup = record.step("backup")
    if backup is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            figures = msgspec.json.decode(backup.data, type=_BackupFigures)
            point.bytes_read, point.bytes_new_stored = figures.bytes_read, figures.bytes_new_stored
            point.backup_seconds = backup.seconds
    return point


def _point(snapshot: Snapshot) -> SnapshotPoint:
    record = snapshot.record
    return SnapshotPoint(
        id=snapshot.id,
        time=record.time,
        size_bytes=record.size_bytes,
        bytes_new_stored=record.bytes_new_stored,
        state="suspect" if snapshot.is_suspect else "partial" if record.left_out else "good",
        host=record.host,
        tags=snapshot.tags,
        pinned=snapshot.pinned,
    )


def _inventory(stock: Inventory | None) -> list[InventoryLine]:
    return [
        InventoryLine(
            id=model.id,
            revision=model.revision,
            layout=model.layout.value,
            files=len(model.files),
            size_bytes=model.size_bytes,
            dtypes=model.dtypes,
            complete=model.complete,
            problems=[problem.message for problem in model.problems],
        )
        for model in (stock.models if stock else ())
    ]
