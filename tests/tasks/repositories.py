"""Small caches and repositories with several packs, and ways to spoil them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from tests.cache.builders import safetensors
from zitcache.codec.blob import encode
from zitcache.codec.frame import FrameKind
from zitcache.events import Outcome, Session
from zitcache.repository.records import (
    CuttingRules,
    RepositoryConfig,
    SnapshotRecord,
    TreeEntry,
    TreeRecord,
)
from zitcache.repository.repository import CONFIG, Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupReport, BackupRequest, backup
from zitcache.tasks.check import CheckReport, CheckRequest, check

KIB = 1 << 10
MIB = 1 << 20
MODEL = "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master"


def noise(seed: object, size: int) -> bytes:
    """Bytes that no codec makes smaller; the same for the same seed."""
    return random.Random(str(seed)).randbytes(size)


def weights(*names: str, size: int = 512 * KIB) -> bytes:
    """A safetensors file with one tensor of noise for each name."""
    return safetensors({name: ("U8", [size], noise(name, size)) for name in names})


def write_cache(root: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """A ModelScope cache with one model; by default three shards of 1.5 MiB each, and small files."""
    if files is None:
        files = {f"model-{n}.safetensors": weights(f"a{n}", f"b{n}", f"c{n}") for n in (1, 2, 3)}
        files |= {"config.json": b'{"dim": 64}', "README.md": b"# A model\n", "empty": b""}
    for name, content in files.items():
        path = root / MODEL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def new_repository(place: Path) -> Repository:
    """A repository whose packs are of about one megabyte, and pieces of 256 KiB."""
    config = RepositoryConfig(
        id="0" * 32,
        created="2026-01-01T00:00:00Z",
        cutting=CuttingRules(piece_size=256 * KIB, merge_below=64 * KIB),
        pack_size=MIB,
    )
    storage = LocalStorage(place)
    assert storage.create(CONFIG, msgspec.json.encode(config))
    return Repository.open(storage)


def reopened(place: Path) -> Repository:
    return Repository.open(LocalStorage(place))


def back_up(repository: Path, cache: Path) -> BackupReport:
    outcome: Outcome[BackupReport] = backup(
        BackupRequest(repository=str(repository), cache=str(cache)), Session()
    )
    return outcome.data


def run_check(
    repository: Path, *, read_data: bool = False, subset: str | None = None, session: Session | None = None
) -> Outcome[CheckReport]:
    request = CheckRequest(repository=str(repository), read_data=read_data, subset=subset)
    return check(request, session or Session())


def packs_of(repository: Path) -> list[Path]:
    return sorted((repository / "packs").iterdir())


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def frames_of(repository: Path, kind: FrameKind) -> Iterator[tuple[str, Path, int, int]]:
    """Blob id, pack file, offset and length of every frame of a kind."""
    opened = reopened(repository)
    for blob in opened.index:
        for at in opened.index.locations(blob):
            if at.kind == kind:
                yield blob, repository / "packs" / at.pack, at.offset, at.length


def frame_of_file(repository: Path, path: str, piece: int = 0) -> tuple[str, Path, int, int]:
    """Blob id, pack file, offset and length of one piece of a file of the newest snapshot."""
    opened = reopened(repository)
    (entry,) = (entry for entry in newest_tree(opened) if entry.path.endswith(path))
    blob = opened.piece_list(entry)[piece][1]
    at = opened.index.locations(blob)[0]
    return blob, repository / "packs" / at.pack, at.offset, at.length


def newest_tree(repository: Repository) -> list[TreeEntry]:
    snapshots = [repository.load_snapshot(snapshot_id) for snapshot_id in repository.snapshot_ids()]
    return repository.tree(max(snapshots, key=lambda snapshot: snapshot.time))


def store_snapshot(repository: Path, entries: list[TreeEntry], **fields: object) -> str:
    """Write a snapshot of any entries, as only a forger would; returns its id."""
    opened = reopened(repository)
    with opened.saver(1) as saver:
        tree = opened.save_metadata(saver, TreeRecord(entries=entries), FrameKind.TREE)
        packs = saver.finish()
    opened.write_index(packs)
    record = SnapshotRecord(
        time="2026-06-01T00:00:00.000000Z",
        host="forger",
        cache="/cache",
        program="test",
        trees=[tree],
        files=len(entries),
        size_bytes=sum(entry.size for entry in entries),
    )
    return opened.write_snapshot(msgspec.structs.replace(record, **fields))


def store_blob(repository: Path, content: bytes) -> str:
    """Store one data blob in a pack of its own, whether it is known or not; returns its id."""
    opened = Repository.open(LocalStorage(repository))
    opened.index.forget_packs(list(opened.index.packs))
    blob = encode(content)
    with opened.saver(1) as saver:
        assert saver.claim(blob.header.id.hex())
        saver.save(blob)
        packs = saver.finish()
    opened.write_index(packs)
    return blob.header.id.hex()
