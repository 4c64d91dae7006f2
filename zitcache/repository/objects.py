"""Objects that are one frame (snapshots, index objects, records): read and check one, or a whole folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from zitcache.codec.blob import blob_id, decode
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.repository.records import RecordT, decode_record
from zitcache.storage.parallel import in_parallel
from zitcache.storage.protocol import ObjectInfo, Storage

MAX_METADATA_SIZE = 256 << 20
OBJECT_ID = re.compile("[0-9a-f]{64}")


def load_bytes(storage: Storage, name: str, size: int | None = None) -> bytes:
    """The bytes of an object that is named by their hash. ``size``: from a listing, if there was one.

    Raises ``ObjectNotFound``, and :class:`IntegrityError` if they are too many or not what the name says.
    """
    if size is None and not storage.is_remote:
        size = storage.info(name).size
    if size is not None and size > MAX_METADATA_SIZE:
        raise IntegrityError(f"{name} is {size} bytes; the format allows {MAX_METADATA_SIZE}.")
    # Of a remote one whose size is not known, no more than that: asking first would be another round trip.
    length = None if size is not None else MAX_METADATA_SIZE + 1
    for _ in range(2 if storage.is_remote else 1):  # a byte may be turned over on its way here
        data = storage.load(name, 0, length)
        if len(data) > MAX_METADATA_SIZE:
            raise IntegrityError(f"{name} has more than the {MAX_METADATA_SIZE} bytes the format allows.")
        if blob_id(data).hex() == name.rpartition("/")[2]:
            return data
    raise IntegrityError(f"{name} is damaged: its bytes do not match its name.")


def decode_object(data: bytes, name: str, kind: FrameKind, record: type[RecordT]) -> RecordT:
    """What an object's bytes say. Raises :class:`IntegrityError`."""
    header, content = decode(data)
    if header.kind is not kind:
        raise IntegrityError(f"{name} is not what its folder says.")
    return decode_record(content, record, name)


def load_object(
    storage: Storage, name: str, kind: FrameKind, record: type[RecordT], size: int | None = None
) -> RecordT:
    """Read one object and check it. Raises ``ObjectNotFound`` or :class:`IntegrityError`."""
    return decode_object(load_bytes(storage, name, size), name, kind, record)


def load_objects(
    storage: Storage, infos: Iterable[ObjectInfo], kind: FrameKind, record: type[RecordT]
) -> Iterator[tuple[str, RecordT | IntegrityError | ObjectNotFound]]:
    """Many objects, as many at once as pays: each with its name, or why it cannot be read. In no order."""

    def load(info: ObjectInfo) -> tuple[str, RecordT | IntegrityError | ObjectNotFound]:
        try:
            return info.name, load_object(storage, info.name, kind, record, info.size)
        except (IntegrityError, ObjectNotFound) as error:
            return info.name, error

    return in_parallel(load, infos, storage.concurrency, in_order=False)
