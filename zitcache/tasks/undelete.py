"""``undelete``: list forgotten snapshots, and bring them back while their packs are there."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from zitcache.errors import (
    CredentialsError,
    Exit,
    IntegrityError,
    ObjectNotFound,
    SnapshotNotFound,
    UsageError,
)
from zitcache.events import Outcome, Session
from zitcache.repository.committing import PacksGone, commit_object, condemned_packs
from zitcache.repository.marks import FORGOTTEN_FOLDER, ForgottenRecord
from zitcache.repository.needs import BlobKey, Needs
from zitcache.repository.notes import load_losses, lost_blobs
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import Repository
from zitcache.tasks.deleting import DEFAULT_GRACE_SECONDS, denied, open_for_deleting

_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class UndeleteRequest:
    """``ids``: what to bring back; empty only lists, unless ``everything``.

    ``grace_seconds``: as for prune, to tell until when they can come back.
    """

    repository: str | None = None
    ids: tuple[str, ...] = ()
    everything: bool = False
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    dry_run: bool = False


class ForgottenSnapshot(msgspec.Struct, kw_only=True):
    """``state``: "forgotten" (can come back), "restored" (is back), "gone" (for good: see ``problem``).

    ``forgotten_at``, ``until``: ISO times; from ``until`` on a prune may delete it.
    """

    id: str
    time: str
    host: str
    cache: str
    models: list[str]
    size_bytes: int
    forgotten_at: str
    until: str
    state: str
    problem: str | None = None


class UndeleteReport(msgspec.Struct, kw_only=True):
    """``restored``: how many are back (in a dry run: would be). ``gone``: how many asked for cannot be."""

    repository: str
    snapshots: list[ForgottenSnapshot]
    restored: int
    gone: int
    dry_run: bool = False


def undelete(request: UndeleteRequest, session: Session) -> Outcome[UndeleteReport]:
    """Bring snapshots back, or list what can be brought back.

    Exit codes: 0; 3 if some of those asked for are gone for good. Raises ``SnapshotNotFound`` for an id that
    no forgotten snapshot has, or if none of those asked for can come back.
    """
    if request.ids and request.everything:
        raise UsageError("Snapshots are named, and all are asked for.", hint="Give ids or --all, not both.")
    repository, _ = open_for_deleting(request.repository, session)
    forgotten = _forgotten(repository, session)
    chosen = list(forgotten) if request.everything else _chosen(request.ids, forgotten, repository)
    shown = chosen if request.ids else list(forgotten)
    lost = frozenset(lost_blobs(load_losses(repository)))
    run = _Undelete(repository, request, session, lost)
    described = [run.one(forgotten[each], wanted=each in chosen) for each in shown]
    restored = sum(each.state == "restored" for each in described)
    gone = [each for each in described if each.state == "gone" and each.id in chosen]
    if gone and not restored:
        raise SnapshotNotFound(
            f"Snapshot {gone[0].id[:8]} is gone for good: {gone[0].problem}",
            hint="See what can be brought back: zitcache undelete",
        )
    report = UndeleteReport(
        repository=repository.storage.location,
        snapshots=described,
        restored=restored,
        gone=len(gone),
        dry_run=request.dry_run,
    )
    exit_code = Exit.PARTIAL if gone else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


@dataclass(frozen=True, slots=True)
class _Forgotten:
    """``notes``: the names of all notes of it; ``note``: the newest."""

    note: ForgottenRecord
    record: SnapshotRecord
    notes: tuple[str, ...]


def _forgotten(repository: Repository, session: Session) -> dict[str, _Forgotten]:
    """By snapshot id, the newest snapshot first; those that are listed all the same are left out."""
    listed = set(repository.snapshot_ids())
    found: dict[str, _Forgotten] = {}
    for name, _ in repository.objects(FORGOTTEN_FOLDER):
        try:
            note = repository.load_record(name, ForgottenRecord)
            record = note.snapshot_record()
        except ObjectNotFound:
            continue  # swept since it was listed
        except IntegrityError as error:
            session.warn("note-unreadable", f"{error.message} It is passed over.", "zitcache repair")
            continue
        if note.snapshot in listed:
            continue
        known = found.get(note.snapshot)
        names = (name,) if known is None else (*known.notes, name)
        newest = note if known is None or note.time >= known.note.time else known.note
        found[note.snapshot] = _Forgotten(newest, record, names)
    return dict(sorted(found.items(), key=lambda item: (item[1].record.time, item[0]), reverse=True))


def _chosen(prefixes: tuple[str, ...], forgotten: dict[str, _Forgotten], repository: Repository) -> list[str]:
    chosen: dict[str, None] = {}
    listed = repository.snapshot_ids() if prefixes else []
    for prefix in prefixes:
        wanted = prefix.lower()
        matches = [each for each in forgotten if wanted and each.startswith(wanted)]
        if len(matches) > 1:
            raise SnapshotNotFound(
                f"{prefix!r} fits {len(matches)} forgotten snapshots; give more digits of the id.",
                hint="List them with: zitcache undelete",
            )
        if not matches:
            if wanted and any(each.startswith(wanted) for each in listed):
                raise SnapshotNotFound(
                    f"Snapshot {prefix} is not forgotten: it is in the list.", hint="See: zitcache snapshots"
                )
            raise SnapshotNotFound(
                f"No forgotten snapshot in {repository.storage.location} has an id that starts with "
                f"{prefix!r}. What a prune has swept is gone for good.",
                hint="See what can be brought back: zitcache undelete",
            )
        chosen[matches[0]] = None
    return list(chosen)


@dataclass(frozen=True, slots=True)
class _Undelete:
    repository: Repository
    request: UndeleteRequest
    session: Session
    lost: frozenset[BlobKey]

    def one(self, forgotten: _Forgotten, *, wanted: bool) -> ForgottenSnapshot:
        """Bring one back if it is wanted, and say how it stands."""
        self.session.cancel.check()
        problem = self._problem(forgotten.record)
        state = "gone" if problem else "forgotten"
        if wanted and problem is None:
            state = "restored"
            if not self.request.dry_run:
                problem = self._bring_back(forgotten)
                state = "gone" if problem else "restored"
        note, record = forgotten.note, forgotten.record
        return ForgottenSnapshot(
            id=note.snapshot,
            time=record.time,
            host=record.host,
            cache=record.cache,
            models=[f"{model.id}@{model.revision}" for model in record.models],
            size_bytes=record.size_bytes,
            forgotten_at=_iso(note.time),
            until=_iso(note.time + self.request.grace_seconds),
            state=state,
            problem=problem,
        )

    def _problem(self, record: SnapshotRecord) -> str | None:
        """Why it cannot come back; None if everything it needs is there."""
        needs = Needs(self.repository)
        try:
            needs.add(record)
        except IntegrityError as error:
            return error.message
        index = self.repository.index
        missing = sum(not index.has(*key) for key in needs.blobs - self.lost)
        return f"{missing} of its {len(needs.blobs)} blobs have been deleted." if missing else None

    def _bring_back(self, forgotten: _Forgotten) -> str | None:
        """Commit it like a new snapshot, so that no sweep can take its packs away; then drop the notes."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            repository = Repository(self.repository.storage, self.repository.config)
            try:
                commit_object(
                    repository,
                    forgotten.note.snapshot,
                    forgotten.note.object_bytes(),
                    forgotten.record,
                    lost=self.lost,
                )
                break
            except PacksGone as gone:
                # A sweep that has just begun may find that it has to leave these packs alone.
                if time.monotonic() > until or not condemned_packs(self.repository):
                    return gone.message
            self.session.cancel.check()
            time.sleep(_POLL_SECONDS)
        for name in forgotten.notes:
            self._drop(name)
        return None

    def _drop(self, name: str) -> None:
        try:
            self.repository.storage.delete(name)
        except CredentialsError as error:
            reason = denied(self.repository, error)
            self.session.warn(
                "note-not-removed",
                f"The snapshot is back; the note that it was forgotten stays. {reason.message}",
            )


def _iso(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59Z"


__all__ = ["ForgottenSnapshot", "UndeleteReport", "UndeleteRequest", "undelete"]
