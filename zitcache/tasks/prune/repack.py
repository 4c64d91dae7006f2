"""Copy blobs out of packs that are to go. Every copy is decoded and compared with its id on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zitcache.codec.blob import EncodedBlob
from zitcache.codec.frame import HEADER_SIZE, FrameHeader, FrameKind
from zitcache.errors import NoSpace, ZitcacheError
from zitcache.events import Session
from zitcache.repository.index import Index, Location
from zitcache.repository.needs import BlobKey
from zitcache.repository.notes import BadCopy
from zitcache.repository.pack import pack_name
from zitcache.repository.records import BlobRecord, PackRecord
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.tasks.check.findings import Problem
from zitcache.tasks.check.frames import explain, judge_claims, judge_frame


@dataclass(slots=True)
class Repacked:
    """``done``: packs of which everything wanted lies elsewhere now. ``bad``: copies that were wrong."""

    done: set[str] = field(default_factory=set)
    written: list[PackRecord] = field(default_factory=list)
    bytes_copied: int = 0
    bad: list[BadCopy] = field(default_factory=list)


def copy_out(
    repository: Repository,
    wanted: dict[str, list[tuple[BlobKey, Location]]],
    session: Session,
    on_pack: Callable[[], None] = lambda: None,
) -> Repacked:
    """Copy the wanted blobs of each pack into new packs and name those in the index.

    A pack with a copy that is wrong is not done: it stays as it is. On a full disk nothing is done, which is
    no error. Raises what else the storage raises, and ``Interrupted``.
    """
    result = Repacked()
    if not wanted:
        return result
    session.progress.stage("Repacking", sum(at.length for blobs in wanted.values() for _, at in blobs))
    try:
        with Saver(repository.storage, Index(), repository.config.pack_size, 1) as saver:
            for pack in sorted(wanted):
                session.progress.file(pack_name(pack[:8]))
                on_pack()
                if _copy_pack(repository, saver, pack, wanted[pack], result, session):
                    result.done.add(pack)
            result.written = saver.finish()
    except NoSpace as error:
        session.warn(
            "no-room-to-repack",
            f"There is no room to put packs together: {error.message} Packs that nothing needs go all the "
            "same, and the rest is done by a later prune.",
        )
        return Repacked(bad=result.bad)
    # In the index before the old ones are marked: readers find the new copies first.
    repository.write_index(result.written)
    return result


def _copy_pack(
    repository: Repository,
    saver: Saver,
    pack: str,
    blobs: list[tuple[BlobKey, Location]],
    result: Repacked,
    session: Session,
) -> bool:
    is_whole = True
    for (blob, kind), at in sorted(blobs, key=lambda pair: pair[1].offset):
        session.cancel.check()
        encoded = read_frame(repository, blob, at)
        if isinstance(encoded, Problem):
            result.bad.append((pack, blob, kind))
            is_whole = False
            continue
        if saver.claim(blob, FrameKind(kind)):
            saver.save(encoded)
            result.bytes_copied += at.length
        session.progress.advance(at.length)
    return is_whole


def read_frame(repository: Repository, blob: str, at: Location) -> EncodedBlob | Problem:
    """A frame as it lies in its pack, once its blob has been decoded and found right."""
    record = BlobRecord(blob, at.kind, at.offset, at.length, at.raw_size)
    problem = judge_claims(record, repository.index.packs.get(at.pack, 0))
    if problem is not None:
        return problem
    frame = bytearray(at.length)
    try:
        repository.storage.load_into(pack_name(at.pack), at.offset, memoryview(frame))
    except ZitcacheError as error:
        return Problem(explain(repository.storage, error))
    problem = judge_frame(record, memoryview(frame), memoryview(bytearray(at.raw_size)))
    if problem is not None:
        return problem
    return EncodedBlob(FrameHeader.unpack(frame), (memoryview(frame)[HEADER_SIZE:],))
