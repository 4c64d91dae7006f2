"""``backup``: put a snapshot of a cache into a repository.

``plan`` decides what must be read · ``content`` turns files into blobs · ``damage`` tells rot from change ·
``proof``: draw with what was backed up · ``kit``: keep what a bare machine needs · here: the order of
things, up to the one commit point.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from zitcache import __version__
from zitcache.cache.inventory import Inventory, inventory
from zitcache.cache.tree import Kind, Tree
from zitcache.cache.walk import scan_tree
from zitcache.codec.frame import FrameKind
from zitcache.errors import CacheNotFound, Exit
from zitcache.events import Outcome, Session
from zitcache.repository.committing import PacksGone, commit_snapshot
from zitcache.repository.notes import distrust_bad_copies
from zitcache.repository.records import SnapshotModel, SnapshotRecord, TreeEntry, portable
from zitcache.repository.repository import Repository
from zitcache.repository.reserve import keep_reserve
from zitcache.repository.selection import list_snapshots
from zitcache.repository.trees import split_tree
from zitcache.tasks.backup.content import store_files
from zitcache.tasks.backup.damage import judge
from zitcache.tasks.backup.opening import find_repository, make_repository
from zitcache.tasks.backup.plan import Plan, make_plan, plain_entry
from zitcache.tasks.locations import live_cache
from zitcache.tasks.prove.report import ProofOptions, ProofReport

_TRIES = 5
"""How often a backup stores anew what a prune deleted under its hands."""


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """``repository``/``cache``: as typed, or None to find out. ``reread``: share 0..1 of unchanged files.

    ``proof``: draw when the snapshot is written, and keep the picture as a golden. ``kit``: keep what a bare
    machine needs in the repository, if that is a directory.
    """

    repository: str | None = None
    cache: str | None = None
    reread: float = 0.0
    tags: tuple[str, ...] = ()
    init: bool = False
    dry_run: bool = False
    proof: ProofOptions | None = None
    kit: bool = False


class BackupReport(msgspec.Struct, kw_only=True):
    """``bytes_read``: content bytes read; ``bytes_new_stored``: bytes added to the repository.

    ``proof``: that of ``--generate``, of several GPUs the worst; ``proofs``: all of them. ``kit``: what
    became of the kit ("made", "updated", "up to date", "failed"); None where none was wanted.
    """

    snapshot_id: str | None
    repository: str
    cache: str
    files: int
    files_unchanged: int
    size_bytes: int
    bytes_read: int
    bytes_new_stored: int
    seconds: float
    suspect: bool
    models: list[str]
    damaged: list[str]
    left_out: list[str]
    dry_run: bool = False
    proof: ProofReport | None = None
    proofs: list[ProofReport] = []
    kit: str | None = None


def backup(request: BackupRequest, session: Session) -> Outcome[BackupReport]:
    """Write one snapshot of one cache.

    Exit codes: 0; 1 if a file was damaged since the last good snapshot (the new one is marked suspect); 3
    if files had to be left out; 9 if the picture is not right. Raises ``CacheNotFound``,
    ``RepositoryNotFound``, ``NoSpace``, …; then there is no new snapshot, and finished packs are used again
    by the next run.
    """
    started = time.monotonic()
    cache = live_cache(request.cache, session)
    storage, found = find_repository(request.repository, cache, session, create=request.init)
    session.progress.stage("Looking at the cache")
    tree = scan_tree(cache)
    if not any(item.size for item in tree.items):
        raise CacheNotFound(f"The cache {cache} is empty: there is nothing to back up.")
    repository = found or make_repository(storage, session, dry_run=request.dry_run)
    stock = inventory(cache)
    snapshots, unreadable = list_snapshots(repository)
    for snapshot_id, problem in unreadable.items():
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    distrust_bad_copies(repository)
    plan = make_plan(repository, snapshots, cache, tree, request.reread, session)
    run = _Run(request, session, cache, tree, repository, stock, plan)
    if request.dry_run:
        return run.dry(started)
    if request.proof is None:
        outcome, _ = run.write(started)
        return run.with_kit(outcome, started)
    from zitcache.tasks.backup.proof import BackupProof

    with BackupProof(request.proof, stock, repository, session) as proof:
        outcome, entries = run.write(started)
        return proof.add_to(run.with_kit(outcome, started), entries)


@dataclass(frozen=True, slots=True)
class _Run:
    """Everything one backup knows."""

    request: BackupRequest
    session: Session
    cache: Path
    tree: Tree
    repository: Repository
    stock: Inventory
    plan: Plan

    def dry(self, started: float) -> Outcome[BackupReport]:
        """What would be done."""
        left_out = self._left_out_of_tree()
        report = BackupReport(
            snapshot_id=None,
            repository=self.repository.storage.location,
            cache=str(self.cache),
            files=len(self.plan.to_read) + len(self.plan.unchanged),
            files_unchanged=len(self.plan.unchanged),
            size_bytes=sum(item.size for item in self.tree.items),
            bytes_read=sum(item.size for item in self.plan.to_read),
            bytes_new_stored=0,
            seconds=time.monotonic() - started,
            suspect=False,
            models=[f"{model.id}@{model.revision}" for model in self.stock.models],
            damaged=[],
            left_out=left_out,
            dry_run=True,
        )
        return Outcome(data=report, warnings=self.session.warnings)

    def write(self, started: float) -> tuple[Outcome[BackupReport], list[TreeEntry]]:
        """Read, store, commit. Gives the outcome and what the snapshot holds."""
        run = self
        for _ in range(_TRIES - 1):
            written = run._try_to_write(started)
            if written is not None:
                return written
            run = run._planned_anew()
        return run._write_once(started)

    def _try_to_write(self, started: float) -> tuple[Outcome[BackupReport], list[TreeEntry]] | None:
        """None if a prune deleted what the plan had counted on."""
        try:
            return self._write_once(started)
        except PacksGone as gone:
            self.session.warn("packs-gone", f"{gone.message} They are stored anew.")
            return None

    def _planned_anew(self) -> _Run:
        self.repository.reload_index()
        snapshots, _ = list_snapshots(self.repository)
        plan = make_plan(self.repository, snapshots, self.cache, self.tree, self.request.reread, self.session)
        return replace(self, plan=plan)

    def _write_once(self, started: float) -> tuple[Outcome[BackupReport], list[TreeEntry]]:
        repository, session = self.repository, self.session
        with repository.saver(_streams()) as saver:
            stored = store_files(repository, saver, self.cache, self.plan, session)
            entries = self._entries(stored.entries)
            verdict = judge(self.plan, stored.entries, self.tree, self.stock)
            trees = [repository.save_metadata(saver, part, FrameKind.TREE) for part in split_tree(entries)]
            packs = saver.finish()
        session.cancel.check()
        repository.write_index([*repository.unindexed_packs, *packs])
        left_out = sorted(
            [*stored.left_out, *self._second_names_of(stored.left_out), *self._left_out_of_tree()],
            key=os.fsencode,
        )
        files = [entry for entry in entries if entry.kind == "file"]
        cache_name, cache_bytes = portable(str(self.cache))
        record = SnapshotRecord(
            time=_now(),
            host=socket.gethostname(),
            cache=cache_name,
            cache_bytes=cache_bytes,
            program=f"zitcache {__version__}",
            trees=trees,
            models=self._models(left_out),
            files=len(files),
            size_bytes=sum(entry.size for entry in files),
            bytes_new_stored=saver.bytes_stored,
            suspect=bool(verdict.reasons),
            suspect_reasons=[portable(reason)[0] for reason in verdict.reasons],
            damage=verdict.damage,
            left_out=[portable(path)[0] for path in left_out],
            tags=sorted(set(self.request.tags)),
            parent=self.plan.parent.id if self.plan.parent else None,
        )
        for reason in verdict.reasons:
            session.warn("suspect", reason, "Bring the good bytes back: zitcache verify --repair")
        self._warn_incomplete(verdict.reasons)
        snapshot_id = commit_snapshot(repository, record)
        keep_reserve(repository.storage)
        report = BackupReport(
            snapshot_id=snapshot_id,
            repository=repository.storage.location,
            cache=str(self.cache),
            files=len(files),
            files_unchanged=len(self.plan.unchanged),
            size_bytes=record.size_bytes,
            bytes_read=stored.bytes_read,
            bytes_new_stored=saver.bytes_stored,
            seconds=time.monotonic() - started,
            suspect=record.suspect,
            models=[f"{model.id}@{model.revision}" for model in self.stock.models],
            damaged=verdict.paths,
            left_out=left_out,
        )
        exit_code = Exit.DAMAGE if record.suspect else Exit.PARTIAL if left_out else Exit.OK
        return Outcome(data=report, warnings=session.warnings, exit_code=exit_code), entries

    def with_kit(self, outcome: Outcome[BackupReport], started: float) -> Outcome[BackupReport]:
        """The snapshot is safe; now what a bare machine needs to bring it back."""
        if self.request.kit:
            from zitcache.tasks.backup.kit import keep_kit_of

            outcome.data.kit = keep_kit_of(self.repository.storage, self.cache, self.session)
            outcome.data.seconds = time.monotonic() - started
            outcome.warnings = self.session.warnings
        return outcome

    def _entries(self, read: dict[str, TreeEntry]) -> list[TreeEntry]:
        """The whole tree in order: files as they were or as they were read, everything else as listed."""
        entries = []
        for item in self.tree.items:
            entry = self.plan.unchanged.get(item.path) or read.get(item.path) or plain_entry(item)
            if entry is not None:
                entries.append(entry)
        listed = {entry.real_path for entry in entries if entry.kind == "file"}
        # A second name of a file that was left out is left out with it.
        return [entry for entry in entries if entry.kind != "hardlink" or entry.real_target in listed]

    def _second_names_of(self, paths: list[str]) -> list[str]:
        firsts = set(paths)
        return [item.path for item in self.tree.items if item.kind is Kind.HARDLINK and item.target in firsts]

    def _left_out_of_tree(self) -> list[str]:
        """Paths that the scan could not take, each with a warning. Not: what is left out on purpose."""
        problems = [entry for entry in self.tree.left_out if entry.is_problem]
        for entry in problems:
            self.session.warn(entry.code, f"Left out: {entry.path}: {entry.reason}")
        return [entry.path for entry in problems]

    def _models(self, left_out: list[str]) -> list[SnapshotModel]:
        """What the snapshot holds of each model: not complete without a file that was left out."""
        absent = set(left_out)
        return [
            SnapshotModel(
                id=portable(model.id)[0],
                revision=portable(model.revision)[0],
                layout=model.layout.value,
                path=portable(_relative(model.path, self.cache))[0],
                root=portable(_relative(model.root, self.cache))[0],
                size_bytes=model.size_bytes,
                complete=model.complete
                and absent.isdisjoint(file.path for file in model.files)
                and absent.isdisjoint(file.content_path for file in model.files),
            )
            for model in self.stock.models
        ]

    def _warn_incomplete(self, already_said: list[str]) -> None:
        if already_said:
            return
        for model in self.stock.models:
            if not model.complete:
                first = model.problems[0].message if model.problems else "see `zitcache models`"
                self.session.warn(
                    "model-incomplete", f"{model.id} is not complete in the cache: {first}", "zitcache models"
                )


def _relative(path: Path, root: Path) -> str:
    relative = Path(path).relative_to(root) if Path(path).is_absolute() else Path(path)
    return "" if relative == Path() else relative.as_posix()


def _streams() -> int:
    from zitcache.machine.cpu import worker_count

    return min(4, worker_count())


def _now() -> str:
    """UTC with microseconds, so that two snapshots within a second keep their order."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06d}Z"


__all__ = ["BackupReport", "BackupRequest", "backup"]
