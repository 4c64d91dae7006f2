"""What became known of immutable objects later: labels on snapshots, what snapshots lost, bad copies.

A snapshot's object never changes. What is added to it lies beside it, in small objects of their own:
``labels/`` (pins and tags), ``losses/`` (files of which no sound copy is left), ``damaged/`` (copies of blobs
that were read and found wrong).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from zitcache.errors import ZitcacheError
from zitcache.repository.records import HexId, Path
from zitcache.repository.repository import Repository

LABEL_FOLDER = "labels"
LOSS_FOLDER = "losses"
DAMAGED_FOLDER = "damaged"

Kind = Annotated[int, msgspec.Meta(ge=0, le=255)]
BadCopy = tuple[str, str, int]
"""(pack id, blob id, frame kind): a copy of a blob that is wrong."""


class LabelRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pin or a tag on a snapshot. It is there as long as an object says so."""

    version: Literal[1] = 1
    time: int
    host: str
    snapshot: HexId
    pin: bool = False
    tag: str | None = None


class LostFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a snapshot that cannot be brought back whole, and the blobs (id, kind) that it lacks.

    ``path``: "*" stands for the files that an unreadable part of the tree names.
    """

    path: Path
    path_bytes: str | None = None
    blobs: list[tuple[HexId, Kind]]


class LossRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot lost, as far as was known at ``time`` (seconds since the epoch)."""

    version: Literal[1] = 1
    time: int
    host: str
    snapshot: HexId
    files: list[LostFile]


class DamagedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of blobs that are wrong: pack id -> (blob id, kind)."""

    version: Literal[1] = 1
    time: int
    packs: dict[str, list[tuple[HexId, Kind]]]


class Labels:
    """All labels of a repository, as sets by snapshot id."""

    def __init__(self, records: Iterable[LabelRecord]) -> None:
        self.pinned: set[str] = set()
        self.tags: dict[str, set[str]] = {}
        for record in records:
            if record.pin:
                self.pinned.add(record.snapshot)
            if record.tag is not None:
                self.tags.setdefault(record.snapshot, set()).add(record.tag)


def load_labels(repository: Repository) -> Labels:
    """Every label that can be read."""
    return Labels(repository.load_records(LABEL_FOLDER, LabelRecord))


def add_label(repository: Repository, snapshot: str, *, pin: bool = False, tag: str | None = None) -> None:
    """Pin or tag a snapshot. Raises what the storage raises."""
    record = LabelRecord(
        time=int(time.time()), host=socket.gethostname(), snapshot=snapshot, pin=pin, tag=tag
    )
    repository.store_record(LABEL_FOLDER, record)


def remove_labels(repository: Repository, snapshot: str, *, pin: bool = False, tag: str | None = None) -> int:
    """Take the pin or a tag off a snapshot; how many objects said so. Raises what the storage raises."""
    removed = 0
    for label_id, record in repository.load_records_by_id(LABEL_FOLDER, LabelRecord):
        if record.snapshot == snapshot and (record.pin if pin else record.tag == tag):
            repository.storage.delete(f"{LABEL_FOLDER}/{label_id}")
            removed += 1
    return removed


def load_losses(repository: Repository) -> dict[str, LossRecord]:
    """By snapshot id, what it lost: the latest note of each."""
    latest: dict[str, tuple[int, str, LossRecord]] = {}
    for loss_id, record in repository.load_records_by_id(LOSS_FOLDER, LossRecord):
        known = latest.get(record.snapshot)
        if known is None or (record.time, loss_id) > known[:2]:
            latest[record.snapshot] = (record.time, loss_id, record)
    return {snapshot: record for snapshot, (_, _, record) in latest.items()}


def known_bad_copies(repository: Repository) -> set[BadCopy]:
    """Copies that were read and found wrong. A convenience: an unreadable note is passed over."""
    return {
        (pack, blob, kind)
        for record in repository.load_records(DAMAGED_FOLDER, DamagedRecord)
        for pack, blobs in record.packs.items()
        for blob, kind in blobs
    }


def record_bad_copies(repository: Repository, copies: Iterable[BadCopy]) -> int:
    """Remember copies that are wrong; how many were not known yet. Raises what the storage raises."""
    new = sorted(set(copies) - known_bad_copies(repository))
    packs: dict[str, list[tuple[str, int]]] = {}
    for pack, blob, kind in new:
        packs.setdefault(pack, []).append((blob, kind))
    if packs:
        repository.store_record(DAMAGED_FOLDER, DamagedRecord(time=int(time.time()), packs=packs))
    return len(new)


def distrust_bad_copies(repository: Repository) -> int:
    """Let a writer store anew what is known to be damaged; how many copies are no longer counted on."""
    try:
        copies = known_bad_copies(repository)
    except ZitcacheError:
        return 0
    repository.distrust_copies(copies)
    return len(copies)


def lost_blobs(losses: Mapping[str, LossRecord]) -> set[tuple[str, int]]:
    """Every blob (id, kind) that is known to be lost."""
    return {blob for record in losses.values() for file in record.files for blob in file.blobs}
