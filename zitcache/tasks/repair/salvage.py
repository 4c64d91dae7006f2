"""Take sound blobs out of packs that cannot be used as they are: cut short, or without a sound end."""

from __future__ import annotations

from collections.abc import Iterator

from zitcache.codec.blob import EncodedBlob, blob_id, decode_into
from zitcache.codec.frame import HEADER_SIZE, MAGIC, FrameHeader, FrameKind
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.repository.pack import pack_name
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.storage.protocol import Storage

_MAX_PACK_BYTES = 1 << 30


def salvage(repository: Repository, saver: Saver | None, packs: dict[str, int], session: Session) -> int:
    """Save every sound blob of these packs (id -> size) that no usable pack holds; how many bytes of blobs.

    ``saver``: None only counts. Raises what the storage raises when it is written to.
    """
    saved = 0
    seen: set[tuple[bytes, FrameKind]] = set()
    session.progress.stage("Looking into broken packs", sum(packs.values()))
    for pack, size in sorted(packs.items()):
        session.cancel.check()
        session.progress.file(pack_name(pack[:8]))
        for header, payload in sound_frames(load_pack(repository.storage, pack, size)):
            key = (header.id, header.kind)
            if key in seen or repository.index.has(header.id.hex(), header.kind):
                continue
            seen.add(key)
            saved += header.raw_size
            if saver is not None and saver.claim(header.id.hex(), header.kind):
                saver.save(EncodedBlob(header, (payload,)))
        session.progress.advance(size)
    return saved


def load_pack(storage: Storage, pack: str, size: int) -> bytes:
    """What can be read of a pack; nothing of one that is too large to be one."""
    if size > _MAX_PACK_BYTES:
        return b""
    try:
        return storage.load(pack_name(pack))
    except ZitcacheError:
        return b""


def sound_frames(data: bytes) -> Iterator[tuple[FrameHeader, memoryview]]:
    """Every frame in ``data`` whose blob has the right id, from front to back; rubbish is skipped."""
    view, position = memoryview(data), 0
    while (position := data.find(MAGIC, position)) >= 0:
        found = _frame_at(view, position)
        if found is None:
            position += 1
            continue
        header, payload = found
        if header.kind in {FrameKind.DATA, FrameKind.PIECES, FrameKind.TREE}:
            yield header, payload
        position += header.frame_size


def _frame_at(view: memoryview, position: int) -> tuple[FrameHeader, memoryview] | None:
    try:
        header = FrameHeader.unpack(view[position : position + HEADER_SIZE])
        payload = view[position + HEADER_SIZE : position + header.frame_size]
        if len(payload) != header.payload_size:
            return None
        out = memoryview(bytearray(header.raw_size))
        decode_into(header, payload, out)
    except (ZitcacheError, MemoryError):
        return None
    return (header, payload) if blob_id(out) == header.id else None
