"""``clean``: find what only takes up space, and remove it on request.

``cache_leftovers``, ``stubs``, ``own_leftovers``, ``old_copies`` and ``tool_caches`` say what might go;
``guard`` says what of it must stay, for the plan and again at the moment of removal; ``removing`` removes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zitcache.errors import Exit
from zitcache.events import Outcome, Session
from zitcache.tasks.clean.cache_leftovers import cache_leftovers
from zitcache.tasks.clean.candidate import Candidate, is_below
from zitcache.tasks.clean.footprint import Footprint
from zitcache.tasks.clean.guard import Guard, Rules, Verdict
from zitcache.tasks.clean.old_copies import old_copies
from zitcache.tasks.clean.own_leftovers import own_leftovers_in
from zitcache.tasks.clean.places import Places, find_places
from zitcache.tasks.clean.removing import remove
from zitcache.tasks.clean.report import IN_CACHES, CleanItem, CleanReport, Kind
from zitcache.tasks.clean.snapshot_names import snapshot_names
from zitcache.tasks.clean.stubs import shadowing_stubs
from zitcache.tasks.clean.tool_caches import Surroundings, tool_caches, tool_folders, xet_caches

__all__ = ["CleanItem", "CleanReport", "CleanRequest", "Kind", "clean"]


@dataclass(frozen=True, slots=True)
class CleanRequest:
    """``cache``: look in this one and nowhere else; ``kinds``: only these, none given: all but those that
    must be named; ``everything``: also what an interrupted run could go on from; ``delete``: do it."""

    cache: str | None = None
    repository: str | None = None
    kinds: tuple[Kind, ...] = ()
    everything: bool = False
    min_age_seconds: float = 3600.0
    delete: bool = False


def clean(
    request: CleanRequest, session: Session, clock: Callable[[], float] = time.time
) -> Outcome[CleanReport]:
    """Find leftovers; with ``delete``, remove those that nothing needs, nobody uses and that are old enough.

    The exit code is 3 when something could not be removed. Raises ``CacheNotFound`` or ``UsageError`` for a
    cache that was named and is none.
    """
    places = find_places(request.cache, session)
    snapshot = snapshot_names(request.repository, places.known, session)
    session.progress.stage("Looking for leftovers")
    candidates = list(_candidates(request, places, session))
    stubs = [found.path for found in candidates if found.kind is Kind.SHADOWING_STUB]
    rules = Rules(frozenset(request.kinds), request.everything, request.min_age_seconds)
    guard = Guard(places.known, rules, snapshot, stubs)
    guard.refresh()
    items: list[CleanItem] = []
    removable: list[tuple[Candidate, Footprint, CleanItem]] = []
    for candidate in candidates:
        session.cancel.check()
        verdict = guard.look(candidate, clock())
        if verdict is None:
            continue
        item = _item(candidate, verdict)
        items.append(item)
        if verdict.keep is None:
            removable.append((candidate, verdict.footprint, item))
    report = CleanReport(
        items=items,
        bytes_found=sum(item.size_bytes for item in items),
        bytes_removable=sum(item.size_bytes for _, _, item in removable),
        bytes_freed=0,
        dry_run=not request.delete,
        caches=[str(cache) for cache in places.caches],
    )
    failed = _remove_all(removable, report, guard, session, clock) if request.delete else False
    return Outcome(data=report, warnings=session.warnings, exit_code=Exit.PARTIAL if failed else Exit.OK)


def _candidates(request: CleanRequest, places: Places, session: Session) -> Iterator[Candidate]:
    """All of the wanted kinds, each place once, none inside another, sorted by path within their group."""
    found: dict[str, Candidate] = {}
    for candidate in _everything(request, places, session):
        found.setdefault(f"{candidate.path}\0{candidate.names is None}", candidate)
    # What lies in a folder that goes anyway is no item of its own; a stub may have to stay.
    wholes = {
        one.path
        for one in found.values()
        if one.names is None and not (one.kind is Kind.SHADOWING_STUB and one.keep is not None)
    }
    for candidate in found.values():
        if request.kinds and candidate.kind not in request.kinds:
            continue
        above = os.path.dirname(candidate.path) if candidate.names is None else candidate.path
        if not any(is_below(above, whole) for whole in wholes):
            yield candidate


def _everything(request: CleanRequest, places: Places, session: Session) -> Iterator[Candidate]:
    around = Surroundings.here()
    for cache in places.caches:
        session.progress.file(str(cache))
        yield from shadowing_stubs(cache, session.cancel)
        yield from cache_leftovers(cache, session.cancel)
        yield from old_copies(cache, session)
        # With HF_HOME set to the cache, as on the rented box, Xet's folder lies in it.
        yield from xet_caches(cache / "xet")
        yield from own_leftovers_in([cache.parent])
    # Whoever names a cache means that cache; the tools' caches only if their kinds are named as well.
    if request.cache is None or not IN_CACHES.issuperset(request.kinds or IN_CACHES):
        yield from tool_caches(around)
        yield from own_leftovers_in(tool_folders(around))


def _item(candidate: Candidate, verdict: Verdict) -> CleanItem:
    return CleanItem(
        path=candidate.path,
        kind=candidate.kind.value,
        size_bytes=verdict.footprint.size_bytes,
        reason=candidate.reason,
        age_seconds=round(max(0.0, verdict.age_seconds), 3),
        removed=False,
        kept_because=verdict.keep,
        files=verdict.footprint.files,
    )


def _remove_all(
    removable: list[tuple[Candidate, Footprint, CleanItem]],
    report: CleanReport,
    guard: Guard,
    session: Session,
    clock: Callable[[], float],
) -> bool:
    """Remove one after the other; whether one of them could not be."""
    session.progress.stage("Removing", report.bytes_removable)
    failed = False
    for candidate, footprint, item in removable:
        session.cancel.check()
        session.progress.file(candidate.path)
        removal = remove(candidate, footprint, guard, clock())
        item.removed = removal.kept is None
        item.kept_because = removal.kept
        report.bytes_freed += removal.freed_bytes
        failed = failed or removal.failed
        if removal.failed:
            session.warn("not-removed", f"{candidate.path} is still there: {removal.kept}")
        session.progress.advance(item.size_bytes)
    return failed
