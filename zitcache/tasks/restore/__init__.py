"""``restore``: bring a snapshot back, byte for byte, or not at all.

``selection``: which entries · ``place``: where to · ``workspace``: the staging place, its lock and what a
killed run left · ``survey``: what the target holds already · ``staging``: build what is missing beside it ·
``order``: which files first · ``switch``: put it in place with one rename for each model. Here: their order.

With nothing named, on a bare machine: ``candidates``: what the disks hold · ``bare``: which of it is taken ·
``relink``: the link to a migrated cache · ``surroundings``: variables, config and schedule.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zitcache.errors import CredentialsError, Exit, IntegrityError, NoSpace, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import LATEST, Snapshot, list_snapshots, newest_good, resolve
from zitcache.tasks.fetching import Fetched
from zitcache.tasks.locations import open_repository, repository_at
from zitcache.tasks.restore.bare import bring_machine_back
from zitcache.tasks.restore.candidates import SnapshotChoice
from zitcache.tasks.restore.place import choose_target, refuse_overlap, require_space
from zitcache.tasks.restore.report import Candidate, RestoreReport, RestoreRequest
from zitcache.tasks.restore.selection import prefer_cache, require_sound_times, select, warn_of_newer
from zitcache.tasks.restore.staging import Staging
from zitcache.tasks.restore.survey import Survey, survey
from zitcache.tasks.restore.switch import put_in_place
from zitcache.tasks.restore.workspace import Workspace
from zitcache.tasks.settings import Origin, resolve_repository


def restore(request: RestoreRequest, session: Session) -> Outcome[RestoreReport]:
    """Bring a snapshot back, or with nothing named the machine as it was.

    Exit codes: 0; 1 if some files could not be brought back because the repository is damaged (all others
    are). Raises ``SnapshotNotFound``, ``NoSpace``, ``Locked``, ``IntegrityError``, …: the target is then
    what it was, and what was fetched is used by the next run.
    """
    started = time.monotonic()
    if not request.names_something:
        setting = resolve_repository(None)
        if setting.origin is not Origin.ENVIRONMENT:
            return bring_machine_back(
                request,
                setting.value,
                lambda choice, to: _newest(choice, request, to, session, started),
                session,
                started,
            )
    location = request.repository or (repository_at(request.place, session) if request.place else None)
    repository = open_repository(location, session)
    snapshots, unreadable = list_snapshots(repository)
    for snapshot_id, problem in unreadable.items():
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    repository.prefetch_index()
    candidates = prefer_cache(snapshots, request, session)
    wanted = LATEST if request.snapshot is None else request.snapshot
    snapshot = resolve(candidates, wanted, repository.storage.location)
    return _restore(repository, snapshot, candidates, request, session, started)


def _newest(
    choice: SnapshotChoice, request: RestoreRequest, to: str | None, session: Session, started: float
) -> Outcome[RestoreReport]:
    """Restore what was found on the disks, to ``to`` if it belongs somewhere else now."""
    candidates = prefer_cache(choice.snapshots, request, session)
    return _restore(choice.repository, choice.snapshot, candidates, replace(request, to=to), session, started)


def _restore(
    repository: Repository,
    snapshot: Snapshot,
    candidates: list[Snapshot],
    request: RestoreRequest,
    session: Session,
    started: float,
) -> Outcome[RestoreReport]:
    if request.snapshot in (None, LATEST):
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
            staging = Staging(self.repository, workspace, found, self.snapshot.record.models)
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
        first = fetched.first_write
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
            seconds_to_first_byte=None if first is None else first - self.started,
            bytes_from_repository=fetched.bytes_from_repository,
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


__all__ = ["Candidate", "RestoreReport", "RestoreRequest", "restore"]
