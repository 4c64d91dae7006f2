"""A repository whose ``config`` is lost: what it said is told by the packs, as far as anybody needs it."""

from __future__ import annotations

import os
import time
from collections import Counter

import msgspec

from zitcache.codec.frame import HEADER_SIZE, FrameHeader, FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound, UnsupportedFormat
from zitcache.events import Session
from zitcache.repository.pack import FOLDER as PACK_FOLDER
from zitcache.repository.pack import read_contents
from zitcache.repository.records import MAX_PIECE_SIZE, CuttingRules, RepositoryConfig
from zitcache.repository.repository import CONFIG, MAX_CONFIG_SIZE, Repository
from zitcache.repository.reserve import ReserveStorage
from zitcache.storage.cached import CachedStorage
from zitcache.storage.opening import open_storage
from zitcache.storage.protocol import Storage
from zitcache.tasks.locations import chosen_location
from zitcache.tasks.repair.aside import Aside
from zitcache.tasks.repair.salvage import load_pack, sound_frames

_SMALLEST_PIECE = 4096


def open_for_repair(
    flag: str | None, aside: Aside, session: Session, *, dry_run: bool
) -> tuple[Repository, bool]:
    """The repository, with a new config if its own is lost or damaged; and whether that was so.

    Raises ``RepositoryNotFound`` where there is none at all, ``UnsupportedFormat`` where it needs a newer
    program.
    """
    storage = ReserveStorage(open_storage(chosen_location(flag, session)))
    try:
        opened = Repository.open(storage)
    except IntegrityError:
        config = _rebuilt_config(storage)
        if not dry_run:
            _replace(storage, config, aside)
        session.warn(
            "config-rebuilt",
            "The repository's config was lost or damaged. "
            + ("A new one would be written" if dry_run else "A new one has been written")
            + ": the repository gets a new id, and the rules for cutting are told from what is stored.",
        )
        return Repository(storage, config), True
    # What lies in the store counts here, not what this machine remembers of it.
    inner = opened.storage.inner if isinstance(opened.storage, CachedStorage) else opened.storage
    return Repository(inner, opened.config), False


def _rebuilt_config(storage: Storage) -> RepositoryConfig:
    """Rules that cut new files like the old ones, as far as the sizes of pieces tell.

    If the largest size occurs more than once, files were cut at it. Else all is smaller than a piece may be.
    """
    sizes: Counter[int] = Counter()
    for info in storage.list(PACK_FOLDER):
        pack_id = info.name.rpartition("/")[2]
        _refuse_newer(storage, info.name)
        sizes.update(_data_sizes(storage, pack_id, info.size))
    usual = CuttingRules()
    largest = min(max(sizes, default=0), MAX_PIECE_SIZE)
    piece_size = usual.piece_size
    if largest > piece_size or (sizes[largest] > 1 and largest >= _SMALLEST_PIECE):
        piece_size = largest
    return RepositoryConfig(
        id=os.urandom(16).hex(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        cutting=CuttingRules(piece_size=piece_size, merge_below=min(usual.merge_below, piece_size)),
    )


def _data_sizes(storage: Storage, pack_id: str, size: int) -> list[int]:
    """The sizes of the pieces of files in a pack; from its frames if its table of contents is broken."""
    try:
        contents = read_contents(storage, pack_id, size)
    except ObjectNotFound:
        return []
    except IntegrityError:
        frames = sound_frames(load_pack(storage, pack_id, size))
        return [header.raw_size for header, _ in frames if header.kind is FrameKind.DATA]
    return [blob.raw_size for blob in contents.blobs if blob.kind == FrameKind.DATA]


def _refuse_newer(storage: Storage, name: str) -> None:
    """Raise ``UnsupportedFormat`` if frames need a feature, which only the lost config would have named."""
    try:
        FrameHeader.unpack(storage.load(name, 0, HEADER_SIZE))
    except UnsupportedFormat:
        raise
    except (IntegrityError, ObjectNotFound):
        return


def _replace(storage: Storage, config: RepositoryConfig, aside: Aside) -> None:
    data = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
    try:
        damaged = storage.load(CONFIG, 0, MAX_CONFIG_SIZE)
    except ObjectNotFound:
        damaged = None
    if damaged is not None:
        aside.move(storage, CONFIG, damaged, "It is no config that can be read.")
    storage.create(CONFIG, data)
