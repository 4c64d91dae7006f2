"""Packs: many frames in one object, with a table of contents at its end.

A pack is ``frame… contents-frame trailer``. The trailer (32 bytes) says where the contents frame begins, so
that the index can be rebuilt from packs alone. The object's name is the BLAKE3 of all its bytes.
"""

from __future__ import annotations

import contextlib
import struct
from types import TracebackType

import msgspec
from blake3 import blake3

from zitcache.codec.blob import EncodedBlob, decode, encode_metadata
from zitcache.codec.frame import HEADER_SIZE, FrameKind
from zitcache.errors import IntegrityError
from zitcache.repository.records import BlobRecord, PackContents, PackRecord, decode_record
from zitcache.storage.metadata_cache import MetadataCache
from zitcache.storage.protocol import Buffer, Storage

FOLDER = "packs"
TRAILER_SIZE = 32
_MAGIC = b"ZCPKEND1"
_TRAILER = struct.Struct("<QQ8s")
MAX_CONTENTS_SIZE = 64 << 20
_TAIL_SIZE = 32 << 10
_CONTENTS = "contents"
MAX_BLOBS = 1 << 17
"""A pack with this many blobs is full whatever its size, so that its table of contents stays small."""


def pack_name(pack_id: str) -> str:
    """The object name of a pack."""
    return f"{FOLDER}/{pack_id}"


class PackWriter:
    """One pack being written, by one thread at a time: :class:`~zitcache.repository.saver.Saver`.

    ``salt``: text that makes its bytes, and so its name, its own. A pack that was deleted must not come back
    under the same name: somebody may still be busy deleting that name.
    """

    def __init__(self, storage: Storage, salt: str | None = None) -> None:
        self._object = storage.writer()
        self._object.__enter__()
        self._hasher = blake3()
        self._salt = msgspec.UNSET if salt is None else salt
        self.blobs: list[BlobRecord] = []
        self.size = 0

    def _write(self, data: Buffer) -> None:
        self._object.write(data)
        self._hasher.update(data)
        self.size += len(data)

    def add(self, blob: EncodedBlob) -> None:
        """Append a blob's frame. Raises what the storage raises; the pack must then be aborted."""
        header = blob.header
        self.blobs.append(
            BlobRecord(header.id.hex(), int(header.kind), self.size, header.frame_size, header.raw_size)
        )
        self._write(header.pack())
        for part in blob.parts:
            self._write(part)

    def commit(self) -> PackRecord:
        """Write the table of contents and make the pack durable under its name."""
        contents = msgspec.json.encode(PackContents(blobs=self.blobs, salt=self._salt))
        frame = encode_metadata(contents, FrameKind.CONTENTS).to_bytes()
        fields = _TRAILER.pack(self.size, len(frame), _MAGIC)
        self._write(frame)
        self._write(fields + blake3(fields).digest(length=TRAILER_SIZE - _TRAILER.size))
        pack_id = self._hasher.hexdigest()
        self._object.commit(pack_name(pack_id))
        self._object.__exit__(None, None, None)
        return PackRecord(id=pack_id, size=self.size, blobs=self.blobs)

    def abort(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Remove every trace of the unfinished pack."""
        self._object.__exit__(kind, error, trace)


def read_contents(storage: Storage, pack_id: str, size: int) -> PackRecord:
    """The table of contents of a pack of ``size`` bytes, from its end.

    Raises :class:`IntegrityError` if the pack is cut short or its end is damaged.
    """
    what = f"table of contents of pack {pack_id[:8]}"
    if size < TRAILER_SIZE + HEADER_SIZE:
        raise IntegrityError(f"Pack {pack_id[:8]} is cut short: {size} bytes.")
    # Over a network one request that asks for more than is usually needed, instead of two.
    end = min(size, _TAIL_SIZE if storage.is_remote else TRAILER_SIZE)
    tail = storage.load(pack_name(pack_id), size - end, end)
    if len(tail) != end:
        raise IntegrityError(f"Pack {pack_id[:8]} is cut short.")
    trailer = tail[-TRAILER_SIZE:]
    fields, check = trailer[: _TRAILER.size], trailer[_TRAILER.size :]
    offset, length, magic = _TRAILER.unpack(fields)
    if magic != _MAGIC or blake3(fields).digest(length=len(check)) != check:
        raise IntegrityError(f"The end of pack {pack_id[:8]} is damaged.")
    if offset + length + TRAILER_SIZE != size or length > MAX_CONTENTS_SIZE:
        raise IntegrityError(f"The {what} does not lie where its trailer says.")
    if length + TRAILER_SIZE <= end:
        frame = tail[-length - TRAILER_SIZE : -TRAILER_SIZE]
    else:
        frame = storage.load(pack_name(pack_id), offset, length)
    header, data = decode(frame)
    if header.kind is not FrameKind.CONTENTS:
        raise IntegrityError(f"The {what} is a frame of another kind.")
    contents = decode_record(data, PackContents, what)
    position = 0
    for blob in contents.blobs:
        if blob.offset != position or blob.length < HEADER_SIZE:
            raise IntegrityError(f"The {what} has gaps or overlaps.")
        position += blob.length
    if position != offset:
        raise IntegrityError(f"The {what} does not cover the pack.")
    return PackRecord(id=pack_id, size=size, blobs=contents.blobs)


def read_contents_with(cache: MetadataCache, storage: Storage, pack_id: str, size: int) -> PackRecord:
    """As :func:`read_contents`; of a remote pack only what ``cache`` does not hold."""
    if not storage.is_remote:
        return read_contents(storage, pack_id, size)
    kept = cache.get_sealed(_CONTENTS, pack_id)
    if kept is not None:
        with contextlib.suppress(IntegrityError):
            found = decode_record(kept, PackRecord, f"kept table of contents of pack {pack_id[:8]}")
            if (found.id, found.size) == (pack_id, size):
                return found
    try:
        found = read_contents(storage, pack_id, size)
    except IntegrityError:
        found = read_contents(storage, pack_id, size)  # a byte may have been turned over on its way here
    cache.put_sealed(_CONTENTS, pack_id, msgspec.json.encode(found))
    return found
