"""``restore``: bring a snapshot back, byte for byte, or not at all.

``selection``: which entries · ``place``: where to · ``workspace``: the staging place, its lock and what a
killed run left · ``survey``: what the target holds already · ``staging``: build what is missing beside it ·
``switch``: put it in place with one rename for each model. Here: their order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache.errors import CredentialsError, Exit, IntegrityError, NoSpace, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import LATEST, Snapshot, list_snapshots, newest_good, resolve
from zitcache.tasks.fetching import Fetched
from zitcache.tasks.locations import open_repository
from zitcache.tasks.restore.place import choose_target, refuse_overlap, require_space
from zitcache.tasks.restore.selection import prefer_cache, require_sound_times, select, warn_of_newer
from zitcache.tasks.restore.staging import Staging
from zitcache.tasks.restore.survey import Survey, survey
from zitcache.tasks.restore.switch import put_in_place
from zitcache.tasks.restore.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """``snapshot``: "latest" (the newest good one) or an id prefix. ``to``: another place than it came from.

    ``cache``: with "latest", the newest good snapshot of that cache. ``only``: shell patterns on paths
    relative to the cache root (or on names, if they hold no slash), any of which selects a file.
    """

    repository: str | None = None
    snapshot: str = LATEST
    to: str | None = None
    cache: str | None = None
    only: tuple[str, ...] = ()
    dry_run: bool = False


class RestoreReport(msgspec.Struct, kw_only=True):
    """``action``: "restored" | "relinked" | "nothing to do". ``files``: brought back.

    ``files_kept``: were good already. ``failed``: paths that the damaged repository could not give back.
    """

    action: str
    snapshot_id: str
    repository: str
    target: str
    files: int
    files_kept: int
    bytes_written: int
    seconds: float
    failed: list[str]
    dry_run: bool = False


def restore(request: RestoreRequest, session: Session) -> Outcome[RestoreReport]:
    """Bring a snapshot back.

    Exit codes: 0; 1 if some files could not be brought back because the repository is damaged (all others
    are). Raises ``SnapshotNotFound``, ``NoSpace``, ``Locked``, ``IntegrityError``, …: the target is then
    what it was, and what was fetched is used by the next run.
    """
    started = time.monotonic()
    repository = open_repository(request.repository, session)
    snapshots, unreadable = list_snapshots(repository)
    for snapshot_id, problem in unreadable.items():
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    candidates = prefer_cache(snapshots, request, session)
    snapshot = resolve(candidates, request.snapshot, repository.storage.location)
    if request.snapshot == LATEST:
        warn_of_newer(snapshot, candidates, session)
    _warn_about(snapshot, session)
    entries = _entries(repository, snapshot, candidates)
    target = choose_target(request.to, snapshot)
    refuse_overlap(repository, target)
    selected = select(entries, request.only)
    run = _Run(repository, snapshot, target, session, started)
    if request.dry_run:
        return run.report(survey(target, selected, session), Fetched(), dry_run=True)
    return run.execute(selected)


@dataclass(frozen=True, slots=True)
class _Run:
    """Everything one restore knows."""

    repository: Repository
    snapshot: Snapshot
    target: Path
    session: Session
    started: float

    def execute(self, selected: Sequence[TreeEntry]) -> Outcome[RestoreReport]:
        """Survey, build, switch, with the staging place locked."""
        session = self.session
        workspace = Workspace(self.target)
        with contextlib.ExitStack() as stack:
            refused: ZitcacheError | None = None
            try:
                stack.enter_context(workspace.locked(session))
            except (CredentialsError, NoSpace) as error:
                refused = error  # which is no matter where nothing has to be written
            found = survey(self.target, selected, session)
            if found.is_complete:
                found.mend_metadata(session)
                return self.report(found, Fetched())
            if refused is not None:
                raise refused
            roots = [model.root for model in self.snapshot.record.models]
            staging = Staging(self.repository, workspace, found, roots)
            require_space(self.target, *staging.needed())
            staging.build(session)
            session.cancel.check()
            put_in_place(staging)
            found.mend_metadata(session)
            return self.report(found, staging.fetched)

    def report(self, found: Survey, fetched: Fetched, *, dry_run: bool = False) -> Outcome[RestoreReport]:
        """What was done, or (``dry_run``) would be."""
        files_wanted = [entry for entry in found.wanted if entry.kind == "file"]
        for path, reason in sorted(fetched.failed.items()):
            self.session.warn(
                "not-restored", f"{path} could not be brought back: {reason}", "zitcache check --read-data"
            )
        nothing = found.is_complete and not found.metadata_differs
        report = RestoreReport(
            action="nothing to do" if nothing else "restored",
            snapshot_id=self.snapshot.id,
            repository=self.repository.storage.location,
            target=str(self.target),
            files=len(files_wanted) - len(fetched.failed),
            files_kept=sum(1 for entry in found.kept if entry.kind == "file"),
            bytes_written=sum(entry.size for entry in files_wanted) if dry_run else fetched.bytes_written,
            seconds=time.monotonic() - self.started,
            failed=sorted(fetched.failed),
            dry_run=dry_run,
        )
        exit_code = Exit.DAMAGE if fetched.failed else Exit.OK
        return Outcome(data=report, warnings=self.session.warnings, exit_code=exit_code)


def _warn_about(snapshot: Snapshot, session: Session) -> None:
    record = snapshot.record
    if snapshot.is_suspect:
        reasons = snapshot.suspect_reasons
        reason = reasons[0] if reasons else "it was taken of a damaged cache."
        session.warn(
            "suspect-snapshot",
            f"Snapshot {snapshot.short_id} is suspect: {reason}",
            "The newest good one: zitcache restore",
        )
    if record.left_out:
        names = ", ".join(record.left_out[:3]) + (" …" if len(record.left_out) > 3 else "")
        session.warn("partial-snapshot", f"Snapshot {snapshot.short_id} does not hold everything: {names}")


def _entries(repository: Repository, snapshot: Snapshot, candidates: list[Snapshot]) -> list[TreeEntry]:
    """What the snapshot holds. An error names the snapshot to try instead."""
    try:
        entries = repository.tree(snapshot.record)
        require_sound_times(entries)
    except IntegrityError as error:
        other = newest_good(candidate for candidate in candidates if candidate.id != snapshot.id)
        if other is not None:
            error.hint = f"Try another snapshot: zitcache restore {other.short_id}"
        raise
    return entries


__all__ = ["RestoreReport", "RestoreRequest", "restore"]
