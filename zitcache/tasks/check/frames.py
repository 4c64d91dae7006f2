"""Reading frames and objects without trusting them, and telling damage from tampering.

Damage is what disks and cut-off copies do: check bytes, ids and compressed data stop fitting together.
Something well-formed that is still not what its name, the index or the format's rules say was made so.
"""

from __future__ import annotations

from blake3 import blake3

from zitcache.codec.blob import blob_id, decode, decode_into
from zitcache.codec.frame import HEADER_SIZE, FrameHeader, FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound, UnsupportedFormat, ZitcacheError
from zitcache.repository.index import Location
from zitcache.repository.objects import MAX_METADATA_SIZE
from zitcache.repository.pack import pack_name
from zitcache.repository.records import MAX_PIECE_SIZE, BlobRecord, RecordT, decode_record
from zitcache.repository.repository import CONFIG, Repository
from zitcache.storage.protocol import Storage
from zitcache.tasks.check.findings import Blob, Findings, Problem

MAX_FRAME_SIZE = MAX_METADATA_SIZE + HEADER_SIZE
_ID_DIGITS = frozenset("0123456789abcdef")


def is_object_id(name: str) -> bool:
    """Whether ``name`` can be that of a pack, index or snapshot object: 64 hex digits."""
    return len(name) == 64 and _ID_DIGITS.issuperset(name)


def explain(storage: Storage, error: ZitcacheError) -> str:
    """Why one object could not be read. Raises ``error`` if it is the whole storage that cannot be."""
    if not isinstance(error, IntegrityError | ObjectNotFound):
        try:
            storage.info(CONFIG)
        except ZitcacheError:
            raise error from None
    return error.message


def largest_blob(kind: int) -> int:
    """The most bytes that the format allows a blob of this frame kind to have when decoded.

    Blobs that were copied from a repository with other rules may be larger than this one cuts itself.
    """
    return MAX_PIECE_SIZE if kind == FrameKind.DATA else MAX_METADATA_SIZE


def judge_claims(record: BlobRecord, pack_size: int) -> Problem | None:
    """Whether what the index says of a frame is possible at all; nothing may be allocated before it is."""
    if record.length < HEADER_SIZE or record.offset + record.length > pack_size:
        return Problem("The index says that it lies where the pack has no such place.", tampered=True)
    if record.length > MAX_FRAME_SIZE or record.raw_size > largest_blob(record.kind):
        return Problem(
            f"The index claims {record.raw_size} bytes, more than the format allows.", tampered=True
        )
    return None


def judge_frame(record: BlobRecord, frame: memoryview, out: memoryview) -> Problem | None:
    """Decode ``frame`` into ``out`` (of ``record.raw_size`` bytes); None if it is the blob of ``record``."""
    try:
        header = FrameHeader.unpack(frame)
        as_indexed = (header.id.hex(), header.kind, header.frame_size, header.raw_size)
        if as_indexed != (record.id, record.kind, record.length, record.raw_size):
            # The header's own check bytes fit, so this is a whole frame of something else.
            return Problem("Another blob lies where the index says.", tampered=True)
        decode_into(header, frame[HEADER_SIZE:], out)
    except (IntegrityError, UnsupportedFormat) as error:
        return Problem(error.message)
    return None if blob_id(out) == header.id else Problem("Its content does not match its id.")


def copies(repository: Repository, blob: Blob) -> list[Location]:
    """Where the copies of a blob lie."""
    return [location for location in repository.index.locations(blob.id) if location.kind == blob.kind]


def read_metadata(repository: Repository, wanted: Blob, findings: Findings) -> bytes | None:
    """The content of a tree or piece list from its first sound copy; None if there is none.

    Every copy that is wrong on the way becomes a finding. Of a remote repository, what this machine has read
    before is not read again.
    """
    locations = copies(repository, wanted)
    if not locations:
        findings.add_missing(wanted)
    elif repository.storage.is_remote:
        known = repository.remembered(wanted.id, FrameKind(wanted.kind))
        if known is not None:
            return known
    for location in locations:
        content = read_copy(repository, wanted, location)
        if not isinstance(content, Problem):
            return content
        findings.add_blob(wanted, location.pack, content)
    return None


def read_copy(repository: Repository, wanted: Blob, location: Location) -> bytes | Problem:
    """One copy of a blob, or what is wrong with it."""
    storage = repository.storage
    record = BlobRecord(wanted.id, wanted.kind, location.offset, location.length, location.raw_size)
    problem = judge_claims(record, repository.index.packs[location.pack])
    if problem is not None:
        return problem
    frame = memoryview(bytearray(record.length))
    try:
        storage.load_into(pack_name(location.pack), record.offset, frame)
    except ZitcacheError as error:
        return Problem(explain(storage, error))
    content = bytearray(record.raw_size)
    problem = judge_frame(record, frame, memoryview(content))
    return bytes(content) if problem is None else problem


def read_object(storage: Storage, name: str, kind: FrameKind, record: type[RecordT]) -> RecordT | Problem:
    """An object that is one frame (a snapshot, an index object), or what is wrong with it."""
    try:
        data, matches_name = _load(storage, name)
    except ZitcacheError as error:
        return Problem(explain(storage, error))
    try:
        header, content = decode(data)
        if header.kind is not kind:
            raise IntegrityError("It is not what its folder says.")
        found = decode_record(content, record, "object")
    except UnsupportedFormat as error:
        return Problem(error.message)
    except IntegrityError as error:
        # Whoever gave it the right name meant it to be what it is.
        return Problem(error.message, tampered=matches_name)
    if not matches_name:
        return Problem("Its bytes do not match its name, although it is well-formed.", tampered=True)
    return found


def _load(storage: Storage, name: str) -> tuple[bytes, bool]:
    """An object's bytes, and whether their hash is its name. Raises what the storage raises."""
    if not storage.is_remote:
        size = storage.info(name).size
        if size > MAX_FRAME_SIZE:
            raise IntegrityError(f"It is {size} bytes; the format allows {MAX_FRAME_SIZE}.")
        data = storage.load(name)
        return data, blake3(data).hexdigest() == name.rpartition("/")[2]
    matches_name = False
    for _ in range(2):  # a byte may be turned over on its way here
        data = storage.load(name, 0, MAX_FRAME_SIZE + 1)
        if len(data) > MAX_FRAME_SIZE:
            raise IntegrityError(f"It has more than the {MAX_FRAME_SIZE} bytes that the format allows.")
        matches_name = blake3(data).hexdigest() == name.rpartition("/")[2]
        if matches_name:
            break
    return data, matches_name
