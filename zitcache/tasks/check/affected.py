"""From what is wrong to what is lost: the files that cannot be restored."""

from __future__ import annotations

from zitcache.codec.frame import FrameKind
from zitcache.events import Session
from zitcache.repository.records import SnapshotRecord, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot
from zitcache.tasks.check.findings import Blob, DamagedBlob, Finding, Findings, Problem
from zitcache.tasks.check.frames import copies, read_copy
from zitcache.tasks.check.trees import TreeReader


def report_damage(
    repository: Repository, snapshots: list[Snapshot], findings: Findings, session: Session
) -> list[DamagedBlob]:
    """Every finding, with the files that are lost by it."""
    found = findings.all()
    if not found:
        return []
    session.progress.stage("Looking for the files that are affected")
    lost = _lost_blobs(repository, found, findings)
    reader = TreeReader(repository, findings)
    files = _files_by_blob(reader, snapshots, lost, session) if lost else {}
    return [_describe(finding, lost, files) for finding in found]


def _lost_blobs(repository: Repository, found: list[Finding], findings: Findings) -> set[Blob]:
    """Blobs of which no sound copy is left; copies that this check has not read are read now."""
    lost: set[Blob] = set()
    for finding in found:
        for blob in finding.blobs:
            if blob not in lost and (finding.final or not _has_sound_copy(repository, blob, findings)):
                lost.add(blob)
    return lost


def _has_sound_copy(repository: Repository, blob: Blob, findings: Findings) -> bool:
    return any(
        not findings.concerns_copy(blob, location.pack)
        and not isinstance(read_copy(repository, blob, location), Problem)
        for location in copies(repository, blob)
    )


def _files_by_blob(
    reader: TreeReader, snapshots: list[Snapshot], lost: set[Blob], session: Session
) -> dict[Blob, list[str]]:
    """``snapshot:path`` of every file that needs a lost blob, by blob."""
    files: dict[Blob, list[str]] = {}
    known: dict[tuple[str, ...], list[tuple[Blob, str]]] = {}
    for snapshot in snapshots:
        session.cancel.check()
        key = tuple(snapshot.record.trees)
        if key not in known:
            known[key] = _affected_paths(reader, snapshot.record, lost)
        for blob, path in known[key]:
            files.setdefault(blob, []).append(f"{snapshot.short_id}:{path}")
    return files


def _affected_paths(reader: TreeReader, record: SnapshotRecord, lost: set[Blob]) -> list[tuple[Blob, str]]:
    """(lost blob, path that needs it) of one snapshot; "*" stands for what an unreadable tree names."""
    entries, unreadable = reader.entries(record)
    affected = [(Blob(tree_id, FrameKind.TREE), "*") for tree_id in unreadable]
    broken: dict[tuple[str | None, str | None], list[Blob]] = {}
    for entry in entries:
        if entry.kind != "file":
            continue
        blobs = sorted(_needed(reader, entry) & lost)
        if blobs:
            broken[entry.path, entry.path_bytes] = blobs
            affected += [(blob, entry.path) for blob in blobs]
    for entry in entries:
        if entry.kind == "hardlink":
            affected += [(blob, entry.path) for blob in broken.get((entry.target, entry.target_bytes), [])]
    return affected


def _needed(reader: TreeReader, entry: TreeEntry) -> set[Blob]:
    """What a file is made of; its own digest, too: a file that does not match it is lost by that name."""
    needed = {Blob(blob, FrameKind.DATA) for _, blob in reader.pieces(entry) or []}
    if entry.blake3 is not None:
        needed.add(Blob(entry.blake3, FrameKind.DATA))
    if entry.pieces is not None:
        needed.add(Blob(entry.pieces, FrameKind.PIECES))
    return needed


def _describe(finding: Finding, lost: set[Blob], files: dict[Blob, list[str]]) -> DamagedBlob:
    affected = list(finding.files)
    for blob in finding.blobs:
        if blob in lost:
            affected += files.get(blob, [])
    message = finding.problem.message
    if finding.blobs and not any(blob in lost for blob in finding.blobs):
        message += " Another copy is sound, so nothing is lost by it."
    elif finding.blobs and not affected:
        message += " No snapshot needs it."
    return DamagedBlob(
        id=finding.id,
        pack=finding.pack,
        problem=message,
        files=sorted(set(affected)),
        tampered=finding.problem.tampered,
    )
