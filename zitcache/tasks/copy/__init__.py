"""``copy``: bring snapshots from one repository into another, wherever each of them lies.

``ends``: the two repositories, and why not · ``choosing``: which snapshots · ``blobs``: read, verify, save ·
``records``: what comes along · ``report``. Here: their order. Packs, then the index, then the snapshot, as
in a backup; stopped anywhere, the next run uses every pack that had arrived.
"""

from __future__ import annotations

import time

from zitcache.errors import Exit
from zitcache.events import Outcome, Session
from zitcache.repository.committing import PacksGone, commit_object
from zitcache.repository.objects import load_bytes
from zitcache.repository.repository import SNAPSHOT_FOLDER, Repository
from zitcache.repository.selection import Snapshot
from zitcache.tasks.copy.blobs import BlobCopy
from zitcache.tasks.copy.choosing import Batch, Choice, batches, choose
from zitcache.tasks.copy.ends import Ends, open_ends
from zitcache.tasks.copy.records import copy_labels, copy_records
from zitcache.tasks.copy.report import CopyReport, CopyRequest, FailedSnapshot

_TRIES = 5
"""How often a batch is copied again because a prune took packs away in the very moment."""


def copy(request: CopyRequest, session: Session) -> Outcome[CopyReport]:
    """Copy snapshots.

    Exit codes: 0; 1 if a snapshot could not be copied because the source is damaged (the others were).
    Raises ``UsageError`` for one repository twice, ``RepositoryNotFound``, ``SnapshotNotFound``, ``NoSpace``,
    ``Unreachable``, …: then what was copied so far is used by the next run.
    """
    started = time.monotonic()
    ends = open_ends(request, session)
    choice = choose(ends, request.snapshots, session)
    run = _Run(ends, choice, request, session, started)
    if choice.wanted:
        ends.source.prefetch_index()
        run.copy_all()
    return run.finish()


class _Run:
    """Everything one copy knows."""

    def __init__(
        self, ends: Ends, choice: Choice, request: CopyRequest, session: Session, started: float
    ) -> None:
        self._ends = ends
        self._source = ends.source
        self._choice = choice
        self._dry = request.dry_run
        self._session = session
        self._started = started
        self._report = CopyReport(
            source=ends.source.storage.location,
            to=ends.location,
            snapshots_skipped=choice.skipped,
            dry_run=request.dry_run,
            created=ends.is_new,
        )
        for snapshot_id, problem in choice.unreadable.items():
            self._fail(snapshot_id, problem)

    def copy_all(self) -> None:
        """Batch by batch, the newest snapshots first: what a restore would take is safe soonest."""
        target = self._ends.target
        session = self._session
        session.progress.stage("Looking at what is missing")
        for batch in batches(self._source, target, self._choice.wanted, session):
            for snapshot_id, problem in batch.unreadable.items():
                self._fail(snapshot_id, problem)
            if self._dry or target is None:
                self._report.blobs_copied += len(batch.missing)
                self._report.bytes_copied += batch.size_bytes
                self._report.snapshots_copied += [snapshot.id for snapshot, _ in batch.snapshots]
                continue
            self._copy_batch(batch, target)

    def _copy_batch(self, batch: Batch, target: Repository) -> None:
        for attempt in range(_TRIES):
            failed = self._copy_blobs(batch, target)
            # Before the snapshots: a run that ends here has not forgotten them.
            chosen = {snapshot.id for snapshot, _ in batch.snapshots}
            self._report.records_copied += copy_labels(self._source, target, chosen, self._session)
            left: list[tuple[Snapshot, frozenset[tuple[str, int]]]] = []
            for snapshot, needs in batch.snapshots:
                self._session.cancel.check()
                problem = next((failed[blob] for blob in needs if blob in failed), None)
                if problem is not None:
                    self._fail(snapshot.id, problem)
                    continue
                try:
                    self._commit(snapshot, needs, target)
                except PacksGone as gone:
                    if attempt == _TRIES - 1:
                        raise
                    self._session.warn("packs-gone", f"{gone.message} They are copied anew.")
                    left.append((snapshot, needs))
            if not left:
                return
            batch = Batch.of(left, self._source, target, reload=True)

    def _copy_blobs(self, batch: Batch, target: Repository) -> dict[tuple[str, int], str]:
        """Bring the blobs of a batch over, durable and in the index; why some could not be, by blob."""
        if not batch.missing:
            return {}
        with target.saver(self._ends.streams) as saver:
            work = BlobCopy(self._source, saver, self._session)
            work.run(batch.missing)
            packs = saver.finish()
        self._session.cancel.check()
        target.write_index([*target.unindexed_packs, *packs])
        self._report.blobs_copied += work.blobs
        self._report.bytes_copied += work.bytes
        self._report.bytes_stored += saver.bytes_stored
        return work.failed

    def _commit(self, snapshot: Snapshot, needs: frozenset[tuple[str, int]], target: Repository) -> None:
        """Write the snapshot's object as it is: so it keeps its id."""
        name = f"{SNAPSHOT_FOLDER}/{snapshot.id}"
        data = load_bytes(self._source.storage, name)
        # What was read of the source need not be read again from the target to be known.
        target.learn_metadata(self._source, needs)
        commit_object(target, snapshot.id, data, snapshot.record)
        self._report.snapshots_copied.append(snapshot.id)

    def finish(self) -> Outcome[CopyReport]:
        """What goes along with snapshots, and the report."""
        report, target, session = self._report, self._ends.target, self._session
        if target is not None:
            report.records_copied += copy_records(self._source, target, session, dry_run=self._dry)
        report.snapshots_failed.sort(key=lambda failed: failed.id)
        report.seconds = time.monotonic() - self._started
        exit_code = Exit.DAMAGE if report.snapshots_failed else Exit.OK
        return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)

    def _fail(self, snapshot_id: str, problem: str) -> None:
        self._report.snapshots_failed.append(FailedSnapshot(id=snapshot_id, reason=problem))
        self._session.warn(
            "snapshot-not-copied",
            f"Snapshot {snapshot_id[:8]} was not copied: {problem}",
            f"See what is damaged: zitcache check --read-data --repo {self._source.storage.location}",
        )


__all__ = ["CopyReport", "CopyRequest", "FailedSnapshot", "copy"]
