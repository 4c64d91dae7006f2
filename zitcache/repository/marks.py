"""The notes by which deleting is done in two steps, so that writers need no lock.

``forgotten/``: snapshots that may still come back · ``marks/``: packs that nothing needs, with the time since
when · ``sweeps/``: packs that are being deleted now · ``claims/``: packs that a snapshot which is about to be
committed needs. Why nothing that a snapshot needs can be deleted: docs/FORMAT.md, "Deleting".
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import time
from dataclasses import dataclass
from typing import Annotated, Generic, Literal

import msgspec

from zitcache.codec.blob import blob_id, decode
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.repository.records import HexId, RecordT, SnapshotRecord, decode_record
from zitcache.repository.repository import Repository

FORGOTTEN_FOLDER = "forgotten"
MARK_FOLDER = "marks"
SWEEP_FOLDER = "sweeps"
CLAIM_FOLDER = "claims"

ABANDONED_CLAIM_SECONDS = 7 * 86400
"""A claim that is older than this looks like that of a writer that died: from claim to commit takes a moment.

It is passed over only if an earlier prune, a day ago or more, noted it as such: a clock that is set forward
makes everything old at once.
"""

Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class ForgottenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was forgotten: its id, its object's bytes (base64), when (seconds since the epoch)."""

    version: Literal[1] = 1
    time: int
    host: str
    snapshot: HexId
    object: str
    nonce: Nonce

    def object_bytes(self) -> bytes:
        """The bytes of the snapshot's object. Raises :class:`IntegrityError` if they are not those."""
        try:
            data = base64.b64decode(self.object, validate=True)
        except (binascii.Error, ValueError):
            raise IntegrityError(f"The note of forgotten snapshot {self.snapshot[:8]} is damaged.") from None
        if blob_id(data).hex() != self.snapshot:
            raise IntegrityError(f"The note of forgotten snapshot {self.snapshot[:8]} holds another one.")
        return data

    def snapshot_record(self) -> SnapshotRecord:
        """The snapshot itself. Raises :class:`IntegrityError`."""
        header, content = decode(self.object_bytes())
        if header.kind is not FrameKind.SNAPSHOT:
            raise IntegrityError(f"What was forgotten as {self.snapshot[:8]} is no snapshot.")
        return decode_record(content, SnapshotRecord, f"forgotten snapshot {self.snapshot[:8]}")


class MarkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Packs that no snapshot needed at ``time`` (seconds since the epoch).

    ``claims``: names of claims that looked as if their writers had died.
    """

    version: Literal[1] = 1
    time: int
    host: str
    packs: list[HexId]
    claims: list[str] = []


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Packs that are being deleted: no writer may rely on them any more."""

    version: Literal[1] = 1
    time: int
    host: str
    nonce: Nonce
    packs: list[HexId]


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Packs that ``snapshot``, which is about to be written, needs: no sweep may delete them."""

    version: Literal[1] = 1
    time: int
    host: str
    nonce: Nonce
    snapshot: HexId
    packs: list[HexId]


@dataclass(frozen=True, slots=True)
class Note(Generic[RecordT]):
    """A note and the object it lies in. ``modified``: when the storage says that it was written."""

    name: str
    record: RecordT
    modified: float


def load_notes(repository: Repository, folder: str, kind: type[RecordT]) -> list[Note[RecordT]]:
    """All notes of a folder, in the order of their names; those that vanish meanwhile are not among them.

    Raises :class:`IntegrityError` for one that cannot be read: what it says must not be guessed.
    """
    found = []
    for name, modified in repository.objects(folder):
        try:
            record = repository.load_record(name, kind)
        except ObjectNotFound:
            continue
        except IntegrityError as error:
            raise IntegrityError(
                f"The note {name[: len(folder) + 9]} cannot be read, so it is not known what may be deleted: "
                f"{error.message}",
                hint="Set it aside: zitcache repair",
            ) from None
        found.append(Note(name, record, modified))
    return found


def forgotten_note(snapshot_id: str, data: bytes) -> ForgottenRecord:
    """The note for the snapshot whose object has the bytes ``data``."""
    return ForgottenRecord(
        time=now(),
        host=socket.gethostname(),
        snapshot=snapshot_id,
        object=base64.b64encode(data).decode("ascii"),
        nonce=nonce(),
    )


def now() -> int:
    """Seconds since the epoch, by this machine."""
    return int(time.time())


def nonce() -> str:
    """Random digits: two notes are never the same object, so deleting one never deletes another."""
    return os.urandom(16).hex()
