"""``forget``: take snapshots out of the list, by policy or by id. They can be had back for a while.

Nothing is deleted here but the entry in the list: the snapshot's object moves aside, and its packs stay until
``prune`` has swept them, a grace period later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec

from zitcache.errors import Exit, UsageError
from zitcache.events import Outcome, Session
from zitcache.repository.marks import load_notes
from zitcache.repository.notes import LABEL_FOLDER, LabelRecord
from zitcache.repository.repository import Repository
from zitcache.repository.reserve import keep_reserve
from zitcache.repository.retention import (
    DEFAULT_POLICY,
    Decision,
    Policy,
    apply_policy,
    protections,
)
from zitcache.repository.selection import Snapshot, list_snapshots, resolve
from zitcache.tasks.deleting import (
    DEFAULT_GRACE_SECONDS,
    move_to_forgotten,
    open_for_deleting,
    require_deletable,
)
from zitcache.tasks.prune import PruneReport, PruneRequest, prune

GROUPINGS = ("host", "cache", "tags")


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """``ids``: forget exactly these; else ``policy`` decides (None: the default) about each group.

    ``hosts``, ``caches``, ``tags``: only snapshots of one of these (each tag group: all of its tags).
    ``group_by``: any of :data:`GROUPINGS`. ``prune``: what to do with the packs afterwards; None: nothing.
    """

    repository: str | None = None
    ids: tuple[str, ...] = ()
    policy: Policy | None = None
    hosts: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    tags: tuple[frozenset[str], ...] = ()
    group_by: tuple[str, ...] = ("host", "cache")
    dry_run: bool = False
    prune: PruneRequest | None = None


class ForgetDecision(msgspec.Struct, kw_only=True):
    """``action``: "keep" | "forget". ``reasons``: why it is kept."""

    id: str
    time: str
    host: str
    cache: str
    models: list[str]
    tags: list[str]
    suspect: bool
    action: str
    reasons: list[str]


class ForgetReport(msgspec.Struct, kw_only=True):
    """``kept``/``forgotten``: how many of ``snapshots``. ``until``: up to then they can be had back (ISO).

    ``prune``: its report, if it was asked for.
    """

    repository: str
    snapshots: list[ForgetDecision]
    kept: int
    forgotten: int
    until: str | None
    dry_run: bool = False
    prune: PruneReport | None = None


def forget(request: ForgetRequest, session: Session) -> Outcome[ForgetReport]:
    """Forget snapshots.

    Exit codes: 0; 1 if there are snapshots that cannot be read (nothing is decided about them). Raises
    ``UsageError`` where a named snapshot is pinned or the last good one, or the policy keeps nothing;
    ``SnapshotNotFound``, ``CredentialsError`` where deleting is not allowed, ….
    """
    _check(request)
    repository, storage = open_for_deleting(request.repository, session)
    found, unreadable = list_snapshots(repository)
    for snapshot_id, problem in sorted(unreadable.items()):
        session.warn(
            "snapshot-unreadable",
            f"Snapshot {snapshot_id[:8]} cannot be read and is left as it is: {problem}",
            "zitcache repair",
        )
    load_notes(repository, LABEL_FOLDER, LabelRecord)  # a pin that cannot be read must not be overlooked
    now = datetime.now(timezone.utc)
    protected = protections(found, now)
    if request.ids:
        decisions = _by_ids(request.ids, found, protected, repository)
    else:
        decisions = _by_policy(request, found, now)
        for decision in decisions:
            decision.reasons += protected.get(decision.snapshot.id, [])
    going = [decision.snapshot for decision in reversed(decisions) if not decision.keep]
    if going and not request.dry_run:
        _forget(repository, going, session)
        keep_reserve(storage.inner)
    report = ForgetReport(
        repository=repository.storage.location,
        snapshots=[_describe(decision) for decision in decisions],
        kept=len(decisions) - len(going),
        forgotten=len(going),
        until=_until(request) if going else None,
        dry_run=request.dry_run,
    )
    exit_code = Exit.DAMAGE if unreadable else Exit.OK
    if request.prune is not None:
        pruned = prune(
            msgspec.structs.replace(request.prune, repository=request.repository, dry_run=request.dry_run),
            session,
        )
        report.prune = pruned.data
        exit_code = exit_code or pruned.exit_code
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _check(request: ForgetRequest) -> None:
    if request.ids and (request.policy is not None or request.hosts or request.caches or request.tags):
        raise UsageError(
            "Snapshots are named, and a policy or a filter is given as well.",
            hint="Give either ids or --keep-… options, not both.",
        )
    if request.policy is not None and request.policy.is_empty:
        raise UsageError(
            "This policy keeps nothing: every number is 0.",
            hint="Say what to keep, for example: zitcache forget --keep-daily 7 --keep-weekly 4",
        )
    unknown = [word for word in request.group_by if word not in GROUPINGS]
    if unknown:
        raise UsageError(
            f"Snapshots cannot be grouped by {unknown[0]!r}.",
            hint=f"Use any of: {', '.join(GROUPINGS)}; or --group-by '' for one group of all.",
        )


def _by_ids(
    ids: tuple[str, ...], found: list[Snapshot], protected: dict[str, list[str]], repository: Repository
) -> list[Decision]:
    place = repository.storage.location
    chosen = {each.id: each for each in (resolve(found, prefix, place) for prefix in ids)}
    refused = [snapshot for snapshot in chosen.values() if snapshot.id in protected]
    if refused:
        first = refused[0]
        reasons = protected[first.id]
        hint = "The last good snapshot is never forgotten. Make a newer one first: zitcache backup"
        if reasons == ["pinned"]:
            hint = f"Take the pin off first: zitcache tag {first.short_id} --unpin"
        raise UsageError(
            f"Snapshot {first.short_id} is kept: {'; '.join(reasons)}. Nothing was forgotten.", hint=hint
        )
    return [Decision(snapshot) for snapshot in chosen.values()]


def _by_policy(request: ForgetRequest, found: list[Snapshot], now: datetime) -> list[Decision]:
    policy = DEFAULT_POLICY if request.policy is None else request.policy
    groups: dict[tuple[str, ...], list[Snapshot]] = {}
    for snapshot in found:
        if _is_meant(snapshot, request):
            groups.setdefault(_group(snapshot, request.group_by), []).append(snapshot)
    return [decision for key in sorted(groups) for decision in apply_policy(groups[key], policy, now)]


def _is_meant(snapshot: Snapshot, request: ForgetRequest) -> bool:
    record, tags = snapshot.record, set(snapshot.tags)
    return (
        (not request.hosts or record.host in request.hosts)
        and (not request.caches or bool({record.cache, record.real_cache} & set(request.caches)))
        and (not request.tags or any(group <= tags for group in request.tags))
    )


def _group(snapshot: Snapshot, words: tuple[str, ...]) -> tuple[str, ...]:
    values = {
        "host": snapshot.record.host,
        "cache": snapshot.record.cache,
        "tags": "\0".join(snapshot.tags),
    }
    return tuple(values[word] for word in words)


def _forget(repository: Repository, going: list[Snapshot], session: Session) -> None:
    """Oldest first, one after the other: stopped anywhere, what was done is done and the rest untouched."""
    require_deletable(repository)
    session.progress.stage("Forgetting")
    for snapshot in going:
        session.cancel.check()
        move_to_forgotten(repository, snapshot.id)


def _until(request: ForgetRequest) -> str:
    grace = DEFAULT_GRACE_SECONDS if request.prune is None else request.prune.grace_seconds
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + grace))


def _describe(decision: Decision) -> ForgetDecision:
    snapshot = decision.snapshot
    record = snapshot.record
    return ForgetDecision(
        id=snapshot.id,
        time=record.time,
        host=record.host,
        cache=record.cache,
        models=[f"{model.id}@{model.revision}" for model in record.models],
        tags=snapshot.tags,
        suspect=snapshot.is_suspect,
        action="keep" if decision.keep else "forget",
        reasons=decision.reasons,
    )
