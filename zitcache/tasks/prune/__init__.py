"""``prune``: delete what no snapshot needs, in two steps, while backups go on.

``knowledge``: read everything in the order that overlooks nothing · ``plan``: decide about each pack ·
``repack``: copy blobs out of packs that are mostly unused · ``sweeping``: delete · ``tidy``: put small
objects together. Here: their order, and the report.

Marking is not deleting: a mark only says since when nothing needs a pack. Only ``sweeping`` deletes packs.
"""

from __future__ import annotations

import socket
import time

import msgspec

from zitcache.errors import CredentialsError, Exit
from zitcache.events import Outcome, Session
from zitcache.repository.locks import PruneLock
from zitcache.repository.marks import FORGOTTEN_FOLDER, MARK_FOLDER, MarkRecord, now
from zitcache.repository.notes import record_bad_copies
from zitcache.repository.repository import Repository
from zitcache.repository.reserve import ReserveStorage, keep_reserve
from zitcache.tasks.deleting import DEFAULT_GRACE_SECONDS, denied, open_for_deleting, require_deletable
from zitcache.tasks.prune.errors import PruneRefused
from zitcache.tasks.prune.knowledge import Clock, Knowledge, gather
from zitcache.tasks.prune.plan import Plan, make_plan
from zitcache.tasks.prune.repack import Repacked, copy_out
from zitcache.tasks.prune.sweeping import Swept, sweep
from zitcache.tasks.prune.tidy import Tidied, restamp, tidy


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``grace_seconds``: how long marked packs and forgotten snapshots can be had back.

    ``max_unused``: share of the used bytes that may lie unused in packs that are kept; 0 repacks them all.
    ``max_repack_bytes``: at most so many bytes are copied in one run; None: as many as it takes.
    """

    repository: str | None = None
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    max_unused: float = 0.05
    max_repack_bytes: int | None = None
    dry_run: bool = False


class PruneReport(msgspec.Struct, kw_only=True):
    """Counts and bytes. In a dry run: what would be done.

    ``bytes_total`` of all packs before; ``bytes_used`` by listed snapshots; ``bytes_unused`` in packs that
    are kept. ``packs_marked``: newly; ``packs_waiting``: marked, and their time is not over;
    ``packs_revived``: marked and needed again. ``packs_deleted``/``bytes_freed``, ``packs_repacked``/
    ``bytes_repacked``: in this run.
    ``snapshots_held``: forgotten, and can come back; ``snapshots_gone``: ids of those that no longer can.
    ``packs_unreadable``: left alone, see ``repair``. ``next_sweep``: ISO time when a prune can delete more.
    """

    repository: str
    snapshots: int
    snapshots_held: int
    snapshots_gone: list[str]
    packs: int
    bytes_total: int
    bytes_used: int
    bytes_unused: int
    packs_marked: int
    bytes_marked: int
    packs_waiting: int
    bytes_waiting: int
    packs_revived: int
    packs_deleted: int
    bytes_freed: int
    packs_repacked: int
    bytes_repacked: int
    packs_unreadable: int
    objects_merged: int
    temporaries_removed: int
    next_sweep: str | None
    reserve_used: bool
    grace_seconds: float
    seconds: float
    dry_run: bool = False


def prune(request: PruneRequest, session: Session) -> Outcome[PruneReport]:
    """Mark what nothing needs, and delete what was marked a grace period ago.

    Exit codes: 0; 1 if a blob that was to be copied turned out to be damaged (its pack is kept). Raises
    :class:`PruneRefused` (1) where not everything that snapshots need can be read, ``Locked`` (7) where
    another prune is at work, ``CredentialsError`` (4) where deleting is not allowed, ``Unreachable``, ….
    Stopped anywhere, every snapshot is whole and the next prune goes on.
    """
    started = time.monotonic()
    repository, storage = open_for_deleting(request.repository, session)
    session.progress.stage("Looking at what the snapshots need")
    if request.dry_run:
        knowledge = gather(repository, Clock.of_this_machine(), request.grace_seconds, session)
        plan = make_plan(knowledge, request.grace_seconds, request.max_unused, request.max_repack_bytes)
        report = _report(request, knowledge, plan, _planned_repacks(plan), _planned_sweep(plan, knowledge))
        report.seconds = time.monotonic() - started
        return Outcome(data=report, warnings=session.warnings)
    require_deletable(repository)
    try:
        return _prune(request, repository, storage, session, started)
    except CredentialsError as error:
        raise denied(repository, error) from error


def _prune(
    request: PruneRequest, repository: Repository, storage: ReserveStorage, session: Session, started: float
) -> Outcome[PruneReport]:
    grace = request.grace_seconds
    with PruneLock(repository) as lock:
        clock = Clock(time.time(), lock.moment)
        knowledge = gather(repository, clock, grace, session)
        plan = make_plan(knowledge, grace, request.max_unused, request.max_repack_bytes)
        _warn_about(plan, session)
        session.cancel.check()
        repacked = copy_out(knowledge.repository, plan.repack, session, lock.renew)
        if repacked.bad:
            record_bad_copies(repository, repacked.bad)
            session.warn(
                "pack-damaged",
                f"{len(repacked.bad)} blobs could not be copied, because they are damaged; their packs stay.",
                "zitcache repair",
            )
        lock.renew()
        emptied = repacked.done - plan.forced
        new_marks = plan.to_mark | emptied
        restamp(knowledge, plan.revived)
        _restamp_forgotten(knowledge)
        stale = knowledge.stale_claims()
        if new_marks or stale:
            record = MarkRecord(time=now(), host=socket.gethostname(), packs=sorted(new_marks), claims=stale)
            repository.store_record(MARK_FOLDER, record)
        candidates = plan.to_sweep | (new_marks if grace <= 0 else set())
        expired = any(not each.is_held for each in knowledge.forgotten)
        swept = Swept()
        if candidates or expired:
            swept = sweep(repository, candidates, clock, grace, lock, session)
        lock.renew()
        tidied = tidy(swept.knowledge or knowledge, session)
    keep_reserve(storage.inner)
    report = _report(request, knowledge, plan, repacked, swept, tidied)
    report.reserve_used = storage.was_used
    report.seconds = time.monotonic() - started
    exit_code = Exit.DAMAGE if repacked.bad else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _warn_about(plan: Plan, session: Session) -> None:
    if plan.broken:
        session.warn(
            "pack-unreadable",
            f"{len(plan.broken)} packs cannot be read, so they are left alone.",
            "zitcache repair",
        )


def _restamp_forgotten(knowledge: Knowledge) -> None:
    """A snapshot forgotten under a clock that was years ahead would stay for years."""
    repository = knowledge.repository
    for each in knowledge.forgotten:
        if knowledge.clock.is_ahead(each.note.record.time):
            record = msgspec.structs.replace(each.note.record, time=int(knowledge.clock.own))
            repository.store_record(FORGOTTEN_FOLDER, record)
            repository.storage.delete(each.note.name)


def _planned_repacks(plan: Plan) -> Repacked:
    return Repacked(done=set(plan.repack), bytes_copied=plan.bytes_to_copy())


def _planned_sweep(plan: Plan, knowledge: Knowledge) -> Swept:
    going = plan.to_sweep - knowledge.claimed_packs()
    snapshots = [each.note.record.snapshot for each in knowledge.forgotten if not each.is_held]
    return Swept(packs={pack: knowledge.sizes[pack] for pack in going}, snapshots=sorted(set(snapshots)))


def _report(
    request: PruneRequest,
    knowledge: Knowledge,
    plan: Plan,
    repacked: Repacked,
    swept: Swept,
    tidied: Tidied | None = None,
) -> PruneReport:
    sizes = knowledge.sizes
    new_marks = plan.to_mark | (repacked.done - plan.forced)
    waiting = (plan.unused | new_marks) - set(swept.packs)
    tidied = tidied or Tidied()
    return PruneReport(
        repository=knowledge.repository.storage.location,
        snapshots=len(knowledge.snapshots),
        snapshots_held=len({each.note.record.snapshot for each in knowledge.forgotten if each.is_held}),
        snapshots_gone=swept.snapshots,
        packs=len(sizes),
        bytes_total=sum(sizes.values()),
        bytes_used=plan.used_bytes,
        bytes_unused=plan.unused_bytes,
        packs_marked=len(new_marks),
        bytes_marked=sum(sizes[pack] for pack in new_marks),
        packs_waiting=len(waiting),
        bytes_waiting=sum(sizes.get(pack, 0) for pack in waiting),
        packs_revived=len(plan.revived),
        packs_deleted=len(swept.packs),
        bytes_freed=sum(swept.packs.values()),
        packs_repacked=len(repacked.done),
        bytes_repacked=repacked.bytes_copied,
        packs_unreadable=len(plan.broken),
        objects_merged=tidied.index_objects + tidied.records,
        temporaries_removed=tidied.temporaries,
        next_sweep=_next_sweep(request, knowledge, waiting, new_marks),
        reserve_used=False,
        grace_seconds=request.grace_seconds,
        seconds=0.0,
        dry_run=request.dry_run,
    )


def _next_sweep(
    request: PruneRequest, knowledge: Knowledge, waiting: set[str], new_marks: set[str]
) -> str | None:
    """When the first of what waits comes of age, by this machine's clock."""
    moments = [note.record.time for note in knowledge.marks if waiting & set(note.record.packs) - new_marks]
    if new_marks & waiting:
        moments.append(now())
    if not moments:
        return None
    moment = max(min(moments) + request.grace_seconds, knowledge.clock.own)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


__all__ = ["PruneRefused", "PruneReport", "PruneRequest", "prune"]
